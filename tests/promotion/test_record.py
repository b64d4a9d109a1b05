"""The promotion record: replaced only in the version that was read, ended only from a state that may end."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest

from tasks import source
from tasks.bucket import layout
from tasks.bucket.store import DocumentDamaged
from tasks.commands import controls
from tasks.infrastructure import apply, find, hosts, launches
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure.stage import NoMachineFound, OnlyAdditive
from tasks.promotion import record as promotion_record
from tasks.release import history
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (a fixture)
from tests.clouds import Killed, QuietCloud, run_in
from tests.conftest import commit


@pytest.fixture
def run(checkout, server):  # noqa: F811
    (checkout / "README.md").write_text(str(checkout))
    commit(checkout)  # of no other test
    made = dataclasses.replace(
        run_in(checkout, QuietCloud(REGION, server.home.load()), environment="staging"),
        environment_name=checkout.parent.name,  # of no other test
    )
    infrastructure.share(made)
    made.store.delete(layout.CURRENT_RUN)
    return made


def later(run):
    """A run of the next commit."""
    (run.root / "README.md").write_text(run.commit)
    commit(run.root)
    source._snapshot.cache_clear()
    return dataclasses.replace(
        run_in(run.root, run.cloud, environment="staging"), environment_name=run.environment_name
    )


@pytest.mark.promise("only-a-waiting-run-goes-on")
def test_a_run_begins_and_the_one_before_it_is_superseded(run):
    assert promotion_record.current(run.store) is None
    assert promotion_record.begin(run) is None
    assert promotion_record.current(run.store).state == "started"
    promotion_record.add(run.store, run.commit, promotion_record.step(run, "waiting"), digest="d")
    new = later(run)
    promotion_record.begin(new)
    assert promotion_record.current(run.store).commit == new.commit
    former = promotion_record.read(run.store, run.commit)
    assert (former.state, former.digest, former.starter.by) == ("superseded", "d", run.who)
    assert former.steps[-1].words == f"by the run of {new.commit[:7]}"


def test_fields_that_a_newer_pipeline_adds_are_ignored(run):
    promotion_record.begin(run)
    history.add(run, "d")
    for key, name in ((layout.commit_run(run.commit), "steps"), (layout.history(run.identity), "releases")):
        kept = run.store.read(key)
        more = [{**each, "mood": "good"} for each in kept.value[name]]
        run.store.write(key, {**kept.value, name: more}, seen=kept.etag)
    assert promotion_record.current(run.store).state == "started"
    assert [each.digest for each in history.read(run.store, run.identity)] == ["d"]


def test_an_overwritten_record_is_refused_as_damaged(run):
    key = layout.history(run.identity)
    run.store.client.put_object(Bucket=run.bucket, Key=key, Body=b"[]")
    with pytest.raises(DocumentDamaged) as damaged:
        history.read(run.store, run.identity)
    assert damaged.value.text.startswith(f"state: {key} in {run.bucket} is damaged: it is not a JSON object")


@pytest.mark.parametrize("ended", ["live", "failed", "stopped", "continuing"])
def test_a_run_that_has_ended_or_continues_is_not_superseded(run, ended):
    promotion_record.begin(run)
    promotion_record.add(run.store, run.commit, promotion_record.step(run, ended))
    promotion_record.begin(later(run))
    assert promotion_record.read(run.store, run.commit).state == ended


@pytest.mark.parametrize("ended", [["failed"], [], ["built"], ["built", "staged"]])
@pytest.mark.promise("killed-run-begins-again")
def test_the_same_commit_begins_anew_with_its_former_steps(run, ended):
    """A killed run leaves no step of its end."""
    promotion_record.begin(run)
    for state in ended:
        promotion_record.add(run.store, run.commit, promotion_record.step(run, state))
    former = ["started", *ended]
    assert promotion_record.begin(run).state == former[-1]
    steps = promotion_record.read(run.store, run.commit).steps
    assert [each.state for each in steps] == [*former, "started"]


@pytest.mark.promise("only-a-waiting-run-goes-on", "a-record-is-replaced-as-read")
def test_of_two_changes_at_once_both_are_considered_and_one_decides(run):
    promotion_record.begin(run)
    waits = promotion_record.step(run, "waiting")
    promotion_record.add(run.store, run.commit, waits)

    def stopped_meanwhile(before):
        if before.state == "waiting":  # between reading and writing another writer stops the run
            promotion_record.add(run.store, run.commit, promotion_record.step(run, "stopped"))
            return dataclasses.replace(
                before, steps=(*before.steps, promotion_record.step(run, "continuing"))
            )
        return None

    assert promotion_record.change(run.store, run.commit, stopped_meanwhile).state == "stopped"
    assert not promotion_record.add(run.store, run.commit, waits, only_from=("waiting",))
    assert promotion_record.read(run.store, run.commit).state == "stopped"


def test_the_promotion_path_is_what_the_environments_say(checkout):
    assert promotion_record.promotion_path(checkout) == promotion_record.PromotionPath(
        upstream="staging", downstream="production"
    )
    path = checkout / "environments" / "production.yml"
    path.write_text(path.read_text().replace("takes_from: staging\n", ""))
    assert promotion_record.promotion_path(checkout) is None


def managed(run, manage, **more):
    """The same environment, whose infrastructure is managed so."""
    more = {"manage": manage, "termination_protection": True, **more}
    settings = dataclasses.replace(run.environment.infrastructure, **more)
    return dataclasses.replace(run, environment=dataclasses.replace(run.environment, infrastructure=settings))


@pytest.mark.promise("plan-changes-nothing")
def test_a_plan_changes_nothing_and_asks_for_a_machine_to_adopt(run, capfd):
    run.cloud.calls.clear()
    with pytest.raises(NoMachineFound, match=f"tags project=shop environment={run.identity}"):
        infrastructure.converge(managed(run, "plan"))
    assert "would create machine 1 of 1" in capfd.readouterr().out
    assert run.cloud.calls == []


def launched_by_somebody(run, **more):
    """A machine that carries the environment's tags."""
    ec2 = run.cloud.client("ec2")
    image = ec2.describe_images(Filters=[{"Name": "name", "Values": ["debian-12"]}])["Images"][0]["ImageId"]
    tags = [{"Key": "project", "Value": "shop"}, {"Key": "environment", "Value": run.identity}]
    specification = [{"ResourceType": "instance", "Tags": tags}]
    launched = ec2.run_instances(
        ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=specification, **more
    )
    return launched["Instances"][0]["InstanceId"]


