"""Renewal: one certificate for all branches, ordered of a real ACME authority that asks the embedded Route 53."""

from __future__ import annotations

import dataclasses
import datetime
import io
import itertools
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError
from doit import Globals

from tasks.clock import Clock
from tasks.cloud.embedded.home import Home
from tasks.commands.certificates import CertificatesCommand, CertificatesIncomplete
from tasks.console.console import Console
from tasks.hosts.ansible import Recap
from tasks.hosts.ssh import HostUnreachable
from tasks.infrastructure import hosts, name_servers, secrets, zone
from tasks.infrastructure import stage as infrastructure
from tasks.rotation import rotate
from tasks.server import acme, certificates, drift, renewal
from tasks.server import stage as server_stage
from tasks.server.acme import AuthorityRefused, AuthoritySilent
from tasks.server.challenges import ChallengeTaken
from tasks.server.renewal import CertificateMissing, OrderDenied
from tasks.settings import Acme
from tests import pebble as authorities
from tests.cloud.embedded.conftest import REGION
from tests.clouds import IdleHosts, QuietCloud, run_in
from tests.conftest import ROOT, until
from tests.paper import PaperHosts
from tests.zones import ZoneServer

CONTACT = "operations@example.com"
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the cloud is that judges every call."""
    return tmp_path_factory.mktemp("roles")


@pytest.fixture(scope="module")
def be(folder):
    """How to be a role there, or its administrator."""
    from tests.test_iam import cloud_of_roles  # it reads AWS's own list of actions

    with cloud_of_roles(folder) as roles:
        yield roles


@pytest.fixture(scope="module")
def zones(be, tmp_path_factory):
    made = ZoneServer(be("administrator").client("route53"), tmp_path_factory.mktemp("zones"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def pebble(zones, tmp_path_factory):
    with authorities.running(tmp_path_factory.mktemp("pebble"), zones.port) as running:
        yield running


@pytest.fixture
def look(zones):
    return partial(name_servers.texts, resolvers=zones.resolvers, port=zones.port)


def run_for(checkout, cloud, directory, name, *, contact=CONTACT, now=None):
    """A run of a branch's environment of that name, in a zone of its own, whose certificate is ordered."""
    made = run_in(checkout, cloud, IdleHosts(), Console(stream=io.StringIO()), branch="feature")
    of_zone = {"dns_zone": f"{name}.shop.localhost", "acme": Acme(directory=directory, contact=contact)}
    return dataclasses.replace(
        made,
        environment_name=name,
        environment=dataclasses.replace(made.environment, certificates="acme"),
        pipeline=dataclasses.replace(made.pipeline, **of_zone),
        clock=Clock(now=lambda: now or datetime.datetime.now(datetime.UTC)),
    )


