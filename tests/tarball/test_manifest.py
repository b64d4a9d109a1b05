"""A tarball's documents are read even if another version has added or left out keys."""

from __future__ import annotations

import json

import pytest

from tasks.digest import Digest
from tasks.tarball.manifest import Manifest
from tasks.tarball.stored import Pointer

MANIFEST = {
    "tree": "a" * 40,
    "digest": "d" * 64,
    "size": 9,
    "files": 3,
    "content_size": 20,
    "layers": {
        "library": {"files": 2, "content_size": 15, "key": "e" * 64},
        "application": {"files": 1, "content_size": 5},
    },
    "tools": {"zstd": "1.5.7"},
    "options": {"languages": ["en", "de"]},
}
POINTER = {"digest": "d" * 64, "branch": "main", "by": "kim@laptop", "role": "builder", "at": "2026-11-24 08:34 UTC"}  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), [(Manifest, MANIFEST), (Pointer, POINTER)])
def test_a_document_is_written_as_it_was_read(kind, value):
    assert json.loads(json.dumps(kind.of(value).as_dict())) == value


@pytest.mark.parametrize(("kind", "value"), [(Manifest, MANIFEST), (Pointer, POINTER)])
def test_what_a_newer_pipeline_adds_is_passed_over(kind, value):
    assert kind.of({**value, "mood": "good", "nonce": "n"}) == kind.of(value)


def test_what_an_older_pipeline_did_not_write_is_not_missed():
    assert Manifest.of({"digest": "d" * 64, "size": 9}) == Manifest(digest=Digest("d" * 64), size=9)
    assert Pointer.of({"digest": "d" * 64, "role": None}) == Pointer(digest=Digest("d" * 64))


def test_only_layers_that_are_built_have_a_key():
    assert Manifest.of(MANIFEST).keys == {"library": "e" * 64}
