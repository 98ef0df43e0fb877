"""Run the benchmarks; a table on stdout, and a JSON file in `results/`."""

import argparse
import json
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks import bus, changes, measure_cache
from tests.benchmarks.measure import MEASURES, Bench, Figure

_RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run what was chosen and return the exit status: 0, whatever the figures are."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("-k", metavar="NAME", default="", help="only the measures whose name contains this")
    parser.add_argument("--directory", type=Path, help="where to put 4 GB of data [default: a temporary directory]")
    options = parser.parse_args()
    figures: list[Figure] = []
    with ExitStack() as stack:
        made = stack.enter_context(tempfile.TemporaryDirectory(prefix="caterva2-bench-", dir=options.directory))
        for measure in (*MEASURES, *measure_cache.MEASURES, *changes.MEASURES, *bus.MEASURES):
            if options.k in measure.__name__:
                print(f"... {measure.__name__}: {measure.__doc__}", file=sys.stderr)
                figures += measure(Bench(Path(made) / measure.__name__))
                print(_row(figures[-1]), file=sys.stderr)
    print("\n".join([_row(None), *map(_row, figures)]))
    _RESULTS.mkdir(exist_ok=True)
    file = _RESULTS / f"{time.strftime('%Y%m%dT%H%M%S')}.json"
    result = {"python": platform.python_version(), "figures": [asdict(f) | {"met": f.met} for f in figures]}
    file.write_text(json.dumps(result, indent=1))
    print(f"\nwritten to {file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}")
    return 0


def _row(figure: Figure | None) -> str:
    if figure is None:
        return f"{'what':58} {'measured':>12} {'target':>10}  met"
    target = f"{'>=' if figure.more_is_better else '<='} {figure.target:g}"
    return f"{figure.what:58} {figure.value:12.3f} {target:>10}  {'yes' if figure.met else 'NO'}   {figure.note}"


if __name__ == "__main__":
    sys.exit(main())