@pytest.fixture
def of(checkout, be, pebble, zones, monkeypatch):
    """A run by role, of an environment that no other test has."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pebble.root))
    zones.blind = False
    name = f"testing-{next(NUMBERS)}"
    administrator = run_for(checkout, be("administrator"), pebble.directory, name)
    infrastructure.share(run_in(checkout, administrator.cloud))
    zone.make(administrator.cloud.client("route53"), administrator.pipeline.dns_zone, "shop", anywhere=True)
    return lambda role, **more: run_for(checkout, be(role), pebble.directory, name, **more)


def challenges_of(run):
    """The records by which somebody has proved, or wanted to, that the zone is his."""
    route53, id = run.cloud.client("route53"), zone.zone_id(run.cloud, run.pipeline.dns_zone)
    found = route53.list_resource_record_sets(HostedZoneId=id)["ResourceRecordSets"]
    return [each["Name"] for each in found if each["Type"] == "TXT"]


def at(run, share):
    """When so much of the life of what is kept is over."""
    begins, ends = certificates.span(renewal.kept(run).pem)
    return begins + (ends - begins) * share


def hang(checkout, home, directory, name, resolvers, port):
    """A run that shows its challenge and never goes on: for a process that is killed."""

    def look(*words):
        name_servers.texts(*words, resolvers=Path(resolvers), port=int(port))
        sys.stdout.write("shown\n")
        sys.stdout.flush()
        time.sleep(600)

    run = run_for(Path(checkout), QuietCloud(REGION, Home(folder=Path(home)).load()), directory, name)
    renewal.order(run, renewal.RENEWED, look)


@pytest.mark.promise("one-certificate-for-all-branches", "no-challenge-stays")
def test_after_an_order_that_was_killed_two_runs_get_one_wildcard_and_leave_nothing(
    of, look, checkout, zones, folder
):
    run, also = of("releaser"), of("releaser")
    told = [folder / "cloud", run.pipeline.acme.directory, run.environment_name, zones.resolvers, zones.port]
    script = "import sys; from tests.server import test_renewal; test_renewal.hang(*sys.argv[1:])"
    command = [sys.executable, "-c", script, checkout, *map(str, told)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as killed:
        assert killed.stdout.readline() == b"shown\n"
        killed.kill()
    name = f"_acme-challenge.{run.pipeline.dns_zone}"
    assert challenges_of(run) == [f"{name}."]
    with ThreadPoolExecutor() as pool:
        said = list(pool.map(lambda each: renewal.order(each, renewal.RENEWED, look), (run, also)))
    assert sorted(each.partition(" valid")[0] for each in said) == ["is", "is a new one,"]
    events = run.console.stream.getvalue() + also.console.stream.getvalue()
    assert events.count(f"removed {name}, which an order had left that did not end") == 1
    assert challenges_of(run) == []
    kept, branch = renewal.kept(run), of("branch")
    for host_name in (branch.host_name, run.pipeline.dns_zone):
        assert certificates.problem(kept.pem, [host_name], run.clock.now()) == ""
    assert "does not have the name a.b." in certificates.problem(kept.pem, [f"a.b.{name}"], run.clock.now())
    variables = server_stage.variables(branch)
    assert (variables["certificates_site"], variables["certificates_own"]) == (kept.pem, False)


@pytest.mark.promise("a-certificate-is-renewed", "a-late-certificate-is-served", "another-s-record-stays")
def test_it_is_renewed_with_a_third_of_its_life_left_and_by_a_release_only_much_later(of, look, monkeypatch):
    run = of("releaser")
    # while the challenge is shown, no slice is long enough for two answers of the authority
    slices = itertools.cycle([datetime.timedelta(milliseconds=1), acme.SLICE])
    run.cloud.client("route53").meta.events.register(
        "after-call.route-53.ChangeResourceRecordSets",
        lambda **_: monkeypatch.setattr(acme, "SLICE", next(slices)),
    )
    monkeypatch.setattr(acme, "WITHIN", 5.0)
    renewal.ensure(run, look)
    first = renewal.kept(run)
    assert renewal.order(of("releaser", now=at(run, 0.6)), renewal.RENEWED, look).startswith("is valid until")
    renewal.ensure(of("releaser", now=at(run, 0.7)), look)
    late = of("branch", now=at(run, 0.9))
    renewal.ensure(late, look)  # it may not order, and what is kept can be served
    said = late.console.stream.getvalue()
    assert "no other certificate was ordered, so hosts keep the one that there is:\ncertificates: *." in said
    assert "and this role may not order one (" in said
    assert renewal.kept(run) == first
    for wrong in (ClientError({"Error": {"Code": "InternalFailure"}}, "GetChange"), KeyError("orders")):
        late = of("releaser", now=at(run, 0.9))
        renewal.ensure(late, raising(wrong))
        assert "so hosts keep the one that there is:\n" in late.console.stream.getvalue()
        assert (challenges_of(run), renewal.kept(run)) == ([], first)
    over = of("releaser", now=at(run, 1.01))
    with pytest.raises(KeyError):
        renewal.ensure(over, raising(KeyError("orders")))
    with pytest.raises(CertificateMissing, match="it is valid only until"):
        server_stage.preview(over)
    assert server_stage.variables(over)["certificates_site"] == first.pem, "a rollback needs none"
    other = "somebody.else@example.com"
    again = of("releaser", now=at(run, 0.7), contact=other)
    assert renewal.order(again, renewal.RENEWED, look).startswith("is a new one")
    assert renewal.kept(run) != first
    key = secrets.account_key(run.cloud.client("ssm"), run.accounts_folder, run.environment_name, list)
    authority = acme._connected(run.pipeline.acme.directory, key)
    acme._sign_up(authority, "")
    assert authority.query_registration(authority.net.account).body.contact == (f"mailto:{other}",)
    records_of_somebody_else_are_left_alone(run, look)


def raising(error):
    """Name servers of which nobody could think so."""

    def look(*words):
        raise error

    return look


def records_of_somebody_else_are_left_alone(run, look):
    """Nobody looks at what he proves there while nothing is to be ordered; then it is in the way."""
    name = f"_acme-challenge.{run.pipeline.dns_zone}"
    record = {"Name": name, "Type": "CNAME", "TTL": 60, "ResourceRecords": [{"Value": "elsewhere.example."}]}
    change = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record}]}
    route53, id = run.cloud.client("route53"), zone.zone_id(run.cloud, run.pipeline.dns_zone)
    route53.change_resource_record_sets(HostedZoneId=id, ChangeBatch=change)
    assert renewal.order(run, renewal.RENEWED, look).startswith("is valid until")
    with pytest.raises(ChallengeTaken, match=f"^certificates: {name} is somebody's CNAME record already"):
        renewal.order(run, renewal.RENEWED, look, anew=True)


def in_one_line(error):
    first, remedy = error.text.split("\n    ")
    return first, remedy


@pytest.mark.promise("an-authority-s-refusal-is-a-sentence", "no-challenge-stays")
def test_what_the_authority_refuses_is_one_sentence_with_what_to_type(of, look, zones, be):
    run = of("releaser")

    def shows_nobody_else(*words):
        found, zones.blind = look(*words), True
        return found

    with pytest.raises(AuthorityRefused) as unproved:
        renewal.ensure(run, shows_nobody_else)
    sentence, remedy = in_one_line(unproved.value)
    zone_name = run.pipeline.dns_zone
    assert sentence.startswith(
        f"certificates: localhost refuses a certificate for *.{zone_name}, {zone_name}: "
    )
    assert remedy == "doit doctor  # whether the zone is delegated"
    assert challenges_of(run) == []
    with pytest.raises(AuthorityRefused) as contact:
        renewal.ensure(of("releaser", contact="nöbody@example.com"), look)
    assert in_one_line(contact.value)[0].endswith(" (invalidContact)")
    assert in_one_line(contact.value)[1] == "$EDITOR pipeline.yml  # acme.contact"
    zone.make(be("administrator").client("route53"), authorities.BLOCKED, "shop", anywhere=True)
    blocked = dataclasses.replace(
        run, pipeline=dataclasses.replace(run.pipeline, dns_zone=authorities.BLOCKED)
    )
    with pytest.raises(AuthorityRefused) as name:
        renewal.ensure(blocked, look)
    assert in_one_line(name.value)[0].endswith(" (rejectedIdentifier)")
    assert renewal.kept(run) is None
    with pytest.raises(
        CertificateMissing,
        match=r"^server: the certificate for .*: there is none yet\n    doit certificates$",
    ):
        server_stage.preview(run)
    assert server_stage.variables(run)["certificates_site"] == "", "a release needs none"


@pytest.mark.promise("branches-order-nothing")
def test_a_branch_s_role_is_told_that_it_may_not_order(of, look):
    run = of("branch")
    with pytest.raises(OrderDenied) as denied:
        renewal.ensure(run, look)
    sentence, remedy = in_one_line(denied.value)
    assert "there is none yet, and this role may not order one (An error occurred (AccessDenied" in sentence
    assert remedy == "doit certificates  # by the role releaser, as CI's scheduled job does"
    assert challenges_of(run) == []


class OneHost(PaperHosts):
    """Hosts whose certificate is a file here. `played`: what each play was told; `silent`: those that do not answer."""

    def __init__(self, site):
        super().__init__()
        self.site, self.played, self.silent = site, [], set()

    def python(self, host, stage, program, **more):
        if program != renewal.HAS:
            return super().python(host, stage, program, **more)
        if host.name in self.silent:
            raise HostUnreachable(stage=stage, host=host.name, address="192.0.2.1", port=22)
        here = program.replace("/etc/ssl/site.pem", str(self.site))
        for mark in ("/run", "/var/lib"):
            here = here.replace(mark, f"{self.site.parent}{mark}")
        return subprocess.run([sys.executable, "-IS", "-c", here], capture_output=True, text=True).stdout

    def play(self, playbook, *, hosts, variables, **_):
        self.played.append((playbook, [each.name for each in hosts], variables["certificates_site"]))
        self.site.write_text(variables["certificates_site"])
        return Recap(changed=1, ok=1, seconds=0, recorded={})


@pytest.fixture
def three(checkout, be, pebble, look, monkeypatch):
    """`doit certificates` in a checkout of which testing and staging order; staging's zone is not there yet."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pebble.root))
    shutil.copytree(ROOT / "playbooks", checkout / "playbooks")
    settings = checkout / "pipeline.yml"
    settings.write_text(
        settings.read_text().replace("shop.localhost", "shop.example.com")
        + f"acme: {{directory: '{pebble.directory}', contact: {CONTACT}}}\n"
    )
    for name, place in (("testing", "branches.shop.example.com"), ("staging", "shop.example.com")):
        file = checkout / "environments" / f"{name}.yml"
        file.write_text(f"{file.read_text()}certificates: acme\ndns_zone: {place}\n")
    cloud = be("administrator")
    run = run_in(
        checkout,
        cloud,
        OneHost(checkout.parent / "site.pem"),
        Console(stream=io.StringIO()),
        branch="feature",
    )
    zone.make(cloud.client("route53"), run.pipeline.dns_zone, "shop", anywhere=True)
    infrastructure.share(run)
    command = CertificatesCommand.__new__(CertificatesCommand)  # doit makes it from a whole command line
    command.task_list, command.look = [SimpleNamespace(meta={"run": run})], look

    def typed(**options):
        run.console.stream.truncate(0)
        run.console.stream.seek(0)
        try:
            return command._execute(**options), run.console.stream.getvalue()
        except CertificatesIncomplete as error:
            return error.text, run.console.stream.getvalue()

    return run, typed


