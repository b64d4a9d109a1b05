"""The cache, zone by zone: who reads what, in which order, who writes where, and what stays."""

from __future__ import annotations

import dataclasses

import pytest

from tasks.bucket import cache, layout
from tasks.bucket.cache import Cache, FoundRecord
from tasks.digest import Digest
from tasks.version import Version
from tests.simulation.alone import Alone

NAME, OTHER = Digest("a" * 64), Digest("b" * 64)


@pytest.fixture
def world():
    return Alone()


def on(run, trusted):
    """A run's cache, on the default branch or not."""
    return cache.of(dataclasses.replace(run, trusted=trusted))


def puts(world, *zones, kind="keys", **value):
    for zone in zones:
        world.put(layout.record(zone, kind, NAME), {"of": zone, **value})


@pytest.mark.promise("default-branch-takes-from-trusted-only")
@pytest.mark.parametrize(("trusted", "found"), [(True, ["trusted"]), (False, ["trusted", "branches"])])
def test_the_default_branch_reads_only_what_it_has_written_and_others_read_that_first(world, trusted, found):
    puts(world, "branches", "trusted")

    def act(run):
        kept = on(run, trusted)
        assert [each.zone for each in kept.records("keys", NAME)] == found
        first = kept.record("keys", NAME)
        etag = world.objects[layout.record("trusted", "keys", NAME)].etag
        assert first == FoundRecord(zone="trusted", value={"of": "trusted"}, etag=etag)

    world.does(act)


@pytest.mark.promise("default-branch-takes-from-trusted-only")
def test_what_only_another_branch_has_is_a_miss_on_the_default_branch(world):
    puts(world, "branches")
    world.put(layout.blob("branches", "layers", NAME), b"12345")

    def act(run):
        assert on(run, True).record("keys", NAME) is None
        assert on(run, True).blob("layers", NAME) is None
        assert list(on(run, True).blobs("layers")) == []
        assert on(run, False).record("keys", NAME).zone == "branches"
        assert on(run, False).blob("layers", NAME) == layout.blob("branches", "layers", NAME)

    world.does(act)


def test_a_zone_is_asked_only_when_its_answer_is_needed(world):
    puts(world, "branches", "trusted")

    def act(run):
        on(run, False).record("keys", NAME)

    world.does(act)
    assert world.requests == [("me", "get_object")]


def test_a_damaged_record_is_a_miss(world):
    world.put(layout.record("trusted", "keys", NAME), b"{")
    puts(world, "branches")
    assert world.does(lambda run: on(run, False).record("keys", NAME)).zone == "branches"


