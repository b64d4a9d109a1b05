"""A testing host ends itself when its time is over, unless somebody keeps it; asleep, it keeps what it has."""

from __future__ import annotations

import pytest

from tasks.infrastructure import find
from tests.conftest import until
from tests.end_to_end.conftest import Site

pytestmark = pytest.mark.end_to_end
LINK = "/srv/shop/current"


def states(site):
    """Its machines' states; one that has ended is none."""
    return [each.state for each in find.everything(site.run).machines]


@pytest.mark.promise("keep-tells-the-hosts")
def test_a_host_past_its_time_stays_as_long_as_somebody_keeps_it(site, tmp_path):
    kept = site.doit("keep", "3")
    assert kept.returncode == 0, kept.stderr
    assert "is kept until" in kept.stdout
    assert site.ssh("systemctl is-active self_shutdown.timer", tmp=tmp_path).strip() == "active"
    try:
        site.ssh(f"touch --no-dereference --date=@1 {LINK} && systemctl start self_shutdown", tmp=tmp_path)
        assert states(site) == ["running"]
    finally:
        site.ssh(f"touch --no-dereference {LINK} && rm /var/lib/self_shutdown/keep-until", tmp=tmp_path)


@pytest.mark.long(
    short="tests/cloud/embedded/test_instances.py::test_a_host_that_shuts_itself_down_ends_as_it_was_launched"
)
def test_what_slept_has_its_data_and_what_is_past_its_time_is_gone(project, tmp_path):
    site = Site(root=project, variables={"branch": "guarded"})
    assert site.doit("release").returncode == 0
    site.ssh("echo data > /srv/shop/shared/kept", tmp=tmp_path)
    slept = site.doit("sleep")
    assert slept.returncode == 0, slept.stderr
    assert states(site) == ["stopped"]
    assert site.doit("sleep").returncode == 1
    woken = site.doit("wake")
    assert woken.returncode == 0, woken.stderr
    assert site.ssh("cat /srv/shop/shared/kept", tmp=tmp_path).strip() == "data"
    until(lambda: site.get()[0] == 200)
    site.ssh(
        f"touch --no-dereference --date=@1 {LINK} && systemctl start --no-block self_shutdown", tmp=tmp_path
    )
    until(lambda: states(site) == [], 60)
    assert site.doit("teardown").returncode == 0
