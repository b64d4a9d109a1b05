"""promises: what the pages promise, and for each promise the tests that fail when it is broken.

A page marks a promise by a comment behind its sentence, `<!-- promise: one-writer -->`. A test names what it proves by
`@pytest.mark.promise("one-writer")`. Both are read as text: no test is imported.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

NAME = r"[a-z0-9]+(?:-[a-z0-9]+)*"
ANCHOR = re.compile(rf"<!-- promise: ({NAME}) -->")
ALIKE = re.compile(r"<!--\s*promises?\b.*?(?:-->|$)", re.IGNORECASE | re.MULTILINE)
"""What somebody may have meant as an anchor."""
BLOCK = re.compile(r"\s*(?:(?:[-*]|\d+\.) |\||$)|#|```")
"""A line that begins something else: an item, a row, a heading, a gap, a block of code."""
ITEM = re.compile(r"\s*(?:[-*]|\d+\.) ")
END = re.compile(r"[.?!](?:\*\*|\))? +(?=[^\sa-z])")
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
PAGE = "docs/promises.md"


@dataclass(frozen=True, kw_only=True)
class Promise:
    """A sentence of a page that somebody may rely on."""

    name: str
    page: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class ProvingTest:
    """A test, with the promises that it proves."""

    test: str
    names: tuple[str, ...]
    long: bool


def of(root: Path, made: Mapping[Path, str]) -> tuple[list[Promise], list[ProvingTest]]:
    """The promises of all pages and the tests that prove them, in the order of their files. `made`: pages as they will be."""
    pages = [root / "README.md", *sorted((root / "docs").glob("**/*.md"))]
    tests = sorted((root / "tests").glob("**/*.py"))
    found = [path.relative_to(root) for path in (*pages, *tests) if path.exists()]
    texts = {path: made.get(path) or (root / path).read_text() for path in found}
    return (
        [
            each
            for path, text in texts.items()
            if path.suffix == ".md"
            for each in promised(path.as_posix(), text)
        ],
        [
            each
            for path, text in texts.items()
            if path.suffix == ".py"
            for each in proofs(path.as_posix(), text)
        ],
    )


def promised(page: str, text: str) -> list[Promise]:
    """The promises of a page. What only looks like an anchor is one without a name."""
    if page == PAGE:
        return []
    found = []
    for block in _blocks(text):
        end = 0
        for anchor in ALIKE.finditer(block):
            named = ANCHOR.fullmatch(anchor[0])
            found.append(
                Promise(
                    name=named[1] if named else "",
                    page=page,
                    sentence=_sentence(block[end : anchor.start()]) if named else anchor[0],
                )
            )
            end = anchor.end()
    return found


def _blocks(text: str) -> Iterator[str]:
    """Paragraphs, items and rows, each in one line; an item or a row with what it completes."""
    lines: list[str] = []
    lead, head = "", ""
    for line in [*text.splitlines(), ""]:
        if BLOCK.match(line) and lines:
            block = " ".join(lines)
            yield block if not ITEM.match(lines[0]) else f"{lead}{ITEM.sub('', block, count=1)}"
            if not ITEM.match(lines[0]):
                said = ALIKE.sub("", block).strip()
                lead = "" if said.endswith(".") else f"{_last(said)} "
            lines = []
        if row := line.strip() if line.lstrip().startswith("|") else "":
            head = head or row
            yield from _cells(head, row)
        elif line.strip() and not line.startswith(("#", "```")):
            lines.append(line.strip())
        head = head if row else ""
        if line.startswith("#"):
            lead = ""


def _cells(head: str, row: str) -> Iterator[str]:
    """The cells of a row, each behind its row's first cell and its column's title."""
    titles, cells = ([each.strip() for each in re.split(r"(?<!\\)\|", line)[1:]] for line in (head, row))
    for title, cell in itertools.zip_longest(titles, cells, fillvalue=""):
        first = ALIKE.sub("", cells[0]).strip()
        before = ", ".join(filter(None, (first, title))) if cell != cells[0] else ""
        yield f"{before}: {cell}" if before else cell


def _sentence(before: str) -> str:
    """The sentence that ends where an anchor stands, or that the anchor's dot has just ended."""
    return _last(LINK.sub(r"\1", before)).strip(" .,;") + "." * before.rstrip().endswith(".")