@pytest.mark.promise("the-scheduled-job-brings-it", "one-failure-holds-up-no-other")
def test_the_scheduled_job_orders_for_each_environment_and_brings_it_to_the_hosts_that_lack_it(
    three, monkeypatch
):
    run, typed = three
    infrastructure.converge(run)
    (machine,) = infrastructure.existing(run)
    run.hosts.site.write_text("another\n")
    broken = run.root / "environments" / "broken.yml"
    broken.write_text("certificates: [\n")
    failed, lines = typed()
    assert failed.startswith("certificates: 2 failed, first: environments/broken.yml:")
    broken.unlink()
    assert "staging: infrastructure: no public hosted zone shop.example.com in this account" in lines
    assert "testing: is a new one, valid until " in lines
    assert f"{run.identity}: {machine.id} has the new one" in lines
    first = renewal.kept(run)
    failed, lines = typed()
    assert "staging: infrastructure: no public hosted zone shop.example.com in this account" in lines
    assert failed.startswith("certificates: 1 failed, first: infrastructure: no public hosted zone")
    assert failed.endswith("\n    doit bootstrap")
    zone.make(run.cloud.client("route53"), "shop.example.com", "shop", anywhere=True)
    code, lines = typed(anew=True)
    assert (code, lines.count("is a new one")) == (0, 2)
    assert f"{run.identity}: {machine.id} has the new one" in lines
    kept = renewal.kept(run)
    code, lines = typed()
    assert (code, "is a new one" in lines) == (0, False)
    assert f"{run.identity}: its hosts have it" in lines
    run.hosts.site.unlink()
    assert typed()[0] == 0, "a host that was never provisioned gets it with the rest"
    assert run.hosts.played == [("certificates", [machine.id], each.pem) for each in (first, kept)]
    # provisioning is due for another certificate, and for no other reason
    monkeypatch.setattr(Globals, "dep_manager", SimpleNamespace(get_values=lambda name: values))
    values = {}
    due = drift.AsRecorded("server")(run)
    assert due[0] == f"{machine.id} has no ledger yet"
    assert [each.partition(" is a new one")[0] for each in due[1:]] == [
        "the certificate for *.branches.shop.example.com"
    ]
    values = dict(server_stage.provision(run).facts)
    assert renewal.differences(run) == []
    assert values["certificate"] == renewal.mark(kept.pem)
    later = dataclasses.replace(run, clock=Clock(now=lambda: at(run, 0.95)))
    fixed = dataclasses.replace(later, environment=dataclasses.replace(run.environment, per_branch=False))
    assert "it ends on " in renewal.differences(fixed)[0]
    assert renewal.differences(later) == [], "a branch could not order another one"
    over = dataclasses.replace(run, clock=Clock(now=lambda: at(run, 1.01)))
    assert "it is valid only until " in renewal.differences(over)[0]
    interrupted_or_silent(run, machine.id, typed)
    assert rotate.hindered(run, "own_certificate") == "an ACME authority issues it: doit certificates --anew"
    secrets.keep(run.cloud.client("ssm"), run.secrets_folder, {"certificate": "somebody's"})
    assert renewal.differences(later) == [], "what was brought counts"
    assert list(renewal.deliver(run)) == []


