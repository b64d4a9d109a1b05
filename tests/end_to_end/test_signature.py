"""A host believes a tarball by its signature, and unpacks no other where that is required."""

from __future__ import annotations

import minisign
import pytest

from tasks.hosts.phased import PhaseFailed
from tasks.tarball import stored
from tests.conftest import commit
from tests.end_to_end.test_rollback import current, go_live  # noqa: F401  (fixtures)

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def signed(site):
    """The site's tarball signed by a new key: its public half and the signature."""
    (site.root / "app" / "pub" / "signed.txt").write_text("a commit of its own has a tarball of its own\n")
    commit(site.root)
    assert site.doit("tarball").returncode == 0
    run, pair = site.run, minisign.KeyPair.generate()
    content = run.store.open(stored.stored_key(run, stored.existing(run)))
    return pair.public_key.to_base64().decode(), bytes(pair.secret_key.sign(content)).decode() + "\n"


@pytest.mark.promise("hosts-check-signatures")
def test_a_host_unpacks_what_a_known_key_has_signed_and_nothing_else(go_live, current, signed):  # noqa: F811
    key, signature = signed
    other = minisign.KeyPair.generate().public_key.to_base64().decode()
    required = {"release_public_keys": [other, key], "release_signatures": "required"}
    go_live("signed", release_signature=signature, **required)
    assert current() == "signed"
    with pytest.raises(PhaseFailed, match="is not signed, and this host takes signed ones only"):
        go_live("unsigned", release_signature="", **required)
    with pytest.raises(PhaseFailed, match="is signed by none of the keys"):
        go_live("forged", release_signature=signature, release_public_keys=[other])
    assert current() == "signed"
