"""The identity file of a cloud."""

from __future__ import annotations

import json

from tasks.cloud.embedded.home import CloudIdentity, Home


def test_an_identity_with_the_former_name_of_faults_is_read_and_written_with_the_new_one(tmp_path):
    home = Home(folder=tmp_path)
    former = {"id": "x", "subnet": "10.250.251.0/24", "gateway": "10.250.251.1", "awkward": True}
    (tmp_path / "cloud.json").write_text(json.dumps(former))
    found = home.load()
    assert found == CloudIdentity(id="x", subnet="10.250.251.0/24", gateway="10.250.251.1", faults=True)
    home.change(found, paused=True)
    written = json.loads((tmp_path / "cloud.json").read_text())
    assert written["faults"] is True
    assert "awkward" not in written
