"""The known word that is closest to a misspelt one, and the command line with it."""

from __future__ import annotations

import pytest

from tasks.nearest import meant, nearest, retyped

KNOWN = ("infrastructure", "tarball", "server", "release", "status")


@pytest.mark.parametrize(
    ("word", "right"),
    [
        ("relaese", "release"),
        ("releas", "release"),
        ("staus", "status"),
        ("infra", "infrastructure"),
        ("qqqqq", None),
        ("go", None),
        ("", None),
    ],
)
def test_the_nearest_word_is_named_where_one_is_near(word, right):
    assert nearest(word, KNOWN) == right
    assert meant(word, KNOWN) == (f"did you mean {right}? " if right else "")


@pytest.mark.parametrize(
    ("word", "right", "typed", "line"),
    [
        ("relaese", "release", ["plan", "relaese"], "plan release"),
        ("relaese", "release", ["environment=staging", "relaese"], "environment=staging release"),
        ("relaese", None, ["relaese"], None),
        ("relaese", "release", ["start"], None),
        ("a b", "release", ["a b", "c d"], "release 'c d'"),
    ],
)
def test_what_was_typed_is_given_back_with_the_right_word(word, right, typed, line):
    assert retyped(word, right, typed) == line
