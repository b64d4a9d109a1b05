"""inputs: what counts as a change since the last success, and by which name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tasks.graph.inputs import ASKED, NEW, Named, World, checker, words
from tests.conftest import commit, git


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a 1 → 2"]),
        ({"a": 1}, {"a": 1, "b": 2}, ["b none → 2"]),
        ({"a": 1, "b": 2}, {"a": 1}, ["b 2 → none"]),
        ({"a": 1, "b": 1}, {"a": 2, "b": 2}, ["a 1 → 2", "b 1 → 2"]),
        ({}, {"a": False}, ["a none → false"]),
        ({"a": ["x"]}, {"a": lambda: ["x", "y"]}, ["a x → x, y"]),
        (None, {}, [NEW]),
    ],
)
@pytest.mark.promise("changed-inputs-are-named")
def test_a_part_that_was_changed_added_or_removed_is_a_change(before, now, said):
    task, named = SimpleNamespace(value_savers=[]), Named(lambda: now)
    assert named(task, {} if before is None else {"inputs": before}) is (said == [])
    assert named.changed == said
    assert repr(named) == ("; ".join(said) if said else "as before")
    (save,) = task.value_savers
    assert save() == {"inputs": {name: each() if callable(each) else each for name, each in now.items()}}


def test_what_must_be_asked_is_declared_without_being_asked():
    named = Named(lambda: {"a": 1, "digest": lambda: pytest.fail("it was asked")})
    assert named.declared() == {"a": 1, "digest": ASKED}


def test_what_is_saved_is_what_was_read_before_the_action():
    parts = {"a": 1}
    task, named = SimpleNamespace(value_savers=[]), Named(lambda: parts)
    assert repr(named) == "as before"
    named(task, {})
    parts["a"] = 2
    assert task.value_savers[0]() == {"inputs": {"a": 1}}


@pytest.mark.parametrize(
    ("said", "reason"), [([], "as wanted"), (["no host", "no name"], "no host; no name")]
)
def test_where_the_world_differs_a_stage_is_due_and_says_why(said, reason):
    world = World(lambda: said)
    assert world.announced is False
    assert repr(world) == "as wanted"
    assert world() is (not said)
    assert repr(world) == reason
    assert World(list, announced=True).announced


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "none"),
        ((), "none"),
        ([], "none"),
        ({}, "none"),
        (0, "0"),
        ("", ""),
        (True, "true"),
        (False, "false"),
        ([1, [2, None]], "1, 2, none"),
        (("a", True), "a, true"),
        ({"php": {"version": "8.2"}, "roles": []}, "php: version: 8.2, roles: none"),
    ],
)
def test_a_value_is_said_without_quotes_and_brackets(value, said):
    assert words(value) == said


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    """A repository with two folders."""
    for name in ("one/a", "one/b", "two/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".gitignore").write_text("*.log\n")
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def test_a_file_or_folder_is_known_by_its_git_id(root):
    files = checker(root, ["one", "two/c"])()
    for path in ("one", "two/c", "one/b"):  # the last one is of no stage
        assert (
            files.id(path)
            == files.info(path)
            == files.get_state(path, None)
            == git(root, "rev-parse", f"HEAD:{path}")
        )
        assert files.exists(path)
    assert files.check_modified("one", files.info("one"), files.get_state("one", "older")) is False
    assert files.check_modified("one", files.info("one"), files.info("two/c")) is True


@pytest.mark.parametrize("path", ["three", "one/a.log"])
def test_what_git_would_not_commit_is_not_there(root, path):
    (root / "one" / "a.log").write_text("ignored")
    files = checker(root, ["one"])()
    assert files.exists(path) is False
    assert files.id(path) is None
    for ask in (files.info, lambda path: files.get_state(path, None)):
        with pytest.raises(files.CheckerError, match=path):
            ask(path)


def test_all_ids_are_those_of_one_moment(root):
    files = checker(root, ["one", "two"])()
    before = files.id("one"), git(root, "rev-parse", "HEAD:two")
    for name in ("one/a", "two/c"):
        (root / name).write_text("changed while the stages run")
    assert (files.id("one"), files.id("two")) == before


def test_one_question_answers_for_all_paths_of_the_graph_and_none_is_asked_again(root):
    files = checker(root, ["one", "two"])()
    assert files.id("one/a")
    assert files.known.keys() == {"one/a", "one", "two"}
    assert files.id("two/c")
    assert files.known.keys() == {"one/a", "one", "two", "two/c"}


def test_of_a_path_of_which_a_part_does_not_count_the_rest_has_an_id(root):
    files = checker(root, ["one", "two"], {"one": lambda: "the rest"})()
    assert files.id("one") == "the rest"
    assert files.id("two") == git(root, "rev-parse", "HEAD:two")
