"""The whole way: a commit becomes a shop on a machine of its own, again does nothing, and leaves nothing."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests import leaks
from tests.clouds import authority_of, secrets_of
from tests.conftest import DOIT, commit, git, until
from tests.end_to_end.conftest import Site

pytestmark = pytest.mark.end_to_end


def processes_of(root):
    """Command lines of the processes that were started for a project, the cloud's server apart."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if (
                (folder / "cwd").readlink().is_relative_to(root)  # children have an environment of their own
                and "cloud" not in command
            ):
                found.append(command)
    return found


UNCHANGED = dict.fromkeys(["infrastructure", "tarball", "server", "release"], "unchanged")


@pytest.mark.promise("a-price-shows")
def test_the_shop_shows_products_and_a_price_changed_in_the_database_appears(site, tmp_path):
    status, page = site.get()
    assert status == 200
    price = re.search(r"\d+[.,]\d\d", page)
    assert price, page
    site.ssh('mysql shop -e "UPDATE catalog_product SET price = 4321.09"', tmp=tmp_path)
    until(lambda: re.search(r"4.?321[.,]09", site.get()[1]))


@pytest.mark.promise("health-names-what-fails", "failures-of-jobs-are-logged")
def test_with_the_database_stopped_the_health_check_fails_and_a_consumer_says_so(site, tmp_path):
    assert site.get("/health_check.php")[0] == 200
    site.ssh("systemctl stop mariadb", tmp=tmp_path)
    try:
        assert site.get("/health_check.php")[0] == 503
        logged = "journalctl --no-pager --unit=worker-product_action_attribute.update@1"
        until(lambda: "SQLSTATE" in site.ssh(logged, tmp=tmp_path))
    finally:
        site.ssh("systemctl start mariadb", tmp=tmp_path)
    assert site.get("/health_check.php")[0] == 200


@pytest.mark.promise("the-administrator-signs-in", "a-category-lists-its-products")
def test_the_administrator_signs_in_and_the_category_lists_what_the_search_engine_has(site):
    told = json.loads(site.doit("secrets", "--json", "show", "admin").stdout)
    shown = [line.split()[0] for line in site.doit("secrets", "show", "admin").stdout.splitlines()]
    assert shown == [*told] == ["user", "password", "code", "page"]
    assert site.doit("open", "admin").stdout == f"{told['page']}\n"
    status, page = site.get("/admin", urlencode({name: told[name] for name in ("user", "password", "code")}))
    assert (status, "Dashboard" in page) == (200, True)
    assert len(re.findall('class="product"', site.get()[1])) == 9


@pytest.mark.promise("a-host-name-shows-its-store")
def test_a_store_is_shown_under_its_own_host_name(site):
    own, german = site.run.host_names
    assert german == f"de.{own}"
    assert "Frühlingsbecher" in site.get("/spring-mug.html", host_name=german)[1]
    assert "Spring Mug" in site.get("/spring-mug.html")[1]
    assert site.get("/de/")[0] == 302  # to the store's own name
    assert site.doit("open", "de").stdout == f"{site.run.url_of(german)}\n"


@pytest.mark.promise("the-template-says-all")
def test_a_request_that_would_write_into_the_configuration_leaves_no_drift(site, tmp_path):
    status, answer = site.get("/graphql", "{}")
    assert (status, json.loads(answer)["data"]["products"]["total_count"]) == (200, 9)
    owned = site.ssh("stat -c %U:%G:%a /srv/shop/shared/app/etc/env.php", tmp=tmp_path)
    assert owned.strip() == "root:web-shop:640"
    assert site.stages("release") == UNCHANGED


@pytest.mark.promise("again-does-nothing")
def test_the_same_again_does_nothing_and_says_why(site):
    answered = site.doit("release")
    assert answered.returncode == 0, answered.stderr
    lines = [line for line in answered.stdout.splitlines() if " unchanged " in line]
    assert sorted(line.split()[0] for line in lines) == sorted(UNCHANGED), answered.stdout
    assert "nothing to do in" in answered.stdout.splitlines()[-1]


