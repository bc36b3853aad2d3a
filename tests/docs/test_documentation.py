"""What the pages promise: their Python runs, their commands parse, their links lead somewhere.

The Python blocks of one page share a namespace and run in order, in a folder of their own that holds a file
``structures.extxyz``: labelled structures of H, C, O and Si, as a reader would have. Pages under ``docs`` use the toy
model only, the README uses SevenNet: all run in the session of SevenNet.
"""

import doctest
import importlib.util
import re
import shlex
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import ase.io
import pytest
from cyclopts import CycloptsError
from pretended_machine import pretend

import equiprune as ep
from equiprune.cli import app
from equiprune.commands import TargetOptions
from equiprune.structures.probes import probe_structures

ROOT = Path(__file__).parents[2]
GUIDES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
PAGES = [*GUIDES, "CONTRIBUTING.md", "CHANGELOG.md"]
NEEDS_SEVENNET = {"README.md"}
TEACHING = ["README.md", "docs/adding-an-architecture.md", "docs/python-api.md", "docs/theory.md"]
"""Pages that would be worth little without code that runs."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_SHELL = {"|", ">", ">>", "2>", "&&", ";", "<"}


@dataclass(frozen=True)
class Block:
    """A fenced block: language, text, and the number of lines of the page above the text."""

    language: str
    text: str
    line: int


def blocks(text: str, *languages: str) -> list[Block]:
    """The fenced blocks of a page, of these languages."""
    found = [Block(m[1], m[2], text.count("\n", 0, m.start(2))) for m in _FENCE.finditer(text)]
    return [block for block in found if block.language in languages]


def run(page: str, text: str) -> dict[str, Any]:
    """Run the Python blocks of a page one after another; failures carry the page's own line numbers."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(text, "python"):
        if block.text.startswith(">>>"):
            _run_session(page, block, namespace)
        else:
            exec(compile("\n" * block.line + block.text, page, "exec"), namespace)
    return namespace


def _run_session(page: str, block: Block, namespace: dict[str, Any]) -> None:
    """A block that shows its output, compared word by word."""
    session = doctest.DocTestParser().get_doctest(block.text, namespace, page, page, block.line)
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(
        session, out=said.append, clear_globs=False
    )
    assert result.attempted > 0
    assert result.failed == 0, "".join(said)
    namespace |= session.globs


def command_lines(text: str) -> Iterator[list[str]]:
    """The words after ``equiprune`` of every such line in a page's shell blocks."""
    for block in blocks(text, "console", "bash", "sh", "shell"):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = list(takewhile(lambda word: word not in _SHELL, shlex.split(line, comments=True)))
            if "equiprune" in words[:-1]:
                yield words[words.index("equiprune") + 1 :]


def check_command(words: list[str]) -> None:
    """Raise unless the command line exists as written and its flags do not contradict each other."""
    _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    arguments = bound.arguments
    if isinstance(target := arguments.get("target"), TargetOptions) and "growth" not in arguments:
        target.check_given()


def flags_in_prose(text: str) -> set[str]:
    """Long flags of equiprune named in a page's inline code; those of other programs follow the program's name."""
    spans = _CODE.findall(_FENCE.sub("", text))
    return {flag for span in spans if span.startswith(("--", "equiprune ")) for flag in _FLAG.findall(span)}


def known_flags() -> set[str]:
    """Every flag of every command."""
    commands = [app[name] for name in app if not name.startswith("-")]
    flags = {name for command in commands for item in command.assemble_argument_collection() for name in item.names}
    return flags | {name for name in app if name.startswith("-")}


