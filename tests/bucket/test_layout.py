"""Every key that layout makes is parsed again, any other key is unknown, and no other module makes keys."""

from __future__ import annotations

import ast

import pytest

from tasks.bucket import layout
from tasks.bucket.layout import Key
from tests.conftest import ROOT
from tests.test_house import CODE

IDENTITIES = ("staging", "testing-0d6e4079e3", "image", "a.json", "state")
NAMES = ("a" * 64, "3fa9c2e-dirty", "0")
TASKS = ("server", "infrastructure:environment", "tarball:style-Magento/luma", "leases")
PREFIXES = (
    *("leases/", "state/", "ledgers/", "history/", "machines/"),
    *("runs/", "trusted/", "branches/", "sweep/", "undone/"),
)
FOLDERS = ("/layers/", "/keys/", "/commits/", "/tarballs/")


def made():
    """Each key with its parts: every function that makes one, with every kind of part."""
    for each in IDENTITIES:
        yield layout.lease(each), Key(kind="lease", identity=each)
        yield layout.machines(each), Key(kind="machines", identity=each)
        yield layout.history(each), Key(kind="history", identity=each)
        yield layout.restored(each, "t", "r"), Key(kind="restored", identity=each, name="t.r.failed")
        for task in TASKS:
            yield layout.state(each, task), Key(kind="state", identity=each, name=task)
        for host in ("i-1", "i-0a.b"):
            yield (
                layout.ledger(each, host, "server"),
                Key(kind="ledger", identity=each, host=host, name="server"),
            )
    yield layout.CURRENT_RUN, Key(kind="current run")
    yield layout.SIGHTINGS, Key(kind="sightings")
    for name in NAMES:
        yield layout.commit_run(name), Key(kind="run", name=name)
        for zone in layout.ZONES:
            of = {"zone": zone, "name": name}
            yield layout.undone(zone, name), Key(kind="undone", **of)
            for folder in ("layers", "keys", "commits"):
                yield layout.record(zone, folder, name), Key(kind="record", folder=folder, **of)
            for folder in ("layers", "tarballs"):
                yield layout.blob(zone, folder, name), Key(kind="blob", folder=folder, **of)
            for suffix in ("manifest.json", "sbom.json", "minisig", "0123456789abcdef.minisig"):
                key = layout.beside(layout.blob(zone, "tarballs", name), suffix)
                yield key, Key(kind="beside", folder="tarballs", suffix=suffix, **of)


def test_a_key_is_parsed_into_its_parts():
    for key, of in made():
        assert layout.parse(key) == of, key


@pytest.mark.promise("one-module-makes-keys")
def test_no_two_things_have_one_key():
    keys = [key for key, _ in made()]
    assert len(set(keys)) == len(keys)


def test_every_kind_of_key_is_in_the_table():
    assert {of.kind for _, of in made()} == set(layout._PATTERNS)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "somebody/else.txt",
        "state/staging",
        "state/staging/",
        "state/staging/server.txt",
        "leases/staging",
        "leases/staging/server.json",
        "ledgers/staging/server.json",
        "machines/.json/x",
        "history/staging.json.bak",
        "runs/current.txt",
        "runs/a/b.json",
        "sweep/seen.json",
        "mine/tarballs/0123.tar.zst",
        "trusted/others/0123.json",
        "trusted/layers/0123.minisig",
        "trusted/keys/0123.tar.zst",
        "trusted/tarballs/0123",
        "trusted/tarballs/0123.tar.zst/x",
        " leases/staging.json",
        "leases/staging.json\n",
    ],
)
def test_a_key_that_no_function_makes_is_unknown(key):
    assert layout.parse(key) is None


def test_the_keys_of_some_begin_with_the_prefix_of_all():
    assert layout.state("staging", "tarball:pack").startswith(layout.states("staging", "tarball:"))
    assert layout.ledger("staging", "i-1", "server").startswith(layout.ledgers("staging"))
    assert layout.blob("trusted", "layers", "0123").startswith(layout.blobs("trusted", "layers", "01"))
    assert layout.states("staging") == "state/staging/"
    assert layout.blobs("trusted", "layers") == "trusted/layers/"
    assert layout.state("staging", "tarball:pack") == "state/staging/tarball.pack.json"
    assert not layout.state("staging-2", "server").startswith(layout.states("staging"))


@pytest.mark.promise("one-module-makes-keys")
def test_no_other_module_makes_a_key():
    found = [
        (path, node.lineno, node.value)
        for path in [*CODE, "dodo.py"]
        if path != "tasks/bucket/layout.py"
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node.value.startswith((*PREFIXES, *FOLDERS)) or node.value in {layout.ARCHIVE, *layout.ZONES}
    ]
    assert found == []
