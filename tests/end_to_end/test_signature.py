"""A host believes a tarball by its signature, and unpacks no other where that is required."""

from __future__ import annotations

import json

import minisign
import pytest

from tasks.hosts import ssh
from tasks.hosts.phased import PhaseFailed
from tasks.tarball import stored
from tests.conftest import commit
from tests.end_to_end.test_rollback import current, go_live  # noqa: F401  (fixtures)

pytestmark = pytest.mark.end_to_end


KNOWS = """
from pathlib import Path
keys, told = Path("/srv/shop/release_keys.json"), {told!r}
print(keys.read_text())
if told != "None":
    keys.write_text(told)
"""
"""Prints the keys that the host knows, and gives it others."""


@pytest.fixture
def signed(site):
    """The site's tarball signed by a new key: its public half and the signature."""
    (site.root / "app" / "pub" / "signed.txt").write_text("a commit of its own has a tarball of its own\n")
    commit(site.root)
    assert site.doit("tarball").returncode == 0
    run, pair = site.run, minisign.KeyPair.generate()
    content = run.store.open(stored.stored_key(run, stored.existing(run)))
    return pair.public_key.to_base64().decode(), bytes(pair.secret_key.sign(content)).decode() + "\n"


@pytest.mark.promise("hosts-check-signatures", "keys-are-the-host-s", "the-former-signature-ends")
def test_a_host_unpacks_what_a_known_key_has_signed_and_nothing_else(go_live, current, signed, site):  # noqa: F811
    key, signature = signed
    other = minisign.KeyPair.generate().public_key.to_base64().decode()
    before = ssh.python(site.host, "server", KNOWS.format(told="None"))
    try:
        told = {"public_keys": [other, key], "signatures": "required"}
        ssh.python(site.host, "server", KNOWS.format(told=json.dumps(told)))
        go_live("signed", release_signature=signature)
        assert current() == "signed"
        with pytest.raises(PhaseFailed, match="is not signed, and this host takes signed ones only"):
            go_live("unsigned", release_signature="")
        ssh.python(site.host, "server", KNOWS.format(told=json.dumps({**told, "public_keys": [other]})))
        with pytest.raises(PhaseFailed, match="is signed by none of the keys"):
            go_live("forged", release_signature=signature)
        assert current() == "signed"
    finally:
        ssh.python(site.host, "server", KNOWS.format(told=before.strip() + "\n"))
