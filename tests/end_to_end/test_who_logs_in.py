"""Who is listed logs in to a host, as an administrator, and nobody else does."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from tasks.hosts import ssh
from tasks.hosts.ssh import LoginRefused
from tests.conftest import commit
from tests.end_to_end.test_logins import another_key

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("pages")]


def administrators(text, *listed):
    """Settings of an environment, with those who administrate."""
    said = yaml.safe_load(text)
    server = said.get("server", {})
    base = {**server.get("base", {}), "administrators": [*listed]}
    return yaml.safe_dump({**said, "server": {**server, "base": base}})


@pytest.mark.promise("administrators-come-and-go", "others-do-not-log-in")
def test_who_is_listed_logs_in_and_becomes_root_and_who_is_not_any_more_does_neither(pages, tmp_path):
    (tmp_path / "alice").mkdir()
    private, public = another_key(tmp_path / "alice")
    alice = dataclasses.replace(pages.host, user="alice", key=private)
    settings = pages.root / "environments" / "testing.yml"
    said = settings.read_text()
    try:
        settings.write_text(administrators(said, f"alice {public.strip()}"))
        commit(pages.root)
        added = pages.doit("server")
        assert added.returncode == 0, added.stdout + added.stderr
        assert ssh.python(alice, "server", "import os; print(os.getuid())") == "0"
        keys = "/home/bob/.ssh"
        pages.ssh(
            f"useradd -m bob; mkdir {keys}; echo {public.strip()} > {keys}/authorized_keys; chown -R bob {keys}",
            tmp=tmp_path,
        )
        with pytest.raises(LoginRefused, match="bob"):
            ssh.python(dataclasses.replace(alice, user="bob"), "server", "print(1)")
        pages.ssh("userdel --remove bob 2>&1", tmp=tmp_path)
        settings.write_text(administrators(said, f"daemon {public.strip()}"))
        commit(pages.root)
        refused = pages.doit("server")
        assert refused.returncode != 0
        assert "base.administrators: daemon is a user of the host already" in refused.stdout + refused.stderr
    finally:
        settings.write_text(said)
        commit(pages.root)
    removed = pages.doit("server")
    assert removed.returncode == 0, removed.stdout + removed.stderr
    with pytest.raises(LoginRefused, match="alice"):
        ssh.python(alice, "server", "print(1)")
    assert pages.ssh("getent passwd alice || echo nobody", tmp=tmp_path) == "nobody"
