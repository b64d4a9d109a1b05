"""references: which tarballs, layers and commits a sweep must leave; the bucket is a dictionary here."""

from __future__ import annotations

import dataclasses
import datetime
from types import SimpleNamespace

import pytest

from tasks.bucket import layout
from tasks.bucket.store import Document, NotADocument
from tasks.environments.inventory import Inventory, StoredObject
from tasks.process.threads import Threads
from tasks.settings import Environment, Release, Sweep
from tasks.sweep import references
from tasks.sweep.references import ALSO, SweepBlind

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
DAYS = Sweep().layer_days
DIGESTS = [f"{number:064x}" for number in range(40)]
TESTING = "testing-0123456789"
FILES = {
    "staging": Environment(release=Release(keep=3)),
    "testing": Environment(per_branch=True, release=Release(keep=1)),
}


@dataclasses.dataclass
class Bucket:
    """A bucket whose documents are given. `asked`: the keys that were read."""

    documents: dict
    asked: list = dataclasses.field(default_factory=list)

    def read(self, key):
        self.asked.append(key)
        value = self.documents[key]
        if not isinstance(value, dict):
            raise NotADocument("shop", key, "v1", 1.0)
        return Document(value=value, etag="v1", age=1.0) if value else None


def stored(key, days=0.0):
    return StoredObject(key=key, size=1, written=NOW - datetime.timedelta(days=days))


def read(documents, *, branches=(), files=(), days=None):
    """What is referred to, and the keys that were read for it. `files`: what else lies in the bucket; `days`: how old a key is."""
    bucket = Bucket(documents)
    run = SimpleNamespace(store=bucket, threads=Threads(), pipeline=SimpleNamespace(sweep=Sweep()))
    objects = tuple(stored(key, (days or {}).get(key, 0)) for key in (*documents, *files))
    inventory = Inventory(at=NOW, settings=FILES, objects=objects)
    found = references.of(run, inventory, {f"branch-{each}": each for each in branches})
    return found, bucket.asked


def needed(documents, **more):
    return read(documents, **more)[0]


def release(number, commit=None):
    return {"digest": DIGESTS[number], "commit": commit or f"c{number}"}


def history(*numbers):
    return {"releases": [release(number) for number in numbers]}


def test_an_empty_bucket_refers_to_nothing():
    assert needed({}) == frozenset()


# --- releases -----------------------------------------------------------------------------------------


@pytest.mark.promise("needed-tarballs-stay")
def test_each_environment_needs_what_its_machines_keep_and_two_more():
    found = needed(
        {layout.history("staging"): history(*range(9)), layout.history(TESTING): history(*range(20, 29))}
    )
    assert ALSO == 2
    assert found == {*DIGESTS[4:9], *DIGESTS[26:29], "c4", "c5", "c6", "c7", "c8", "c26", "c27", "c28"}


def test_a_tarball_that_is_released_again_counts_once_with_all_its_commits():
    releases = [release(0), release(1), *(release(2, f"again-{number}") for number in range(9))]
    found = needed({layout.history(TESTING): {"releases": releases}})
    assert found == {*DIGESTS[:3], "c0", "c1", *(f"again-{number}" for number in range(9))}
    back = {"releases": [release(0), release(1), release(2), release(3), release(0, "back")]}
    assert needed({layout.history(TESTING): back}) == {
        *(DIGESTS[each] for each in (0, 2, 3)), "c0", "back", "c2", "c3",
    }  # fmt: skip


def test_a_release_of_changed_files_needs_the_commit_below_them():
    found = needed({layout.history("staging"): {"releases": [release(0, "c0-dirty")]}})
    assert found == {DIGESTS[0], "c0"}


def test_an_environment_that_no_file_makes_needs_nothing():
    assert needed({layout.history("other"): {"releases": [release(0)]}}) == frozenset()


# --- commits and runs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["trusted", "branches"])
@pytest.mark.promise("needed-tarballs-stay")
def test_the_head_of_a_branch_needs_its_tarball_of_either_zone(zone):
    documents = {
        layout.record(zone, "commits", "head"): {"digest": DIGESTS[1]},
        layout.record(zone, "commits", "older"): {"digest": DIGESTS[2]},
    }
    assert needed(documents, branches=["head", "without"]) == {"head", "without", DIGESTS[1]}


@pytest.mark.promise("needed-tarballs-stay")
def test_the_current_run_needs_its_commit_and_the_tarballs_that_it_and_its_pointer_name():
    documents = {
        layout.CURRENT_RUN: {"commit": "waits"},
        layout.commit_run("waits"): {"digest": DIGESTS[1]},
        layout.record("trusted", "commits", "waits"): {"digest": DIGESTS[2]},
        layout.commit_run("past"): {"digest": DIGESTS[3]},
    }
    assert needed(documents) == {"waits", DIGESTS[1], DIGESTS[2]}


def test_a_run_that_has_no_tarball_yet_names_none():
    assert needed({layout.CURRENT_RUN: {"commit": "new"}, layout.commit_run("new"): {"steps": []}}) == {"new"}


