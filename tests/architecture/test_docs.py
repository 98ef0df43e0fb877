"""The documentation misses nothing and names nothing that is not there."""

import argparse
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from caterva2.cli.main import make_parser
from caterva2.daemon.arguments import BROKER, PUBLISHER, SUBSCRIBER, parser
from caterva2.settings.models import SECTIONS

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
PARSERS = {
    "cat2bro": parser(BROKER),
    "cat2pub": parser(PUBLISHER),
    "cat2sub": parser(SUBSCRIBER),
    "cat2cli": make_parser(),
}
SETTINGS = [(section, key) for section, model in SECTIONS.items() for key in model.model_fields if key != "bus"]


def name_of(file: Path) -> str:
    """The page as a test id."""
    return str(file.relative_to(REPOSITORY))


def rows(section: str) -> dict[str, list[str]]:
    """The table of a section of the configuration reference, by key."""
    text = (REPOSITORY / "docs/reference/configuration.md").read_text()
    part = text.partition(f"\n## [{section}]")[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"]
    return {row[0].strip("`"): row for row in cells[2:]}


@pytest.mark.parametrize(("section", "key"), SETTINGS)
def test_setting(section: str, key: str) -> None:
    """Every setting is in the reference with its variable, and with its default where that is a plain value."""
    _, default, variable, meaning = rows(section)[key]
    expected = SECTIONS[section].model_fields[key].default

    assert f"`CATERVA2_{section}_{key}`".upper().replace("CATERVA2_SUBSCRIBER_SECRET", "CATERVA2_SECRET") == variable
    assert len(meaning) > 8 or meaning == "as above"
    if expected not in ("", None, PydanticUndefined, {}):
        shown = f"{expected:g}" if isinstance(expected, float) else str(expected)
        shown = shown.lower() if isinstance(expected, bool) else shown
        assert shown.removeprefix("http://") in default


@pytest.mark.parametrize("section", SECTIONS)
def test_no_other_setting(section: str) -> None:
    """The reference names no setting that is not there."""
    assert rows(section).keys() <= SECTIONS[section].model_fields.keys()


@pytest.mark.parametrize("command", PARSERS)
def test_options(command: str) -> None:
    """Every option of every command is in the reference."""
    text = (REPOSITORY / "docs/reference/command-line.md").read_text()
    options = {
        option
        for found in _parsers(PARSERS[command])
        for action in found._actions
        for option in action.option_strings
        if option.startswith("--")
    }

    assert [] == sorted(option for option in options if option not in text)


def test_commands() -> None:
    """Every command of cat2cli is in the reference."""
    text = (REPOSITORY / "docs/reference/command-line.md").read_text()
    (subparsers,) = [a for a in PARSERS["cat2cli"]._actions if isinstance(a, argparse._SubParsersAction)]

    assert [] == [name for name in subparsers.choices if f"cat2cli {name}" not in text and f"`{name}`" not in text]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_command_lines(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command line of ours in a page is one that the command takes."""
    for line in _commands(page.read_text()):
        name, *arguments = shlex.split(line, comments=True)
        with suppress(SystemExit):
            PARSERS[name].parse_args(arguments)

        assert "" == capsys.readouterr().err, line


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links(page: Path) -> None:
    """Every link within the documentation leads to a file, and to a heading of it."""
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        file, _, heading = target.partition("#")
        found = (page.parent / file).resolve() if file else page

        assert found.exists(), target
        if heading:
            assert heading in {_slug(line) for line in found.read_text().splitlines() if line.startswith("#")}, target


def test_every_page_is_reached() -> None:
    """Every page is linked from another one."""
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text())
    }

    assert [] == [name_of(page) for page in PAGES[2:] if page not in linked and page.parent.name != "changes"]


def _parsers(found: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield found
    for action in found._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _parsers(child)


def _commands(text: str) -> Iterator[str]:
    for language, block in re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        if language in {"", "sh"}:
            for line in block.splitlines():
                command = line.strip().removeprefix("$ ")
                # A usage line has brackets or dots in place of arguments.
                if command.partition(" ")[0] in PARSERS and " [--" not in command and " ──" not in command:
                    yield command


def _slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.lstrip("# ").lower()).replace(" ", "-")


@pytest.mark.parametrize(
    "package", ["bus", "caterva2", *(f"caterva2/{name}" for name in ("broker", "publisher", "subscriber"))]
)
def test_tree(package: str) -> None:
    """The tree in the architecture page shows every module, and every part of a daemon."""
    text = (REPOSITORY / "docs/explanation/architecture.md").read_text()
    shown = set(re.findall(r"\w+", text.partition("## Tree")[2].partition("## Who")[0]))
    modules = {file.stem for file in (REPOSITORY / package).iterdir() if file.suffix in {"", ".py"}}

    assert set() == {name for name in modules if name[0] != "_"} - shown - {"main", "app", "routes"}


def test_tests_of_the_threat_model() -> None:
    """Each test that the page on security names is there."""
    text = (REPOSITORY / "docs/explanation/security.md").read_text()
    file, named, gone = "", 0, []
    for found, name in re.findall(r"`([\w/]+\.py)?::(\w+)`", text):
        file = found or file
        source = (REPOSITORY / "tests" / file).read_text()
        gone += [] if re.search(rf"^(async )?def {name}\(", source, re.MULTILINE) else [f"{file}::{name}"]
        named += 1

    assert [] == gone
    assert named > 50
