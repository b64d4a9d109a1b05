"""What a run proves: only what its stages did, for the tarball of its commit."""

from __future__ import annotations

import pytest

from tasks.bucket import cache, layout
from tasks.digest import Digest
from tasks.infrastructure import stage as infrastructure
from tasks.promotion import gate
from tasks.promotion import record as promotion_record
from tasks.promotion.gate import Proof
from tasks.release import history
from tasks.tarball.stored import Pointer
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (a fixture)
from tests.clouds import QuietCloud, run_in
from tests.conftest import commit

DIGEST, OTHER = Digest("d" * 64), Digest("e" * 64)


@pytest.fixture
def run(checkout, server):  # noqa: F811
    (checkout / "README.md").write_text(str(checkout))
    commit(checkout)  # of no other test
    made = run_in(checkout, QuietCloud(REGION, server.home.load()), environment="staging")
    infrastructure.share(made)
    for key in (layout.CURRENT_RUN, layout.history("staging")):
        made.store.delete(key)
    return made


@pytest.mark.parametrize(
    ("proof", "why"),
    [
        (Proof(digest=DIGEST), None),
        (Proof(digest=DIGEST, idle=("server",)), "server did not run"),
        (Proof(digest=OTHER), "eeeeeeeeeeee is live, and the commit has dddddddddddd"),
        (Proof(digest=None), "no tarball is live"),
    ],
)
def test_a_run_proves_the_tarball_that_its_own_stages_put_live(run, proof, why):
    key = layout.record(cache.of(run).writes, "commits", run.commit)
    run.store.write(key, Pointer(digest=DIGEST).as_dict(), seen=None)
    finish = gate.begin(run, "start", ["release"])
    refused = finish(proof)
    state = promotion_record.read(run.store, run.commit).state
    if why is None:
        assert (refused, state) == (None, "waiting")
        assert history.read(run.store, "staging")[-1].digest == DIGEST
    else:
        assert why in refused.text
        assert state == "failed"
        assert history.read(run.store, "staging") == []