NOTES_CALLS = """
import os
from botocore.client import BaseClient
make = BaseClient._make_api_call
def noted(self, operation, parameters):
    with open(os.environ["CALLS"], "a") as file:
        file.write(f"{self.meta.service_model.service_name}:{operation}\\n")
    return make(self, operation, parameters)
BaseClient._make_api_call = noted
"""
ASKS = {
    "ec2:DescribeInstances": 2,
    "ec2:DescribeKeyPairs": 1,
    "ec2:DescribeSecurityGroups": 1,
    "route53:ListHostedZonesByName": 1,
    "route53:ListResourceRecordSets": 2,
    "s3:GetBucketTagging": 1,
    "s3:ListObjectsV2": 2,
    "s3:HeadObject": 1,
    "s3:GetObject": 16,
    "s3:PutObject": 2,
    "ssm:GetParametersByPath": 3,
}
"""What a release with nothing to do asks of the cloud, and how often at most: the two writes are its lease's."""


@pytest.mark.promise("nothing-to-do-asks-little")
def test_a_release_with_nothing_to_do_asks_little_of_the_cloud(site, tmp_path):
    site.stages("release")
    (tmp_path / "sitecustomize.py").write_text(NOTES_CALLS)
    calls = tmp_path / "calls"
    site.doit("release", PYTHONPATH=f"{tmp_path}:{site.root}", CALLS=str(calls))
    assert collections.Counter(calls.read_text().split()) <= collections.Counter(ASKS)


@pytest.mark.promise("again-does-nothing")
def test_what_one_shallow_clone_has_released_is_unchanged_in_another_one_at_another_place(site, tmp_path):
    clones = [tmp_path / name for name in ("one", "another/deeper")]
    for clone in clones:
        git(tmp_path, "clone", "-q", "--depth", "1", f"file://{site.root}", str(clone))
    first, second = (Site(root=clone, variables={}).stages("release") for clone in clones)
    # only a clone knows that its branch was pushed, which is a tag of the machines
    assert first in (UNCHANGED, {**UNCHANGED, "infrastructure": "done"})
    assert second == UNCHANGED


def style_sheet(site):
    """The style sheet that a new page names."""
    return re.search(r"/static/version[^/]+/\S+\.css", site.get(f"/?q={time.monotonic_ns()}")[1])[0]


@pytest.mark.promise("plan-says-what-runs", "a-page-s-own-static-files")
def test_a_change_runs_only_the_stages_that_depend_on_it(site):
    assert site.doit("infrastructure").returncode == 0  # a clone with another remote may have released it
    sheet = style_sheet(site)
    before = site.get(sheet)
    style = site.root / "app/app/code/Shop/Catalog/view/frontend/web/css/source/_module.less"
    style.write_text(style.read_text() + "\n.changed { color: #123456; }\n")
    commit(site.root)
    planned = site.doit("plan", "--detailed-exitcode")
    assert planned.returncode == 2
    lines = [line.split(maxsplit=2) for line in planned.stdout.splitlines()]
    assert ["tarball", "run", "app changed"] in lines
    assert ["release", "maybe", "if the outcome of tarball differs"] in lines
    assert site.stages("release") == {**UNCHANGED, "tarball": "done", "release": "done"}
    assert site.get(sheet) == before
    assert "#123456" in site.get(style_sheet(site))[1]
    assert site.get(re.sub("version[^/]+", "versionX", sheet))[0] == 404
    assert site.get("/static/version../release_keys.json")[0] == 404
    assert site.doit("plan", "--detailed-exitcode").returncode == 0
    role = site.root / "roles" / "nginx" / "tasks" / "main.yml"
    role.write_text(role.read_text() + "# a change\n")
    commit(site.root)
    assert "server: run: roles/nginx changed" in site.doit("why", "server").stdout
    assert "expected: about " in site.doit("plan").stdout.splitlines()[-1]
    assert site.stages("release") == {**UNCHANGED, "server": "done"}
    role = site.root / "roles" / "release" / "tasks" / "main.yml"
    role.write_text(role.read_text() + "# a change\n")
    commit(site.root)
    assert site.stages("release") == {**UNCHANGED, "release": "done"}
    (site.root / "README.md").write_text("another\n")
    commit(site.root)
    assert site.stages("release") == UNCHANGED


