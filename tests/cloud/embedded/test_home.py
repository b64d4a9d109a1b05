"""The identity file of a cloud."""

from __future__ import annotations

import json

import pytest

from tasks.cloud.embedded.home import CloudDamaged, CloudIdentity, Home, HomeRefused


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


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": 1}', '{"pid": "x", "started": 1}', "\udcff"])
def test_a_damaged_note_of_the_server_counts_as_no_server(tmp_path, text):
    (tmp_path / "server.json").write_bytes(text.encode(errors="surrogateescape"))
    assert Home(folder=tmp_path).running() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"colour": 1}', "\udcff"])
def test_a_damaged_identity_is_refused_with_its_file(tmp_path, text):
    (tmp_path / "cloud.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CloudDamaged, match=rf"{tmp_path}/cloud\.json is damaged"):
        Home(folder=tmp_path).identity()


def test_a_folder_that_cannot_be_made_is_a_refusal(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeRefused, match="cannot be made: Not a directory"):
        Home(folder=tmp_path / "file" / "cloud").make()