@pytest.mark.promise("a-strange-machine-gets-nothing")
def test_a_machine_that_somebody_gave_the_tags_is_an_alarm_and_gets_nothing(run, capfd):
    (own,) = infrastructure.converge(run).facts["hosts"]
    strange = launched_by_somebody(run)
    alarm = f"alarm: {strange} has the tags of {run.identity} and is none of its machines: it gets nothing"
    assert infrastructure.differences(run) == [alarm]
    for there in (run, managed(run, "plan")):
        capfd.readouterr()
        assert infrastructure.converge(there).facts["hosts"] == [own]
        assert alarm[:60] in capfd.readouterr().out.replace("\n", "")
        there.console._once.clear()
    assert [each.id for each in infrastructure.existing(run)] == [own["id"]]
    apply.tag(run, [each.id for each in infrastructure.existing(run)], {"commit": "c"})
    found = find.everything(run)
    assert [(each.id, "commit" in each.tags) for each in (*found.machines, *found.strangers)] == [
        (own["id"], True),
        (strange, False),
    ]
    assert hosts.host_keys(run.store, run.identity).keys() == {own["id"]}
    assert strange not in str(run.store.read(layout.machines(run.identity)).value)


@pytest.mark.parametrize("calls", [4, 5, 6, 7])
@pytest.mark.promise("a-strange-machine-gets-nothing", "no-machine-is-made-twice")
def test_a_machine_is_the_environment_s_own_also_if_the_run_was_killed_after_the_launch(run, calls):
    run.cloud.calls.clear()
    run.cloud.dies_after = calls
    with contextlib.suppress(Killed):
        infrastructure.converge(run)
    run.cloud.dies_after = None
    assert find.everything(run).strangers == ()
    infrastructure.converge(run)
    found = find.everything(run)
    assert (len(found.machines), found.strangers) == (1, ())


@pytest.mark.promise("a-strange-machine-gets-nothing")
def test_what_a_run_launches_that_stood_still_is_the_environment_s_own_and_one_too_many(run):
    run = managed(run, "all", termination_protection=False, scale_down=True)
    (own,) = infrastructure.converge(run).facts["hosts"]
    token = launches.token(run.store, run.identity, "1")
    launches.forget(run.store, run.identity)  # meanwhile another run has settled
    late = launched_by_somebody(run, ClientToken=token)
    found = find.everything(run)
    assert ({each.id for each in found.machines}, found.strangers) == ({own["id"], late}, ())
    infrastructure.converge(run)
    (left,) = find.everything(run).machines
    assert left.id in (own["id"], late)  # launched in the same second, neither is the older one


@pytest.mark.promise("termination-protection", "production-is-adopted", "additive-only-adds")
def test_a_machine_is_adopted_by_its_tags_and_completed_by_additions(run):
    ec2, id = run.cloud.client("ec2"), launched_by_somebody(run)
    with pytest.raises(NoMachineFound, match=r"and is listed\n    \$EDITOR environments/.*machines: \[ID\]"):
        infrastructure.converge(managed(run, "plan"))
    run = managed(run, "plan", machines=(id,))
    planned = infrastructure.converge(run)
    assert [each["id"] for each in planned.facts["hosts"]] == [id]
    assert not planned.changed
    adding = managed(run, "additive", machines=(id,))
    added = infrastructure.converge(adding)
    assert [each["id"] for each in added.facts["hosts"]] == [id]
    assert infrastructure.differences(adding) == []
    with pytest.raises(ec2.exceptions.ClientError, match="disableApiTermination"):
        ec2.terminate_instances(InstanceIds=[id])
    ec2.create_tags(Resources=[id], Tags=[{"Key": "owner", "Value": "somebody"}])
    run.cloud.calls.clear()
    with pytest.raises(OnlyAdditive, match=f"allows only additions, and the plan has: retag machine {id}"):
        infrastructure.converge(adding)
    assert run.cloud.calls == []
    assert infrastructure.converge(managed(run, "all", machines=(id,))).changed


class GoesOn:
    """A store where the run goes on, once its environments' leases have been looked at."""

    def __init__(self, run):
        self.run, self.looks = run, 0

    def __getattr__(self, name):
        return getattr(self.run.store, name)

    def read(self, key):
        found = self.run.store.read(key)
        self.looks += key.startswith("leases/")
        if self.looks == 2:
            self.looks = 3
            promotion_record.add(
                self.run.store, self.run.commit, promotion_record.step(self.run, "continuing")
            )
        return found


def test_a_run_that_goes_on_while_it_is_stopped_is_not_stopped(run):
    promotion_record.begin(run)
    promotion_record.add(run.store, run.commit, promotion_record.step(run, "waiting"))
    assert "has gone on or ended meanwhile" in controls._end(dataclasses.replace(run, store=GoesOn(run)))
    assert promotion_record.read(run.store, run.commit).state == "continuing"
    assert "goes no further" in controls._end(run)
    assert promotion_record.read(run.store, run.commit).state == "stopped"
