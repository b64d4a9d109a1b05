"""The profile `static` on a real host: a folder of files, and no service but the web server."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("pages")]


def test_a_site_of_files_is_released_unchanged_and_changed(pages, tmp_path):
    first = pages.stages("release")
    assert {first[each] for each in ("infrastructure", "tarball", "server", "release")} == {"done"}
    assert pages.get()[0] == 200
    assert "<h1>About</h1>" in pages.get("/about")[1]
    assert (pages.get("/build.mjs")[0], pages.get("/.complete")[0]) == (404, 403), "not its sources"

    again = pages.stages("release")
    assert set(again.values()) == {"unchanged"}

    about = pages.root / "app" / "pages" / "about.html"
    about.write_text("<h1>About us</h1>\n")
    changed = pages.stages("release")
    assert (changed["infrastructure"], changed["server"]) == ("unchanged", "unchanged")
    assert (changed["tarball"], changed["release"]) == ("done", "done")
    assert "<h1>About us</h1>" in pages.get("/about")[1]

    selected = pages.ssh("dpkg --get-selections", tmp=tmp_path).splitlines()
    packages = [line.split()[0] for line in selected if line.endswith("\tinstall")]
    assert "nginx" in packages
    assert [each for each in packages if each.startswith(("php", "mariadb", "varnish", "redis"))] == []
    listening = pages.ssh("ss --listening --tcp --numeric --no-header", tmp=tmp_path).splitlines()
    assert {line.split()[3].rpartition(":")[2] for line in listening} == {"22", "80", "8090"}
    secrets = pages.run.cloud.client("ssm").get_parameters_by_path(Path=pages.run.secrets_folder)[
        "Parameters"
    ]
    assert sorted(each["Name"].rpartition("/")[2] for each in secrets) == ["deploy_key", "deploy_key_public"]
    assert "pages" not in pages.ssh("ls /etc/logrotate.d /etc/cron.d", tmp=tmp_path).split()
