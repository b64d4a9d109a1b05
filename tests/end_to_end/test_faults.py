"""The same release on a cloud with the faults of AWS: slow, forgetful, throttling, with pages of five."""

from __future__ import annotations

import pytest

from tests.conftest import copy_project, doit
from tests.end_to_end.conftest import Site


@pytest.mark.end_to_end
@pytest.mark.long(
    short="tests/bucket/test_lease.py::test_on_a_cloud_that_answers_409_now_and_then_it_is_the_same"
)
def test_a_cloud_with_faults_takes_the_same_release_and_gives_it_back(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    root = copy_project(tmp_path / "shop")
    try:
        assert doit(root, "cloud", "start", CLOUD_FAULTS="1").returncode == 0
        site = Site(root=root, variables={})
        assert set(site.stages("release").values()) == {"done"}
        assert site.get()[0] == 200
        assert set(site.stages("release").values()) == {"unchanged"}
        assert site.stages("teardown") == {"teardown": "done"}
        assert site.stages("teardown") == {"teardown": "unchanged"}
    finally:
        assert doit(root, "cloud", "delete").returncode == 0