def test_the_commit_of_a_release_needs_the_tarball_that_it_points_to_now():
    """It was built again, with another profile: the next release of that commit takes that one."""
    documents = {
        layout.history("staging"): history(0),
        layout.record("trusted", "commits", "c0"): {"digest": DIGESTS[1]},
    }
    assert needed(documents) == {"c0", *DIGESTS[:2]}


# --- manifests and layers -----------------------------------------------------------------------------


def manifest(zone, number):
    return layout.beside(layout.blob(zone, "tarballs", DIGESTS[number]), "manifest.json")


@pytest.mark.parametrize("zone", ["trusted", "branches"])
@pytest.mark.promise("needed-tarballs-stay")
def test_a_tarball_needs_every_digest_in_its_manifest_under_whatever_key(zone):
    documents = {
        layout.history("staging"): history(0),
        manifest(zone, 0): {
            "layers": {"x": {"key": DIGESTS[30]}},
            "newer": [f"sha256:{DIGESTS[31]}"],
            "else": f"{DIGESTS[32]}0",
            "upper": "A" * 64,
        },
        manifest(zone, 1): {"layers": {"x": {"key": DIGESTS[33]}}},
    }
    assert needed(documents) == {"c0", DIGESTS[0], DIGESTS[30], DIGESTS[31]}


RECORD, ARCHIVE = (
    layout.record("trusted", "layers", DIGESTS[30]),
    layout.blob("trusted", "layers", DIGESTS[31]),
)
OTHER = layout.record("branches", "layers", DIGESTS[32])
LAYERS = {RECORD: {"digest": DIGESTS[31]}, OTHER: {"digest": DIGESTS[33]}}
LIVE = {layout.history("staging"): history(0), manifest("trusted", 0): {"key": DIGESTS[30]}}


@pytest.mark.parametrize(
    ("young", "live", "names"),
    [
        # a record that stays, for its age or because a tarball is made of it, keeps the archive that it names
        ((), {}, set()),
        ((RECORD,), {}, {DIGESTS[31]}),
        ((RECORD, OTHER), {}, {DIGESTS[31], DIGESTS[33]}),
        ((), LIVE, {"c0", DIGESTS[0], DIGESTS[30], DIGESTS[31]}),
        ((OTHER,), LIVE, {"c0", DIGESTS[0], DIGESTS[30], DIGESTS[31], DIGESTS[33]}),
    ],
)
@pytest.mark.promise("files-are-judged-again")
def test_a_layer_s_record_that_stays_keeps_its_archive(young, live, names):
    old = dict.fromkeys({*LAYERS, ARCHIVE} - set(young), DAYS + 1)
    assert needed({**LAYERS, **live}, files=[ARCHIVE], days=old) == names


def test_without_an_old_archive_no_layer_s_record_is_read():
    """There may be thousands, and nothing depends on them."""
    tarball = layout.blob("trusted", "tarballs", DIGESTS[31])
    for files, days in (
        ([ARCHIVE], {}),
        ([ARCHIVE], {RECORD: DAYS + 1}),
        ([ARCHIVE], {ARCHIVE: DAYS}),
        ([tarball, "somebody/else.tar.zst"], {tarball: DAYS + 1, "somebody/else.tar.zst": DAYS + 1}),
    ):
        assert read(dict(LAYERS), files=files, days=days) == (frozenset(), [])


# --- what cannot be read, and what is gone ------------------------------------------------------------


def test_only_documents_that_the_inventory_has_are_asked_for():
    documents = {layout.history(TESTING): history(0), manifest("branches", 0): {}, layout.lease(TESTING): {}}
    found, asked = read(documents)
    assert found == {"c0", DIGESTS[0]}
    assert asked == [layout.history(TESTING), manifest("branches", 0)]


def test_a_document_that_is_gone_since_the_survey_refers_to_nothing():
    """`Bucket` has nothing where a document is empty."""
    documents = {
        layout.history("staging"): {},
        layout.history(TESTING): history(0),
        layout.CURRENT_RUN: {},
        layout.record("trusted", "commits", "c0"): {},
    }
    assert needed(documents) == {"c0", DIGESTS[0]}


@pytest.mark.parametrize(
    "key",
    [
        layout.history("staging"),
        layout.CURRENT_RUN,
        layout.record("branches", "commits", "c0"),
        layout.commit_run("c0"),
        manifest("trusted", 0),
        RECORD,
    ],
)
@pytest.mark.promise("needed-tarballs-stay")
def test_a_document_that_cannot_be_read_is_named_and_nothing_is_decided(key):
    documents = {layout.history(TESTING): history(0), key: None}
    with pytest.raises(SweepBlind) as caught:
        needed(documents, files=[ARCHIVE], days={ARCHIVE: DAYS + 1})
    assert caught.value.text == (
        f"sweep: {key} is no JSON, so that what it refers to is unknown\n    doit sweep"
    )