def interrupted_or_silent(run, id, typed):
    """A host on which a delivery was cut off gets it once more; one that does not answer holds up no other."""
    folder, played = run.hosts.site.parent, run.hosts.played
    for mark in ("run/certificate", "var/lib/provisioning"):
        played.clear()
        (folder / mark).parent.mkdir(parents=True)
        (folder / mark).touch()
        typed()
        assert [each[1] for each in played] == [[id]], mark
        (folder / mark).unlink()
        typed()
        assert len(played) == 1
    ec2 = run.cloud.client("ec2")
    (found,) = ec2.describe_instances(InstanceIds=[id])["Reservations"][0]["Instances"]
    spec = [{"ResourceType": "instance", "Tags": found["Tags"]}]
    alike = {each: found[each] for each in ("ImageId", "InstanceType")}
    (other,) = ec2.run_instances(**alike, MinCount=1, MaxCount=1, TagSpecifications=spec)["Instances"]
    hosts.pin(run, {other["InstanceId"]: ["ssh-ed25519 other"]})
    until(lambda: len(hosts.known(run)) == 2)
    run.hosts.site.write_text("another\n")
    for silent, answers in ((id, other["InstanceId"]), (other["InstanceId"], id)):
        run.hosts.silent = {silent}
        run.hosts.site.write_text("another\n")
        failed, _ = typed()
        assert played[-1][1] == [answers]
        assert f"{silent}" in failed
    run.hosts.silent = set()
    ec2.terminate_instances(InstanceIds=[other["InstanceId"]])


