"""What was undone goes no further, in the zone of its run, until somebody allows it."""

from __future__ import annotations

import dataclasses

import pytest

from tasks.bucket import layout
from tasks.bucket.store import RecordTaken
from tasks.digest import Digest
from tasks.release import undone
from tasks.release.undone import NotUndone, WasUndone
from tests.simulation.alone import Alone

DIGEST, OTHER, ALIKE = Digest("d" * 64), Digest("e" * 64), Digest("d" * 32 + "f" * 32)
STAGING = {"environment": "staging"}


@pytest.fixture
def world():
    return Alone()


@pytest.mark.promise("what-is-undone-goes-no-further")
def test_what_is_undone_is_refused_with_what_to_type_until_it_is_allowed(world):
    world.does(lambda run: undone.mark(run, DIGEST), name="kim", **STAGING)
    with pytest.raises(
        WasUndone, match=f"^release: {DIGEST.id} goes no further: kim has undone it in staging, "
    ) as refused:
        world.does(lambda run: undone.accept(run, DIGEST), **STAGING)
    assert refused.value.text.endswith(f"\n    doit allow {DIGEST.id}")
    world.does(lambda run: undone.accept(run, OTHER), **STAGING)
    mark = world.does(lambda run: undone.allow(run, DIGEST.id), name="lee", **STAGING)
    assert (mark.digest, mark.by) == (DIGEST, "kim")
    world.does(lambda run: undone.accept(run, DIGEST), **STAGING)


def test_the_document_keeps_who_has_undone_and_who_has_allowed(world):
    world.does(lambda run: undone.mark(run, DIGEST), name="kim", **STAGING)
    world.does(lambda run: undone.mark(run, DIGEST), name="another", **STAGING)
    world.does(lambda run: undone.allow(run, DIGEST), name="lee", **STAGING)
    value = world.value(layout.undone("trusted", DIGEST))
    assert (value["by"], value["environment"], value["allowed"]["by"]) == ("kim", "staging", "lee")
    assert value["allowed"]["arn"].endswith(":user/lee")
    world.does(lambda run: undone.mark(run, DIGEST), name="max", **STAGING)
    assert world.value(layout.undone("trusted", DIGEST))["by"] == "max"
    with pytest.raises(WasUndone, match="max has undone it"):
        world.does(lambda run: undone.accept(run, DIGEST), **STAGING)


@pytest.mark.promise("a-branch-undoes-its-own")
def test_a_branch_neither_marks_nor_allows_what_the_default_branch_releases(world):
    world.does(lambda run: undone.mark(run, DIGEST))
    world.does(lambda run: undone.accept(run, DIGEST), **STAGING)
    world.does(lambda run: undone.mark(run, DIGEST), **STAGING)
    world.does(lambda run: undone.allow(run, DIGEST))
    world.does(lambda run: undone.accept(run, DIGEST))
    with pytest.raises(WasUndone):
        world.does(lambda run: undone.accept(run, DIGEST), **STAGING)


@pytest.mark.parametrize(
    ("typed", "number"),
    [("", "no"), ("e", "no"), ("dx", "no"), ("../d", "no"), ("d" * 65, "no"), ("d", "2"), ("d" * 32, "2")],
)
def test_what_names_no_mark_or_several_is_refused(world, typed, number):
    for each in (DIGEST, ALIKE):
        world.does(lambda run, each=each: undone.mark(run, each), **STAGING)
    with pytest.raises(
        NotUndone, match=f"is the beginning of {number} tarballs that were undone, not of one"
    ):
        world.does(lambda run: undone.allow(run, typed), **STAGING)
    world.does(lambda run: undone.allow(run, "d" * 33), **STAGING)
    world.does(lambda run: undone.allow(run, "d"), **STAGING)  # the one that is left
    with pytest.raises(NotUndone, match="beginning of no tarballs"):
        world.does(lambda run: undone.allow(run, "d"), **STAGING)


def test_of_two_who_mark_and_allow_at_once_the_slower_one_is_told(world):
    world.does(lambda run: undone.mark(run, DIGEST), **STAGING)

    def allow(run):
        read = run.store.read

        class Slow:
            def __getattr__(self, name):
                return getattr(run.store, name)

            def read(self, key):
                found = read(key)
                world.put(key, {"digest": DIGEST, "by": "kim"})
                return found

        undone.allow(dataclasses.replace(run, store=Slow()), DIGEST)

    with pytest.raises(RecordTaken, match="was changed by kim"):
        world.does(allow, **STAGING)
