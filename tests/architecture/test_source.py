"""Rules for the source that no tool checks."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCES = sorted(file for package in ("bus", "caterva2") for file in (REPOSITORY / package).rglob("*.py"))
TESTS = sorted((REPOSITORY / "tests").rglob("test_*.py"))
# A constant or a type.
FIXED = re.compile(r"_?[A-Z]\w*|__\w+__")
# Its logger; `print` that flushes, in the demo; upstream's name for the default address.
ALLOWED = {"logger", "_say", "sub_urlbase_default"}


def name_of(file: Path) -> str:
    """The file as a test id."""
    return str(file.relative_to(REPOSITORY))


def parsed(file: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(file.read_text(encoding="utf-8"), file.name)


def assigned(tree: ast.Module) -> Iterator[str]:
    """The names that a module assigns."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def is_declaration(node: ast.stmt) -> bool:
    """Whether a statement at module level only declares something."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test) in {"TYPE_CHECKING", "__name__ == '__main__'"}
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    kinds = ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
    return isinstance(node, kinds)


@pytest.mark.parametrize("file", [file for file in SOURCES if file.name != "__main__.py"], ids=name_of)
def test_module_level(file: Path) -> None:
    """A module assigns constants, types and its logger, and does nothing when it is imported."""
    tree = parsed(file)

    variables = [name for name in assigned(tree) if name not in ALLOWED and not FIXED.fullmatch(name)]
    done = [ast.unparse(node)[:80] for node in tree.body if not is_declaration(node)]

    assert [] == variables
    assert [] == done


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_no_global(file: Path) -> None:
    """No function changes its module: there is no `global`."""
    assert [] == [node.lineno for node in ast.walk(parsed(file)) if isinstance(node, ast.Global)]


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_no_evaluation(file: Path) -> None:
    """Nothing is evaluated or unpickled."""
    tree = parsed(file)
    called = [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]

    assert set() == {"eval", "exec", "compile"} & set(called)
    assert set() == {"pickle", "marshal", "shelve"} & set(imported)


@pytest.mark.parametrize("file", TESTS, ids=name_of)
def test_docstrings(file: Path) -> None:
    """Every test says in its docstring's first line which behaviour it shows."""
    tests = [
        node
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]

    assert [] == [node.name for node in tests if not (ast.get_docstring(node) or "").split("\n")[0].endswith(".")]
