"""Every path, link and definition that a page names is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_house import TRACKED

PAGES = ["README.md", *(path for path in TRACKED if path.startswith("docs/") and path.endswith(".md"))]
TOP = {path.partition("/")[0] for path in TRACKED}
BASES = (ROOT, ROOT / "app")
"""A page names paths from the top of the repository; pages about the application may name them from its own folder."""
PATH = re.compile(r"(?<![\w./-])\.?\w[\w.-]*(?:/[\w.*-]+)*/?(?::[A-Za-z_][\w.]*)?(?![\w/])")
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b")
PAIR = re.compile(r"`([A-Za-z_][\w.]*)(?:\(\))?` in `([\w./-]+\.py)`")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def spans(text: str) -> Iterator[str]:
    """What stands in backticks: words in a line, and whole blocks but those that show a console."""
    blocks = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    yield from (block for language, block in blocks.findall(text) if language != "console")
    yield from re.findall(r"`([^`\n]+)`", blocks.sub("", text))
    yield from re.findall(r"^ {4}.*$", text, re.MULTILINE)


def named(text: str) -> Iterator[tuple[str, str]]:
    """Each path of the repository that a page names, with the definition that it names there."""
    for span in spans(text):
        for found in PATH.findall(span):
            path, _, definition = found.partition(":")
            if path.partition("/")[0] in TOP:
                yield path.rstrip("/"), definition
    yield from ((path, definition) for definition, path in PAIR.findall(text))


def exists(path: str) -> bool:
    """Whether a path is there; a word in capitals stands for any name."""
    pattern = PLACEHOLDER.sub("*", path) if not path.endswith(".md") else path
    return any(next(base.glob(pattern), None) for base in BASES)


def defined(path: str) -> set[str]:
    """The functions, classes, methods and constants of a module."""

    def names(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                yield prefix + node.name
                if isinstance(node, ast.ClassDef):
                    yield from names(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from (prefix + each.id for each in targets if isinstance(each, ast.Name))

    return set(names(ast.parse((ROOT / path).read_text()).body))


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.promise("paths-of-the-tour-exist")
def test_every_path_that_a_page_names_exists(page):
    paths = {path for path, _ in named((ROOT / page).read_text())}
    assert sorted(path for path in paths if not exists(path)) == []


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.promise("paths-of-the-tour-exist")
def test_every_definition_that_a_page_names_is_in_its_file(page):
    pairs = {
        (path, name)
        for path, name in named((ROOT / page).read_text())
        if name and path.endswith(".py") and exists(path)
    }
    assert sorted(f"{path}:{name}" for path, name in pairs if name not in defined(path)) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_to_a_file(page):
    links = LINK.findall((ROOT / page).read_text())
    assert [each for each in links if not (Path(ROOT / page).parent / each).exists()] == []


def test_the_readme_has_a_row_for_every_folder_of_tasks():
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| ")]
    cells = " ".join(row.split("|")[1] for row in rows)
    folders = {
        f"tasks/{path.split('/')[1]}/"
        for path in TRACKED
        if path.startswith("tasks/") and path.count("/") > 1
    }
    assert sorted(each for each in folders if f"`{each}`" not in cells) == []


def test_the_tour_answers_each_question_with_a_path_that_is_there():
    tour = (ROOT / "docs" / "tour.md").read_text()
    questions = re.findall(r"^\*\*(.+\?)\*\*\n(.+(?:\n.+)*)", tour, re.MULTILINE)
    assert len(questions) >= 16
    assert [question for question, answer in questions if not list(named(answer))] == []