def test_where_no_environment_orders_the_job_says_so(checkout, be):
    run = run_in(checkout, be("administrator"), console=Console(stream=io.StringIO()), branch="x")
    command = CertificatesCommand.__new__(CertificatesCommand)
    command.task_list = [SimpleNamespace(meta={"run": run})]
    assert command._execute() == 0
    assert run.console.stream.getvalue() == (
        "no environment orders its certificate (environments/NAME.yml: certificates: acme)\n"
    )


# --- what an authority may answer ---------------------------------------------------------------------

NAMES = ("*.shop.example", "shop.example")


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("rateLimited", "doit certificates  # once the limit is over"),
        ("caa", "dig +short CAA shop.example  # issue and issuewild there"),
        ("externalAccountRequired", "$EDITOR pipeline.yml  # acme.directory"),
        ("serverInternal", "doit certificates"),
    ],
)
@pytest.mark.promise("an-authority-s-refusal-is-a-sentence")
def test_each_refusal_says_what_to_type(code, remedy):
    from acme import messages

    detail = "too many certificates\n(5) already, retry after 2026-12-01"
    below = [messages.Error(typ=f"{acme.ERROR}{code}", detail="of *.shop.example")]
    error = messages.Error(typ=f"{acme.ERROR}{code}", detail=detail, subproblems=below)
    with pytest.raises(AuthorityRefused) as caught, acme._refusals("https://acme.example/dir", NAMES):
        raise error
    sentence, typed = in_one_line(caught.value)
    assert sentence == (
        "certificates: acme.example refuses a certificate for *.shop.example, shop.example: "
        f"too many certificates (5) already, retry after 2026-12-01; of *.shop.example ({code})"
    )
    assert typed.startswith(remedy)


@pytest.mark.parametrize(
    ("place", "problem"), [("/nothing", "its answer is HTTP 404"), ("", "it does not answer: ")]
)
def test_an_address_without_an_authority_is_said(of, look, place, problem):
    run = of("releaser")
    other = (
        f"{run.pipeline.acme.directory.removesuffix('/dir')}{place}" if place else "https://localhost:1/dir"
    )
    run = dataclasses.replace(run, pipeline=dataclasses.replace(run.pipeline, acme=Acme(directory=other)))
    with pytest.raises(AuthoritySilent) as caught:
        renewal.ensure(run, look)
    sentence, remedy = in_one_line(caught.value)
    assert (
        f"certificates: localhost gives no certificate for *.{run.pipeline.dns_zone}, {run.pipeline.dns_zone}: {problem}"
        in sentence
    )
    assert remedy == "doit certificates  # its address: pipeline.yml: acme.directory"