def _last(said: str) -> str:
    """The last sentence of a text. A full stop between backticks ends none."""
    said = said.strip(" ,;")
    ends = [each.end() for each in END.finditer(said) if said.count("`", 0, each.start()) % 2 == 0]
    return said[ends[-1] :] if ends else said


def proofs(path: str, text: str) -> list[ProvingTest]:
    """The tests of a file that name promises. A marker that stands at no test is a proof without a test."""
    if "mark.promise" not in text:
        return []
    tree = ast.parse(text)
    found = list(_tests(path, tree.body, [*_of_module(tree)]))
    placed = sum(len(each.names) for each in found)
    written = sum(len(_names(node)) for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [*found, *([ProvingTest(test="", names=(path,), long=False)] if written > placed else [])]


def _tests(path: str, body: list[ast.stmt], around: list[ast.expr]) -> Iterator[ProvingTest]:
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from _tests(f"{path}::{node.name}", node.body, [*around, *node.decorator_list])
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            marks = {ast.unparse(each).partition("(")[0] for each in (*around, *node.decorator_list)}
            names = tuple(
                name for mark in node.decorator_list for call in ast.walk(mark) for name in _names(call)
            )
            if names and not marks & {"pytest.mark.skip", "pytest.mark.xfail"}:
                yield ProvingTest(test=f"{path}::{node.name}", names=names, long="pytest.mark.long" in marks)


def _of_module(tree: ast.Module) -> Iterator[ast.expr]:
    """The marks of all tests of a file."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            yield from node.value.elts if isinstance(node.value, ast.List) else [node.value]


def _names(call: ast.AST) -> list[str]:
    """The promises that a marker names; anything else names none."""
    if (
        not isinstance(call, ast.Call)
        or not isinstance(call.func, ast.Attribute)
        or call.func.attr != "promise"
    ):
        return []
    return [
        each.value if isinstance(each, ast.Constant) and isinstance(each.value, str) else ast.unparse(each)
        for each in call.args
    ]


def problems(
    promises: Iterable[Promise], proofs: Iterable[ProvingTest], only_long: Iterable[str] = ()
) -> list[str]:
    """What is wrong between pages and tests, a sentence each. `only_long` may be proved by long tests alone."""
    promises, proofs, only_long = list(promises), list(proofs), set(only_long)
    places: dict[str, list[str]] = {}
    for promise in promises:
        places.setdefault(promise.name, []).append(promise.page)
    proved = {name for proof in proofs if proof.test for name in proof.names}
    soon = {name for proof in proofs if proof.test and not proof.long for name in proof.names}
    named = [each for each in places if each]
    return [
        *(f"{each.page}: this is no anchor: {each.sentence}" for each in promises if not each.name),
        *(
            f"{each.page}: {each.name} stands behind no sentence"
            for each in promises
            if each.name and not each.sentence
        ),
        *(
            f"{name}: given twice, in {' and in '.join(places[name])}"
            for name in named
            if len(places[name]) > 1
        ),
        *(f"{places[name][0]}: no test proves {name}" for name in named if name not in proved),
        *(
            f"{places[name][0]}: only long tests prove {name}"
            for name in named
            if name in proved - soon and name not in only_long
        ),
        *(
            f"{name}: it is excused, but there is no need"
            for name in sorted(only_long)
            if name not in proved - soon
        ),
        *(f"{each.names[0]}: a marker stands at no test" for each in proofs if not each.test),
        *(
            f"{each.test}: no page promises {name}"
            for each in proofs
            if each.test
            for name in each.names
            if name not in places
        ),
    ]


def page(promises: Iterable[Promise], proofs: Iterable[ProvingTest]) -> Iterator[str]:
    """The lines of the page: each promise with its tests, by page."""
    promises, tests = list(promises), dict[str, list[str]]()
    for proof in proofs:
        for name in proof.names:
            tests.setdefault(name, []).append(f"`{proof.test}`")
    for path in dict.fromkeys(each.page for each in promises):
        yield from (
            f"\n## {path}\n",
            "| promise | what is promised | the tests that fail when it is broken |",
            "| --- | --- | --- |",
        )
        for promise in (each for each in promises if each.page == path):
            yield f"| {promise.name} | {promise.sentence.replace('|', chr(92) + '|')} | {', '.join(tests.get(promise.name, []))} |"
