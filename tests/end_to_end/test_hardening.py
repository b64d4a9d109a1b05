"""What lynis says of a provisioned host, once what a container cannot have is left out, each with its reason in the docs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tasks.hosts import ssh
from tests.conftest import ROOT

PROFILE = Path(__file__).with_name("lynis.prf")
WANTED = 80
AUDIT = """
import json, os, pathlib, re, subprocess
os.umask(0o077)
apt = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
def run(*words):
    return subprocess.run(words, env=apt, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True)
run("apt-get", "update", "--quiet")
installed = run("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "lynis")
assert installed.returncode == 0, installed.stdout
profile, log, report = map(pathlib.Path, ("/run/lynis.prf", "/run/lynis.log", "/run/lynis.dat"))
try:
    profile.write_text(PROFILE)
    run("lynis", "audit", "system", "--quick", "--no-colors", "--profile", profile, "--logfile", log, "--report-file", report)
    print(json.dumps([report.read_text(), log.read_text(), pathlib.Path("/etc/lynis/default.prf").read_text(),
                      pathlib.Path("/etc/sysctl.d/60-server.conf").read_text()]))
finally:
    run("apt-get", "purge", "--yes", "--quiet", "lynis")
    for each in (profile, log, report):
        each.unlink(missing_ok=True)
"""


def skipped():
    """The tests that are left out."""
    return re.findall(r"^skip-test=(\S+)$", PROFILE.read_text(), re.M)


@pytest.mark.promise("lynis-gives-eighty")
def test_each_test_that_is_left_out_has_its_reason_in_the_docs_and_no_other_has_one():
    page = (ROOT / "docs" / "cloud.md").read_text()
    section = page.partition("## What lynis leaves out")[2].partition("\n## ")[0]
    reasons = dict(re.findall(r"^\| `([A-Z]+-\d+\S*)` \| (.+) \|$", section, re.M))
    assert sorted(reasons) == sorted(skipped()) != []
    assert all(len(each.split()) > 5 for each in reasons.values())


def lost(log):
    """What each test cost, and the sum, from lynis's own log."""
    found, test = {}, ""
    for line in log.splitlines():
        test = m[1] if (m := re.search(r"Performing test ID (\S+)", line)) else test
        if m := re.search(r"hardening points \((\d+) of (\d+)\)", line):
            found[test] = found.get(test, 0) + int(m[2]) - int(m[1])
    return {name: points for name, points in found.items() if points}


@pytest.mark.end_to_end
@pytest.mark.long(
    short="tests/end_to_end/test_hardening.py::test_each_test_that_is_left_out_has_its_reason_in_the_docs_and_no_other_has_one"
)
@pytest.mark.promise("lynis-gives-eighty")
def test_lynis_gives_a_host_eighty_and_what_it_cannot_apply_is_written(site):
    said = ssh.python(site.host, "server", f"PROFILE = {PROFILE.read_text()!r}\n{AUDIT}")
    report, log, default, sysctl = json.loads(said.splitlines()[-1])
    index = int(re.search(r"^hardening_index=(\d+)$", report, re.M)[1])
    assert index >= WANTED, f"{index}: {lost(log)}"
    assert set(skipped()) & set(lost(log)) == set(), "it is left out"
    # the kernel's settings are left out as a container cannot apply them: they are written all the same
    written = dict(re.findall(r"^([\w.]+) = (\S+)$", sysctl, re.M))
    wanted = dict(re.findall(r"^config-data=sysctl;([\w.]+);([^;]+);", default, re.M))
    both = wanted.keys() & written.keys()
    assert len(both) > 20
    assert {each: written[each] for each in both if written[each] not in wanted[each].split("|")} == {}
