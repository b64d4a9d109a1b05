"""Roles of others: only what has the digest is unpacked, and what cannot be had is a sentence that loses nothing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile

import pytest

from tasks import required_roles
from tasks.required_roles import RoleNotFetched
from tasks.settings import SettingMissing, SettingWrong
from tasks.settings import required_roles as required
from tests.conftest import ROOT
from tests.roles.others import FILES, shelf


@pytest.fixture
def root(tmp_path):
    """A checkout that has nothing but requirements.yml."""
    (tmp_path / "shop" / "roles").mkdir(parents=True)
    (tmp_path / "shop" / "requirements.yml").write_text((ROOT / "requirements.yml").read_text())
    return tmp_path / "shop"


@pytest.fixture
def served(tmp_path):
    with shelf(tmp_path / "shelf") as made:
        yield made


def fetch(root, code=0):
    """What `build/ci/run roles` becomes."""
    answered = subprocess.run(
        [sys.executable, "-P", "-m", "tasks.required_roles"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT), "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answered.returncode == code, answered.stdout + answered.stderr
    assert "Traceback" not in answered.stderr
    return answered.stderr if code else answered.stdout


def kept(root):
    """Everything below the folder of the roles of others."""
    return sorted(str(each.relative_to(root / ".run/roles")) for each in (root / ".run/roles").rglob("*"))


def accepted(root):
    required.cache_clear()  # a command has a process of its own
    return required_roles.accept(root)


def test_the_project_s_own_file_requires_none(root):
    assert fetch(root) == ""
    assert accepted(root) == {}


@pytest.mark.promise("roles-of-others-by-digest")
def test_a_role_is_fetched_once_below_its_digest_and_goes_with_its_line(root, served):
    digest = served.put()
    served.require(root, digest)
    with pytest.raises(RoleNotFetched, match=r"greeting 1\.2\.0 is not fetched here\n    build/ci/run roles"):
        accepted(root)
    assert fetch(root) == "roles  greeting 1.2.0  fetched\n"
    here = root / ".run" / "roles" / digest / "greeting"
    assert {str(each.relative_to(here)) for each in here.rglob("*.yml")} == set(FILES)
    assert not [each for each in here.rglob(".*") if each.is_file()], (
        "nothing that differs from clone to clone"
    )
    assert accepted(root) == {"greeting": f"1.2.0 {digest}"}
    assert required_roles.search_path(root) == [root / "roles", here.parent]
    (served.folder / "1.2.0.tar.gz").unlink()
    assert fetch(root) == "roles  greeting 1.2.0  unchanged\n"
    (root / "requirements.yml").write_text("roles: []\n")
    assert fetch(root) == ""
    assert kept(root) == []


def test_another_version_is_another_role(root, served):
    served.require(root, served.put())
    fetch(root)
    served.require(root, digest := served.put({**FILES, "README": "2"}, "2.0.0"), "2.0.0")
    with pytest.raises(RoleNotFetched, match=r"greeting 2\.0\.0 is not fetched here"):
        accepted(root)
    assert fetch(root) == "roles  greeting 2.0.0  fetched\n"
    assert [each for each in kept(root) if "/" not in each] == [digest]


@pytest.mark.promise("roles-of-others-by-digest")
def test_files_that_were_changed_since_are_refused_and_fetched_again(root, served):
    served.require(root, digest := served.put())
    fetch(root)
    file = root / ".run" / "roles" / digest / "greeting" / "tasks" / "debian.yml"
    before = file.read_text()
    file.write_text(f"{before}# by hand\n")
    with pytest.raises(RoleNotFetched, match="was changed here after it was fetched\n    build/ci/run roles"):
        accepted(root)
    assert fetch(root) == "roles  greeting 1.2.0  fetched\n"
    assert file.read_text() == before


@pytest.mark.promise("roles-of-others-by-digest")
def test_nothing_of_another_tarball_is_unpacked(root, served):
    meant = served.put()
    found = served.put({**FILES, "tasks/main.yml": "- command: evil\n"})
    served.require(root, meant)
    assert fetch(root, code=1) == (
        f"roles: greeting 1.2.0: {served.url}/1.2.0.tar.gz: has the SHA-256 {found}, not {meant}\n"
        "    $EDITOR requirements.yml\n"
    )
    assert kept(root) == []


def test_what_was_fetched_before_outlives_a_failure(root, served):
    served.require(root, digest := served.put())
    fetch(root)
    served.require(root, "0" * 64, "9.9.9")
    assert "9.9.9.tar.gz: answers 404" in fetch(root, code=1)
    served.require(root, digest)
    assert accepted(root) == {"greeting": f"1.2.0 {digest}"}


def test_a_version_that_the_server_lacks_is_a_sentence(root, served):
    served.require(root, served.put(), "1.3.0")
    assert fetch(root, code=1) == (
        f"roles: greeting 1.3.0: {served.url}/1.3.0.tar.gz: answers 404\n"
        "    $EDITOR requirements.yml && build/ci/run roles\n"
    )


def test_no_network_is_a_sentence(root, tmp_path):
    with shelf(tmp_path / "gone") as gone:
        digest = gone.put()
    gone.require(root, digest)
    said = fetch(root, code=1)
    assert said.startswith(f"roles: greeting 1.2.0: {gone.url}/1.2.0.tar.gz: does not answer: ")
    assert "refused" in said


def test_an_answer_that_is_cut_off_is_a_sentence(root, served):
    digest = served.put()
    whole = served.folder / "1.2.0.tar.gz"
    whole.write_bytes(whole.read_bytes()[:-40])
    served.require(root, digest)
    assert "has the SHA-256" in fetch(root, code=1)


def member(name, kind=tarfile.REGTYPE, target=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.mark.parametrize(
    "bad",
    [
        member("../escaped"),
        member("greeting-1.2.0/../../escaped"),
        member("/etc/escaped"),
        member("greeting-1.2.0/files/link", tarfile.SYMTYPE, "../../../escaped"),
        member("greeting-1.2.0/files/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("greeting-1.2.0/files/link", tarfile.LNKTYPE, "/etc/passwd"),
        member("greeting-1.2.0/files/link", tarfile.LNKTYPE, "../escaped"),
        member("greeting-1.2.0/files/device", tarfile.CHRTYPE),
        member("greeting-1.2.0/files/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda bad: f"{bad.name} {bad.type.decode()} {bad.linkname}",
)
@pytest.mark.promise("roles-of-others-by-digest")
def test_a_tarball_that_leads_out_of_its_folder_is_not_unpacked(root, served, bad):
    served.require(root, served.put(FILES, "1.2.0", bad))
    assert f"{bad.name} would lie outside of the role's folder, or is neither file, folder nor link" in fetch(
        root, 1
    )
    assert kept(root) == []


@pytest.mark.parametrize(
    ("names", "blamed"),
    [
        # as texts these stay within; through the first link the second one is above the role
        (
            [("tasks/a/b/up", "../.."), ("tasks/a/b/up/out", "../../..")],
            "tasks/a/b/up/out",
        ),
        ([("tasks/a/up", ".."), ("out", "tasks/a/up/../../..")], "out"),
    ],
)
@pytest.mark.promise("roles-of-others-by-digest")
def test_nothing_is_unpacked_through_a_link(root, served, names, blamed):
    links = [member(f"greeting-1.2.0/{name}", tarfile.SYMTYPE, target) for name, target in names]
    served.require(root, served.put(FILES, "1.2.0", *links))
    assert f"greeting-1.2.0/{blamed} would lie outside" in fetch(root, 1)
    assert kept(root) == []


def test_a_meta_that_is_no_yaml_is_a_sentence(root, served):
    served.require(root, served.put({**FILES, "meta/main.yaml": "a: [\n"}))
    assert "has a meta that is not read" in fetch(root, 1)


def test_a_folder_that_cannot_be_made_is_a_sentence(root):
    (root / ".run").mkdir()
    (root / ".run" / "roles").touch()
    assert fetch(root, code=1).endswith("\n    ls -ld .run/roles\n")


def test_what_lies_in_its_folder_is_no_obstacle(root, served):
    served.require(root, digest := served.put())
    (root / ".run" / "roles").mkdir(parents=True)
    (root / ".run" / "roles" / "notes").touch()
    fetch(root)
    assert [each for each in kept(root) if "/" not in each] == [digest]


def test_a_link_within_the_role_is_kept(root, served):
    link = member("greeting-1.2.0/tasks/ubuntu.yml", tarfile.SYMTYPE, "debian.yml")
    served.require(root, digest := served.put(FILES, "1.2.0", link))
    fetch(root)
    assert (root / ".run/roles" / digest / "greeting/tasks/ubuntu.yml").read_text() == FILES[
        "tasks/debian.yml"
    ]
    assert accepted(root)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"README": "no role"}, "is no role: "),
        (
            {**FILES, "meta/main.yml": "dependencies: [{role: other.base}, more]\n"},
            "needs more, other.base, roles that requirements.yml does not have",
        ),
    ],
)
def test_what_is_no_role_of_its_own_is_refused(root, served, files, problem):
    served.require(root, served.put(files))
    assert problem in fetch(root, code=1)
    assert kept(root) == []


def test_what_is_no_tarball_is_refused(root, served):
    (served.folder / "1.2.0.tar.gz").write_text("<html>")
    served.require(root, hashlib.sha256(b"<html>").hexdigest())
    assert "1.2.0.tar.gz: is no tarball" in fetch(root, code=1)


SHA256 = "a" * 64


@pytest.mark.parametrize(
    ("role", "kind", "problem"),
    [
        (
            {"name": "a", "src": "https://b/c", "sha256": SHA256},
            SettingMissing,
            r"roles\[0\].version: is missing",
        ),
        (
            {"name": "a", "version": "1", "src": "https://b/c"},
            SettingMissing,
            r"roles\[0\].sha256: is missing",
        ),
        ({"name": "a", "version": "1", "src": "c", "sha256": SHA256}, SettingWrong, "should be a URL"),
        (
            {"name": "a", "version": "1", "src": "file:///c", "sha256": SHA256},
            SettingWrong,
            "should be a URL",
        ),
        (
            {"name": "a", "version": "1", "src": "https://b/c", "sha256": "a"},
            SettingWrong,
            "should be a SHA-256",
        ),
        (
            {"name": "a.b", "version": "1", "src": "https://b/c", "sha256": SHA256},
            SettingWrong,
            "a role's name",
        ),
        (
            {"name": "own", "version": "1", "src": "https://b/c", "sha256": SHA256},
            SettingWrong,
            "no other role has",
        ),
    ],
)
def test_a_wrong_line_of_requirements_is_refused(root, role, kind, problem):
    (root / "roles" / "own").mkdir()
    (root / "requirements.yml").write_text(json.dumps({"roles": [role]}))
    required.cache_clear()
    with pytest.raises(kind, match=rf"requirements\.yml:1: .*{problem}"):
        required(root)


def test_two_roles_have_two_names_and_two_tarballs(root):
    one = {"name": "a", "version": "1", "src": "https://b/c", "sha256": SHA256}
    for other in ({**one, "sha256": "b" * 64}, {**one, "name": "b"}):
        (root / "requirements.yml").write_text(json.dumps({"roles": [one, other]}))
        required.cache_clear()
        with pytest.raises(SettingWrong, match=r"requirements\.yml:1: roles\[1\].*no other role has"):
            required(root)
