"""Every promise of a page has a test, and nothing of the table between them is stale or left over."""

from __future__ import annotations

import re

import pytest

from tasks import promises
from tests.conftest import ROOT

ONLY_LONG = {
    "nothing-of-an-environment-is-in-an-image": "a bake and two environments made of it take minutes",
    "migrated-data-keeps-all-hosts-in-maintenance": "two machines must be migrated, and fail, and go live again",
}
"""Promises that long tests alone prove, each with the reason why no short one can."""
PAGE = "# Page\n\nA rule holds. <!-- promise: a-rule -->\n"
TEST = '@pytest.mark.promise("a-rule")\ndef test_a_rule(): ...\n'


@pytest.fixture(scope="module")
def here():
    """The promises and proofs of this repository."""
    return promises.of(ROOT, {})


def wrong(page, test, only_long=()):
    return promises.problems(
        promises.promised("docs/page.md", page), promises.proofs("tests/test_x.py", test), only_long
    )


def test_every_promise_has_a_test_and_every_marker_a_promise(here):
    assert promises.problems(*here, ONLY_LONG) == []


def test_deleting_any_test_that_a_promise_names_is_noticed(here):
    """Without it the page is another one, and a promise that no other test proves is named."""
    promised, proofs = here
    page, files = [*promises.page(promised, proofs)], set()
    for gone in proofs:
        left = [each for each in proofs if each is not gone]
        assert [*promises.page(promised, left)] != page, gone.test
        alone = set(gone.names) - {name for each in left for name in each.names}
        unproved = [each for each in promises.problems(promised, left, ONLY_LONG) if "no test proves" in each]
        assert {each.rpartition(" ")[2] for each in unproved} == alone
        path = gone.test.partition("::")[0]
        if path not in files:  # as an editor deletes it
            files.add(path)
            cut = without((ROOT / path).read_text(), gone.test.rpartition("::")[2])
            assert promises.proofs(path, cut) == [each for each in left if each.test.startswith(f"{path}::")]


def without(text, name):
    """A module without one of its functions and what decorates it."""
    pattern = rf"((?:^@(?:.|\n(?!\n|def ))*\n)?)^def {name}\((?:.|\n)*?(?=\n\n\n|\Z)"
    cut, count = re.subn(pattern, "", text, count=1, flags=re.MULTILINE)
    assert count == 1, name
    return cut


@pytest.mark.parametrize(
    ("page", "test", "said"),
    [
        (PAGE, TEST, []),
        (PAGE, TEST.replace('"a-rule"', '"other", "a-rule"'), ["tests/test_x.py::test_a_rule: no page promises other"]),
        (PAGE, "", ["docs/page.md: no test proves a-rule"]),
        (PAGE, TEST.replace("test_a_rule", "checks_a_rule"), ["docs/page.md: no test proves a-rule", "tests/test_x.py: a marker stands at no test"]),
        (PAGE, f"@pytest.mark.skip\n{TEST}", ["docs/page.md: no test proves a-rule", "tests/test_x.py: a marker stands at no test"]),
        (PAGE + PAGE, TEST, ["a-rule: given twice, in docs/page.md and in docs/page.md"]),
        (PAGE, f"@pytest.mark.long\n{TEST}", ["docs/page.md: only long tests prove a-rule"]),
        (PAGE, f"pytestmark = [pytest.mark.services, pytest.mark.long]\n{TEST}", ["docs/page.md: only long tests prove a-rule"]),
        (PAGE, f"@pytest.mark.long\n{TEST}@pytest.mark.promise('a-rule')\ndef test_short(): ...\n", []),
        ("Text <!-- promise a-rule -->", "", ["docs/page.md: this is no anchor: <!-- promise a-rule -->"]),
        ("Text <!--promise: a-rule-->", "", ["docs/page.md: this is no anchor: <!--promise: a-rule-->"]),
        ("Text <!-- promise: A_Rule -->", "", ["docs/page.md: this is no anchor: <!-- promise: A_Rule -->"]),
        ("Text.\n\n<!-- promise: a-rule -->", TEST, ["docs/page.md: a-rule stands behind no sentence"]),
    ],
)  # fmt: skip
def test_what_is_wrong_between_a_page_and_a_test_is_a_sentence(page, test, said):
    assert wrong(page, test) == said


def test_a_promise_of_a_long_test_alone_is_excused_by_name_and_only_then():
    long = f"@pytest.mark.long\n{TEST}"
    assert wrong(PAGE, long, ["a-rule"]) == []
    assert wrong(PAGE, TEST, ["a-rule"]) == ["a-rule: it is excused, but there is no need"]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two holds. <!-- promise: a --> Three.", ["Two holds."]),
        ("One, which\nis long, holds <!-- promise: a -->. Two does <!-- promise: b -->.", ["One, which is long, holds", "Two does"]),
        ("One. [Two](two.md) of `a. B` holds. <!-- promise: a -->", ["Two of `a. B` holds."]),
        ("- **Only code goes back.** <!-- promise: a --> Else.", ["**Only code goes back.**"]),
        ("It is refused, unless\n\n- it waits; <!-- promise: a -->\n- it is\n  ready. <!-- promise: b -->\n", ["It is refused, unless it waits", "It is refused, unless it is ready."]),
        ("All is well.\n\n- it waits <!-- promise: a -->\n", ["it waits"]),
        ("| what | goes |\n| --- | --- |\n| layer | when old <!-- promise: a --> | x |\n| y | z <!-- promise: b --> |", ["layer, goes: when old", "y, goes: z"]),
        ("| | |\n|---|---|\n| `a \\| b` | holds <!-- promise: a --> |", ["`a \\| b`: holds"]),
    ],
)  # fmt: skip
def test_a_promise_is_the_sentence_before_its_anchor(text, sentences):
    assert [each.sentence for each in promises.promised("docs/page.md", text)] == sentences


def test_markers_of_classes_and_parameters_are_found():
    text = """
import pytest
@pytest.mark.long
class TestIt:
    @pytest.mark.parametrize("a", [1, pytest.param(2, marks=pytest.mark.promise("two"))])
    @pytest.mark.promise("one")
    def test_of_a_class(self, a): ...
"""
    (found,) = promises.proofs("tests/test_x.py", text)
    assert (found.test, set(found.names), found.long) == (
        "tests/test_x.py::TestIt::test_of_a_class",
        {"one", "two"},
        True,
    )