def broken_links(page: Path, text: str) -> list[str]:
    """Relative links of a page to files that are not there, or to headings that such a page does not have."""
    broken = []
    for link in _LINK.findall(_FENCE.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (heading and heading not in _headings(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


def _headings(text: str) -> set[str]:
    """The anchors that the headings of a page get."""
    titles = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a page's code runs."""
    structures = list(probe_structures([1, 6, 8, 14]).values())
    for atoms in structures:
        atoms.calc = ep.load("toy").calculator()
        atoms.get_stress()
    ase.io.write(tmp_path / "structures.extxyz", structures)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("page", GUIDES)
def test_python_blocks_run(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that a search can time: one that is busy with other tests would be measured again and again."""
    pretend(monkeypatch)
    if page not in NEEDS_SEVENNET:
        run(page, read(page))
        return
    if importlib.util.find_spec("sevenn") is None:
        pytest.skip(f"the code in {page} uses SevenNet, and sevenn is not installed here")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the backend are not ours to mend
        run(page, read(page))


@pytest.mark.parametrize("page", TEACHING)
def test_pages_that_teach_have_code(page: str) -> None:
    assert blocks(read(page), "python")


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_somewhere(page: str) -> None:
    assert broken_links(ROOT / page, read(page)) == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_parse(page: str) -> None:
    for words in command_lines(read(page)):
        check_command(words)


@pytest.mark.parametrize("page", PAGES)
def test_flags_named_in_prose_exist(page: str) -> None:
    assert flags_in_prose(read(page)) - known_flags() == set()


def test_every_command_and_flag_is_documented() -> None:
    page = read("docs/command-line.md")
    shown = {words[0] for words in command_lines(page)}
    assert shown >= {name for name in app if not name.startswith("-")}
    named = flags_in_prose(page) | {flag for block in blocks(page, "console") for flag in _FLAG.findall(block.text)}
    assert {flag for flag in known_flags() if flag.startswith("--")} - named == set()


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    listed = re.findall(r"([\w/-]+\.md)$", read("mkdocs.yml"), re.MULTILINE)
    assert {page.removeprefix("docs/") for page in GUIDES if page.startswith("docs/")} - set(listed) == set()


# The checks themselves: each finds what it is there to find.


def test_blocks_of_a_page_share_a_namespace() -> None:
    assert run("page", "```python\na = 2\n```\ntext\n```python\n>>> a + 1\n3\n>>> b = 5\n```\n")["b"] == 5


@pytest.mark.parametrize("code", ["assert 1 == 2", ">>> 1 + 1\n3", ">>> 1 / 0", "nonsense ("])
def test_a_block_that_fails_is_found(code: str) -> None:
    with pytest.raises((AssertionError, SyntaxError)):
        run("page", f"```python\n{code}\n```\n")


def test_a_failure_carries_the_line_of_the_page() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run("page", "title\n\n```python\n1\n1 / 0\n```\n")
    assert caught.traceback[-1].lineno == 4  # counted from 0


@pytest.mark.parametrize(
    "line",
    [
        "equiprune prune toy -o small --sparsity 0.5",
        "$ equiprune shrink toy",
        "OMP_NUM_THREADS=1 equiprune info toy --colour",
        "equiprune prune toy \\\n    -o small --lmax one",
        "equiprune calibrate toy data.xyz",
        "equiprune prune toy -o small --irreps 4x0q",
        "equiprune prune toy -o small --lmax 0 --scores s.json --data d.xyz",
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    [words] = command_lines(f"```console\n{line}\n```\n")
    with pytest.raises((CycloptsError, ep.EquipruneError)):
        check_command(words)


def test_what_follows_a_command_is_not_part_of_it() -> None:
    text = "```console\nequiprune info toy --json | jq .parameters  # a comment\npip install equiprune\n```\n"
    assert list(command_lines(text)) == [["info", "toy", "--json"]]


def test_a_flag_that_does_not_exist_is_found_in_prose() -> None:
    assert flags_in_prose("`--lmax 2`, `equiprune prune --sparsity`, `pip --user`") == {"--lmax", "--sparsity"}
    assert {"--lmax", "--output", "--json", "--help"} <= known_flags()
    assert "--sparsity" not in known_flags()


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A heading, with `code`\n")
    links = ["other.md", "other.md#a-heading-with-code", "https://example.org/x", "missing.md", "other.md#missing"]
    text = "".join(f"[text]({link})\n" for link in links)
    assert broken_links(tmp_path / "page.md", text) == ["missing.md", "other.md#missing"]
