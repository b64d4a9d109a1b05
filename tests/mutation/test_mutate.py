"""mutate: what it says, what it writes down, and where it goes on."""

from __future__ import annotations

import ast
import textwrap

import pytest

from tests.conftest import ROOT, git
from tests.mutation import mutate
from tests.mutation.mutate import Failed, Figures, Survivor

SURVIVOR = Survivor(function="frozen", line="if begin <= now:", becomes="if begin < now:")
DRIVER = """
import json, pathlib, sys
told = pathlib.Path("told")
told.write_text((told.read_text() if told.exists() else "") + sys.argv[2] + " ")
pathlib.Path("outcome.json").write_text(json.dumps([{"status": "killed", "function": "f"}]))
sys.exit(pathlib.Path("broken").exists())
"""


def figures(*, planted=100, survivors=(), module="tasks/b.py"):
    return Figures(module=module, planted=planted, survivors=tuple(survivors))


def test_a_folder_that_is_not_known_is_refused_with_those_that_are(capsys):
    assert mutate.main(["promotoin"]) == 3
    assert capsys.readouterr().err.startswith(
        "mutate: no folder promotoin (known: promotion, sweep, infrastructure,"
    )


def test_a_run_goes_on_and_tries_survivors_again_once_the_tests_have_changed(tmp_path):
    root, driver = tmp_path / "project", tmp_path / "driver.py"
    (root / "tests").mkdir(parents=True)
    (root / "tests" / "test_b.py").write_text("")
    (root / "pyproject.toml").write_text("")
    git(root, "init", "-q")
    driver.write_text(DRIVER)

    def run():
        return mutate.planted(root, "tasks/room/b.py", ["tests/test_b.py::test_one"], driver)

    assert run() == run() == [{"status": "killed", "function": "f"}]
    (root / "tests" / "test_b.py").write_text("changed")
    run()
    folder = root / ".run" / "mutate" / "room.b"
    (folder / "broken").write_text("")
    with pytest.raises(
        Failed,
        match=r"mutate: tasks/room/b.py: mutmut ended with exit code 1\n    less -R .run/mutate/room.b/log",
    ):
        run()
    (folder / "broken").unlink()
    run()
    run()
    assert (folder / "told").read_text().split() == ["changed", "same", "changed", "same", "changed", "same"]


def test_each_module_has_one_row_and_the_others_stay():
    text = "Words.\n\n| module | |\n| --- | --- |\n"
    for found in (figures(), figures(module="tasks/a.py"), figures(survivors=[SURVIVOR])):
        text = mutate.page(text, found)
    assert text == (
        "Words.\n\n| module | |\n| --- | --- |\n| `tasks/a.py` | 100 | 100 | 0 | 0.0 % |\n| `tasks/b.py` | 100 | 99 | 1 | 1.0 % |\n"
    )


@pytest.mark.parametrize(
    ("status", "noticed"),
    [
        ("killed", True),
        ("timeout", True),
        ("segfault", True),
        ("survived", False),
        ("no tests", False),
        ("not checked", False),
    ],
)
def test_only_what_fails_or_ends_a_test_is_noticed(status, noticed):
    outcome = [{"status": status, "function": "frozen", "line": SURVIVOR.line, "becomes": SURVIVOR.becomes}]
    assert mutate.figures("tasks/b.py", outcome) == figures(
        planted=1, survivors=() if noticed else (SURVIVOR,)
    )


@pytest.mark.parametrize(
    ("planted", "survivors", "known", "good", "said"),
    [
        (100, [], {}, True, "tasks/b.py: 100 faults, 0 unnoticed, 0.0 %"),
        (100, [SURVIVOR], {}, False, 'becomes: "if begin < now:"'),
        (100, [SURVIVOR], {SURVIVOR: "why"}, True, "1 unnoticed"),
        (20, [SURVIVOR], {SURVIVOR: "why"}, True, "5.0 %"),
        (19, [SURVIVOR], {SURVIVOR: "why"}, False, "more than 5 % go unnoticed"),
        (100, [], {SURVIVOR: "why"}, False, "has a reason for what a test notices: frozen"),
    ],
)
def test_a_module_is_good_where_each_of_few_survivors_has_a_reason(
    planted, survivors, known, good, said, capsys
):
    assert mutate.judge(figures(planted=planted, survivors=survivors), known) is good
    assert said in capsys.readouterr().out


MODULES = [(module, tests) for folder in mutate.modules(ROOT).values() for module, tests in folder.items()]


@pytest.mark.parametrize(("module", "tests"), MODULES, ids=[module for module, _ in MODULES])
def test_each_module_its_tests_and_the_lines_of_its_reasons_are_there(module, tests):
    for name in tests:
        path, _, test = name.partition("::")
        assert f"def {test}(" in (ROOT / path).read_text() if test else (ROOT / path).is_file(), name
    lines = functions((ROOT / module).read_text())
    for each, why in mutate.reasons(ROOT, module).items():
        assert set(each.line.splitlines()) <= lines[each.function], each
        assert why


def functions(text):
    """The lines of each function and method."""
    found = {}
    for node in ast.parse(text).body:
        for each in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(each, ast.FunctionDef):
                name = f"{node.name}.{each.name}" if each is not node else each.name
                source = textwrap.dedent(ast.get_source_segment(text, each))
                found[name] = {line.strip() for line in source.splitlines()}
    return found