@pytest.mark.promise("a-changed-configuration-is-imported")
def test_a_changed_configuration_is_imported_into_the_live_release(site, tmp_path):
    template = site.root / "applications" / "magento2" / "env.php.j2"
    known = "'seo' => ['use_rewrites' => '1'"
    template.write_text(template.read_text().replace(known, f"{known}, 'known' => '1'"))
    commit(site.root)
    assert site.stages("release") == {**UNCHANGED, "server": "done"}
    assert "'known'" in site.ssh("grep use_rewrites /srv/shop/shared/app/etc/env.php", tmp=tmp_path)
    assert site.get("/?q=never-asked-for-before")[0] == 200


@pytest.mark.promise("provisioning-again-changes-nothing", "passwords-are-no-arguments")
def test_provisioning_again_changes_nothing_and_no_secret_is_in_a_process_list(site):
    assert site.doit("forget", "server").returncode == 0
    with leaks.ProcessLists().watching() as lists:
        answered = site.doit("release")
    assert answered.returncode == 0, answered.stderr
    (line,) = [line for line in answered.stdout.splitlines() if line.startswith("server ")]
    assert " 0 changed" in line
    ran = b"\n".join(lists.seen)
    assert b"sudo" in ran
    assert not leaks.leaked(leaks.words(secrets_of(site.run), authority_of(site.run)), ran)


@pytest.mark.promise("uncommitted-only-where-allowed")
def test_uncommitted_files_are_released_where_allowed_and_named(site):
    (site.root / "app" / "pub" / "probe.txt").write_text("x")
    try:
        answered = site.doit("tarball")
        assert answered.returncode == 0, answered.stderr
        assert "takes 1 uncommitted files: app/pub/probe.txt" in answered.stdout
        refused = site.doit("environment=staging", "tarball")
        assert refused.returncode == 1
        assert "staging takes committed files only, these differ: app/pub/probe.txt" in refused.stderr
    finally:
        (site.root / "app" / "pub" / "probe.txt").unlink()


@pytest.mark.promise("digest-is-always-printed")
def test_the_tarball_prints_its_digest_also_when_unchanged(site):
    site.doit("tarball")
    printed = re.findall(r"\b[0-9a-f]{64}\b", site.doit("tarball").stdout)
    assert len(printed) == 1


@pytest.mark.promise("secrets-are-nowhere-else", "no-secret-in-records")
def test_no_secret_is_in_the_checkout_the_bucket_a_tarball_a_log_or_a_journal(site, tmp_path):
    run = site.run
    hidden = leaks.words(secrets_of(run), authority_of(run))
    for path in site.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert not leaks.leaked(hidden, path.read_bytes()), path
    keys = list(run.store.keys(""))
    assert any(each.endswith(".tar.zst") for each in keys)
    for key in keys:
        data = run.cloud.client("s3").get_object(Bucket=run.bucket, Key=key)["Body"].read()
        assert not leaks.leaked(hidden, data), key
    assert not leaks.leaked(hidden, site.ssh("journalctl --no-pager", tmp=tmp_path).encode())


@pytest.mark.long(short="tests/hosts/test_ansible.py::test_an_interruption_ends_a_play")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.promise("interrupted-stage-runs-again", "an-interruption-ends-children")
def test_an_interruption_ends_everything(site, number):
    assert site.doit("forget", "server").returncode == 0
    child = subprocess.Popen(
        [DOIT, "release"],
        cwd=site.root,
        env={**os.environ, "PYTHONPATH": str(site.root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in child.stdout:
        if "server " in line:  # Ansible is at work
            break
    time.sleep(1)
    child.send_signal(number)
    said = child.stdout.read()
    code = child.wait(timeout=20)
    assert code == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], said
    assert "Traceback" not in said
    assert "released in" not in said
    assert "https://" not in said
    until(lambda: processes_of(site.root) == [])  # the watcher looks three times whether anything is left
    assert site.stages("release") == {**UNCHANGED, "server": "done"}


@pytest.mark.long(
    short="tests/end_to_end/test_ledger.py::test_another_branch_has_a_host_name_data_and_settings_of_its_own"
)
def test_a_release_makes_anew_what_was_torn_down(site):
    assert site.doit("teardown").returncode == 0
    assert site.left() == []
    answered = site.doit("release")
    assert answered.returncode == 0, answered.stderr
    assert site.get()[0] == 200