@pytest.mark.parametrize(("trusted", "zone"), [(True, "trusted"), (False, "branches")])
def test_each_writes_to_its_own_zone(world, trusted, zone, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    stored = []

    def act(run):
        kept = on(run, trusted)
        kept.keep("keys", NAME, {"digest": "x"})
        run.store.client.upload_file = lambda path, bucket, key, **how: stored.append((path, key, how))
        assert kept.upload("layers", NAME, file, heard=len) == kept.key("layers", NAME)

    world.does(act)
    key = layout.blob(zone, "layers", NAME)
    assert stored == [(str(file), key, {"Callback": len})]
    assert list(world.objects) == [layout.record(zone, "keys", NAME)]


@pytest.mark.parametrize(
    ("dirty", "trusted", "writes", "reads"),
    [
        (False, True, "trusted", ("trusted",)),
        (True, True, "branches", layout.ZONES),
        (False, False, "branches", layout.ZONES),
        (False, None, "branches", layout.ZONES),
    ],
)
@pytest.mark.promise("trusted-is-of-the-default-branch")
def test_only_a_clean_commit_of_the_default_branch_writes_what_that_branch_trusts(
    world, dirty, trusted, writes, reads
):
    def act(run):
        commit = Version("1" * 40 + ("-dirty" if dirty else ""))
        assert commit.dirty is dirty

        class Of(type(run)):
            @property
            def commit(self):
                return commit

        made = cache.of(Of(**{**vars(run), "trusted": trusted}))
        assert made == Cache(store=run.store, writes=writes, reads=reads)

    world.does(act)


# --- records that stay and records that go -----------------------------------------------------------


def kept(world, zone="trusted"):
    return world.value(layout.record(zone, "keys", NAME))["digest"]


def test_a_record_stays_as_it_was_first_written(world):
    def act(run):
        for digest in ("first", "second"):
            on(run, True).keep("keys", NAME, {"digest": digest})

    world.does(act)
    assert kept(world) == "first"


def test_a_record_whose_blob_is_gone_is_replaced_in_the_version_that_was_read(world):
    def act(run):
        ours = on(run, True)
        ours.keep("keys", NAME, {"digest": "first"})
        found = ours.record("keys", NAME)
        ours.keep("keys", NAME, {"digest": "second"}, instead=found)
        assert kept(world) == "second"
        ours.keep("keys", NAME, {"digest": "third"}, instead=found)
        assert kept(world) == "second", "another run has replaced it meanwhile"

    world.does(act)


def test_a_record_of_another_zone_is_not_replaced_but_gets_one_of_its_own(world):
    puts(world, "trusted", digest="theirs")

    def act(run):
        ours = on(run, False)
        ours.keep("keys", NAME, {"digest": "ours"}, instead=ours.record("keys", NAME))

    world.does(act)
    assert (kept(world, "trusted"), kept(world, "branches")) == ("theirs", "ours")


# --- blobs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "zone"), [(None, "trusted"), (3, "trusted"), (5, "branches"), (4, None), (0, None)]
)
def test_a_blob_of_another_size_is_not_the_one(world, size, zone):
    world.put(layout.blob("trusted", "layers", NAME), b"123")
    world.put(layout.blob("branches", "layers", NAME), b"12345")
    found = world.does(lambda run: on(run, False).blob("layers", NAME, size))
    assert found == (layout.blob(zone, "layers", NAME) if zone else None)


def test_an_empty_blob_is_one(world):
    world.put(layout.blob("trusted", "layers", NAME), b"")
    assert world.does(lambda run: on(run, True).blob("layers", NAME, 0))


@pytest.mark.parametrize(
    ("there", "damaged", "uploads"),
    [(None, False, 1), (b"12345", False, 0), (b"123", False, 1), (b"12345", True, 1)],
)
def test_a_blob_is_stored_unless_it_is_there_as_it_is(world, there, damaged, uploads, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    if there:
        world.put(layout.blob("trusted", "layers", NAME), there)
    stored = []

    def act(run):
        run.store.client.upload_file = lambda *arguments, **how: stored.append(arguments)
        on(run, True).upload("layers", NAME, file, **({"damaged": True} if damaged else {}))

    world.does(act)
    assert len(stored) == uploads


def test_the_stored_blobs_are_listed_by_their_beginning_and_nothing_beside_them(world):
    for zone, digest in (("trusted", NAME), ("branches", OTHER)):
        world.put(layout.blob(zone, "tarballs", digest), b"x")
        world.put(layout.beside(layout.blob(zone, "tarballs", digest), "manifest.json"), {})
    world.put(layout.blob("trusted", "layers", OTHER), b"x")
    world.put(layout.beside(layout.blob("trusted", "tarballs", "c" * 64), "manifest.json"), {})

    def act(run):
        both = on(run, False)
        found = list(both.blobs("tarballs"))
        assert found == [NAME, OTHER]
        assert {type(each) for each in found} == {Digest}
        assert list(both.blobs("tarballs", "bb")) == [OTHER]
        assert list(on(run, True).blobs("tarballs")) == [NAME]
        assert list(both.keys("tarballs", NAME)) == [
            layout.blob(zone, "tarballs", NAME) for zone in layout.ZONES
        ]

    world.does(act)
