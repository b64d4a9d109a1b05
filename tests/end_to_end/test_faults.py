"""The same release on a cloud with the faults of AWS: slow, forgetful, throttling, with pages of five."""

from __future__ import annotations

import pytest

from tests.conftest import copy_project, doit
from tests.end_to_end.conftest import Site


@pytest.mark.end_to_end
@pytest.mark.long(short="tests/test_iam.py::test_a_role_does_its_whole_job_and_is_given_nothing_beyond_it")
def test_a_cloud_with_faults_takes_the_same_release_and_gives_it_back(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    root = copy_project(tmp_path / "shop")
    try:
        assert doit(root, "cloud", "start", CLOUD_FAULTS="1").returncode == 0
        site = Site(root=root, variables={})
        assert set(site.stages("release").values()) == {"done"}
        assert site.get()[0] == 200
        assert set(site.stages("release").values()) == {"unchanged"}
        answers = [site.stages("teardown")["teardown"] for _ in range(3)]
        # a list that is behind still names what is gone, which is deleted again
        assert (answers[0], answers[-1]) == ("done", "unchanged")
    finally:
        assert doit(root, "cloud", "delete").returncode == 0
