"""The plan of infrastructure: pure, from what is wanted and what is found."""

from __future__ import annotations

import dataclasses

import pytest

from tasks.infrastructure.plan import (
    ClosePort,
    CloseRule,
    CreateGroup,
    CreateKey,
    CreateMachine,
    DeleteGroup,
    DeleteKey,
    DeleteSecret,
    EndMachine,
    Existing,
    HoldBack,
    LetOut,
    Machine,
    OpenPort,
    Point,
    ProtectMachine,
    Replaced,
    Repoint,
    RetagMachine,
    StartMachine,
    TagMachine,
    Unpoint,
    Wanted,
    WholeRule,
    endings,
    key_mark,
    later,
    more_than_additions,
    plan,
    teardown_plan,
)

RULES = frozenset({(22, "10.0.0.0/8"), (80, "0.0.0.0/0")})
NAME, STORE = "testing-1.shop.localhost", "de.testing-1.shop.localhost"
FOREIGN = {NAME: "an alias"}
TAGS = {"project": "shop", "environment": "testing-1"}
WANTED = Wanted(
    name="shop-testing-1",
    public_key="ssh-ed25519 AAAA",
    rules=RULES,
    machines=1,
    host_names=(NAME,),
    zone="shop.localhost",
    tags=TAGS,
    ways_out=frozenset({("tcp", 443)}),
)
OUT = frozenset(WholeRule(protocol="tcp", first=443, last=443, source=each) for each in ("0.0.0.0/0", "::/0"))
MACHINE = Machine(id="i-1", state="running", address="10.1.0.2", tags=TAGS)
COMPLETE = {
    "key": key_mark(WANTED.public_key),
    "group": "sg-1",
    "rules": RULES,
    "outward": OUT,
    "machines": (MACHINE,),
    "records": {NAME: ("10.1.0.2",)},
}


EVERYTHING = WholeRule(protocol="-1", first=None, last=None, source="sg-9")
RANGE = WholeRule(protocol="udp", first=5000, last=5010, source="0.0.0.0/0")
LISTED = WholeRule(protocol="tcp", first=80, last=80, source="pl-1")


def lines(changes):
    return [str(each) for each in changes]


@pytest.mark.promise("the-group-holds-back")
@pytest.mark.parametrize("stranger", [EVERYTHING, RANGE, LISTED])
def test_what_the_group_lets_out_and_nobody_declares_is_held_back(stranger):
    existing = Existing(**{**COMPLETE, "outward": OUT | {stranger}})
    assert lines(plan(WANTED, existing)) == [f"hold back {stranger}"]
    assert more_than_additions(plan(WANTED, existing))
    # one that was made before anything was declared: what is needed is let out first
    assert [type(each) for each in plan(WANTED, Existing(**{**COMPLETE, "outward": {stranger}}))] == [
        LetOut,
        HoldBack,
    ]


@pytest.mark.promise("branches-share-nothing-else")
def test_from_nothing_everything_is_made_but_the_record_waits_for_an_address():
    assert lines(plan(WANTED, Existing())) == [
        "create key shop-testing-1",
        "create group shop-testing-1",
        "open port 22 for 10.0.0.0/8",
        "open port 80 for 0.0.0.0/0",
        "let out tcp 443 for 0.0.0.0/0, tcp 443 for ::/0",
        "hold back all traffic for 0.0.0.0/0",
        "create machine 1 of 1",
    ]


def test_what_is_complete_needs_nothing():
    assert plan(WANTED, Existing(**COMPLETE)) == []


def test_a_running_machine_gets_its_name():
    assert lines(plan(WANTED, Existing(**{**COMPLETE, "records": {}}))) == [
        "point testing-1.shop.localhost to 10.1.0.2"
    ]


def test_a_pending_machine_is_not_pointed_to_and_not_made_twice():
    pending = Machine(id="i-1", state="pending", address=None, tags=TAGS)
    assert plan(WANTED, Existing(**{**COMPLETE, "machines": (pending,), "records": {}})) == []


def test_a_stopped_machine_is_started():
    stopped = Machine(id="i-1", state="stopped", address=None, tags=TAGS)
    assert lines(plan(WANTED, Existing(**{**COMPLETE, "machines": (stopped,)}))) == ["start machine i-1"]


@pytest.mark.parametrize("newer", ["i-0", "i-2"])  # ids are random
@pytest.mark.promise("the-oldest-machine-stays")
def test_a_machine_too_many_is_ended_and_the_oldest_stays(newer):
    oldest = dataclasses.replace(MACHINE, launched="2026-11-01T10:00:00+00:00")
    second = dataclasses.replace(MACHINE, id=newer, address="10.1.0.3", launched="2026-11-02T09:00:00+00:00")
    for machines in ((second, oldest), (oldest, second)):
        found = Existing(**{**COMPLETE, "machines": machines})
        assert lines(plan(WANTED, found)) == [f"end machine {newer}"]


def test_a_port_that_is_not_wanted_is_closed():
    found = Existing(**{**COMPLETE, "rules": RULES | {(3306, "0.0.0.0/0")}})
    assert lines(plan(WANTED, found)) == ["close port 3306 for 0.0.0.0/0"]


def test_a_changed_tag_is_written():
    found = Existing(
        **{
            **COMPLETE,
            "machines": (Machine(id="i-1", state="running", address="10.1.0.2", tags={"project": "shop"}),),
        }
    )
    changes = plan(WANTED, found)
    assert lines(changes) == ["tag machine i-1"]
    assert changes == [TagMachine(id="i-1", tags={"environment": "testing-1"})]


def test_another_deploy_key_replaces_the_pair():
    assert lines(plan(WANTED, Existing(**{**COMPLETE, "key": "other"}))) == [
        "delete key shop-testing-1",
        "create key shop-testing-1",
    ]


def test_teardown_ends_machines_before_the_group_that_they_use():
    found = Existing(**COMPLETE, secrets=("/shop/testing-1/crypt_key",))
    assert lines(teardown_plan("shop-testing-1", WANTED.zone, found)) == [
        "unpoint testing-1.shop.localhost",
        "end machine i-1",
        "delete group shop-testing-1",
        "delete key shop-testing-1",
        "delete secret /shop/testing-1/crypt_key",
    ]


def test_a_replaced_name_goes_once_the_new_one_is_there():
    replaced = Replaced(host_name="qa.old.example", zone="old.example", addresses=("10.1.0.2",))
    (change,) = plan(WANTED, Existing(**COMPLETE, replaced=(replaced,)))
    assert change == Unpoint(host_name="qa.old.example", zone="old.example", addresses=("10.1.0.2",))
    pending = dataclasses.replace(MACHINE, state="pending", address=None)
    assert plan(WANTED, Existing(**{**COMPLETE, "machines": (pending,)}, replaced=(replaced,))) == []
    assert teardown_plan("n", WANTED.zone, Existing(replaced=(replaced,))) == [change]


@pytest.mark.promise("plan-lists-the-same-changes")
def test_what_the_name_will_need_is_foreseen_though_no_address_is_known():
    stopped, replaced = (
        dataclasses.replace(MACHINE, state="stopped"),
        Replaced(host_name="old", zone="z", addresses=("a",)),
    )
    two = dataclasses.replace(WANTED, machines=2)
    for wanted, found, due in (
        (WANTED, {}, ["point testing-1.shop.localhost to its new machines"]),
        (WANTED, COMPLETE, []),
        (two, COMPLETE, ["repoint testing-1.shop.localhost to its new machines"]),
        (WANTED, {**COMPLETE, "machines": (stopped,)}, []),  # it may keep its address
        (WANTED, {**COMPLETE, "machines": (stopped,), "records": {}}, ["point testing-1.shop.localhost to its new machines"]),
        (WANTED, {**COMPLETE, "machines": (stopped,), "replaced": (replaced,)}, ["unpoint old"]),
        (WANTED, {"foreign": FOREIGN, "replaced": (replaced,)}, ["unpoint old"]),
    ):  # fmt: skip
        existing = Existing(**found)
        assert lines(later(wanted, existing, plan(wanted, existing))) == due


def test_a_name_that_is_somebody_else_s_stays_as_it_is():
    found = {**COMPLETE, "records": {}, "foreign": FOREIGN}
    assert plan(WANTED, Existing(**found)) == []
    assert teardown_plan("n", WANTED.zone, Existing(foreign=FOREIGN)) == []


@pytest.mark.promise("stores-have-names")
def test_each_host_name_is_set_changed_and_deleted_for_itself():
    wanted = dataclasses.replace(WANTED, host_names=(NAME, STORE))
    stopped = dataclasses.replace(MACHINE, state="stopped")
    for found, due in (
        ({}, [f"point {STORE} to 10.1.0.2"]),
        ({"foreign": {STORE: "an alias"}}, []),
        ({"records": {STORE: ("10.1.0.9",)}}, [f"point {NAME} to 10.1.0.2", f"repoint {STORE} to 10.1.0.2"]),
        ({"machines": (stopped,)}, ["start machine i-1"]),
    ):
        assert lines(plan(wanted, Existing(**{**COMPLETE, **found}))) == due
    existing = Existing(**{**COMPLETE, "machines": (stopped,)})
    assert lines(later(wanted, existing, plan(wanted, existing))) == [f"point {STORE} to its new machines"]
    both = Existing(records={NAME: ("10.1.0.2",), STORE: ("10.1.0.2",)})
    assert lines(teardown_plan("n", WANTED.zone, both)) == [f"unpoint {NAME}", f"unpoint {STORE}"]


@pytest.mark.promise("hosts-purge-each-other")
def test_several_machines_may_reach_the_ports_that_the_profile_names_on_each_other():
    other = dataclasses.replace(MACHINE, id="i-2", address="10.1.0.3")
    one = dataclasses.replace(WANTED, peers=frozenset({(6081, "", "")}))
    two = dataclasses.replace(one, machines=2)
    found = {**COMPLETE, "records": {NAME: ("10.1.0.2", "10.1.0.3")}}
    assert plan(one, Existing(**COMPLETE)) == []
    both = Existing(**{**found, "machines": (MACHINE, other)})
    opened = [f"open port 6081 for 10.1.0.{each}/32" for each in (2, 3)]
    let_out = "let out tcp 6081 for 10.1.0.2/32, tcp 6081 for 10.1.0.3/32"
    assert lines(plan(two, both)) == [*opened, let_out]
    rules = frozenset({*RULES, (6081, "10.1.0.2/32"), (6081, "10.1.0.9/32")})
    replaced = Existing(**{**found, "machines": (MACHINE, other), "rules": rules})
    assert lines(plan(two, replaced)) == [opened[1], "close port 6081 for 10.1.0.9/32", let_out]
    assert lines(plan(one, Existing(**{**COMPLETE, "rules": rules}))) == [
        f"close port 6081 for 10.1.0.{each}/32" for each in (2, 9)
    ]
    alone = Existing(**COMPLETE)
    assert lines(later(two, alone, plan(two, alone)))[0] == "open port 6081 for its new machines"


WEB = Machine(
    id="i-1",
    name="web",
    state="running",
    address="198.51.100.1",
    private="10.1.0.1",
    tags={**TAGS, "machine": "web"},
)
DATA = dataclasses.replace(
    WEB, id="i-2", name="data", address="198.51.100.2", private="10.1.0.2", tags={**TAGS, "machine": "data"}
)
APART = dataclasses.replace(
    WANTED,
    named={"web": {"machine": "web"}, "data": {"machine": "data"}},
    visited=frozenset({"web"}),
    peers=frozenset({(3306, "web", "data")}),
)


@pytest.mark.promise("groups-have-machines")
def test_machines_that_differ_are_made_pointed_to_and_opened_by_their_names():
    alone = Existing(**{**COMPLETE, "records": {}, "machines": (WEB,)})
    assert lines(plan(APART, Existing()))[-2:] == [
        "create machine 1 of 2, web",
        "create machine 2 of 2, data",
    ]
    assert "create machine 2 of 2, data" in lines(plan(APART, alone))
    both = Existing(**{**COMPLETE, "records": {}, "machines": (WEB, DATA)})
    assert lines(plan(APART, both)) == [
        "open port 3306 for 10.1.0.1/32",
        "let out tcp 3306 for 10.1.0.2/32",
        f"point {NAME} to 198.51.100.1",
    ]
    named = {**APART.named, "data": {"machine": "data", "groups": "data"}}
    assert "tag machine i-2" in lines(plan(dataclasses.replace(APART, named=named), both))


@pytest.mark.promise("groups-have-machines")
def test_a_machine_without_a_name_of_the_placement_is_one_too_many():
    former = dataclasses.replace(WEB, id="i-0", name="", tags=TAGS)
    found = Existing(**{**COMPLETE, "machines": (former, WEB, DATA)})
    assert [str(each) for each in endings(plan(APART, found))] == ["end machine i-0"]


def test_a_change_says_all_that_is_needed_to_make_it():
    changed = dataclasses.replace(MACHINE, tags={**TAGS, "project": "another"})
    name = {"host_name": "testing-1.shop.localhost", "zone": "shop.localhost", "addresses": ("10.1.0.2",)}
    for found, change in (
        ({"key": None}, CreateKey(name="shop-testing-1", public_key="ssh-ed25519 AAAA")),
        ({"machines": (changed,)}, RetagMachine(id="i-1", tags={"project": "shop"})),
        ({"records": {}}, Point(**name)),
        ({"records": {NAME: ("10.1.0.9",)}}, Repoint(**name)),
        ({"hand_made": (RANGE,)}, CloseRule(rule=RANGE)),
    ):
        assert plan(WANTED, Existing(**{**COMPLETE, **found})) == [change]
    (point,) = later(WANTED, Existing(), plan(WANTED, Existing()))
    assert (point.host_name, point.zone) == ("testing-1.shop.localhost", "shop.localhost")
    assert teardown_plan("n", WANTED.zone, Existing(records={NAME: ("10.1.0.2",)})) == [Unpoint(**name)]
    assert teardown_plan("n", WANTED.zone, Existing(group="sg-1")) == [DeleteGroup(name="n", id="sg-1")]


@pytest.mark.promise("second-teardown-finds-nothing")
def test_teardown_of_nothing_changes_nothing():
    assert teardown_plan("shop-testing-1", WANTED.zone, Existing()) == []


@pytest.mark.promise("termination-protection")
def test_a_machine_is_protected_where_the_settings_ask_for_it():
    wanted = dataclasses.replace(WANTED, protected=True)
    for protected, due in ((False, ["protect machine i-1"]), (True, []), (None, [])):
        machine = dataclasses.replace(MACHINE, protected=protected)
        assert lines(plan(wanted, Existing(**{**COMPLETE, "machines": (machine,)}))) == due
        assert plan(WANTED, Existing(**{**COMPLETE, "machines": (machine,)})) == []


@pytest.mark.promise("additive-only-adds")
def test_only_what_leaves_everything_as_it_was_is_an_addition():
    assert more_than_additions(plan(WANTED, Existing())) == []
    adopted = dataclasses.replace(MACHINE, tags={"project": "shop"}, protected=False)
    wanted = dataclasses.replace(WANTED, protected=True)
    assert more_than_additions(plan(wanted, Existing(machines=(adopted,)))) == []
    for found, change in (
        ({"rules": RULES | {(21, "0.0.0.0/0")}}, "close port 21 for 0.0.0.0/0"),
        ({"key": "another"}, "delete key shop-testing-1"),
        ({"records": {NAME: ("10.1.0.9",)}}, "repoint testing-1.shop.localhost to 10.1.0.2"),
        ({"machines": (dataclasses.replace(MACHINE, state="stopped"),)}, "start machine i-1"),
        ({"machines": (dataclasses.replace(MACHINE, tags={**TAGS, "project": "x"}),)}, "retag machine i-1"),
        ({"machines": (MACHINE, dataclasses.replace(MACHINE, id="i-2"))}, "end machine i-2"),
    ):
        assert lines(more_than_additions(plan(WANTED, Existing(**{**COMPLETE, **found})))) == [change]


@pytest.mark.parametrize(
    ("change", "words", "adds"),
    [
        (CreateKey(name="n", public_key="k"), "create key n", True),
        (DeleteKey(name="n"), "delete key n", False),
        (CreateGroup(name="n"), "create group n", True),
        (DeleteGroup(name="n", id="sg-1"), "delete group n", False),
        (OpenPort(port=22, network="0.0.0.0/0"), "open port 22 for 0.0.0.0/0", True),
        (ClosePort(port=22, network="0.0.0.0/0"), "close port 22 for 0.0.0.0/0", False),
        (CloseRule(rule=EVERYTHING), "close all traffic for sg-9", False),
        (CloseRule(rule=RANGE), "close udp 5000-5010 for 0.0.0.0/0", False),
        (CloseRule(rule=LISTED), "close tcp 80 for pl-1", False),
        (CreateMachine(number=1, of=2), "create machine 1 of 2", True),
        (StartMachine(id="i-1"), "start machine i-1", False),
        (EndMachine(id="i-1"), "end machine i-1", False),
        (TagMachine(id="i-1", tags={}), "tag machine i-1", True),
        (RetagMachine(id="i-1", tags={}), "retag machine i-1", False),
        (ProtectMachine(id="i-1"), "protect machine i-1", True),
        (Point(host_name="h", zone="z", addresses=("a", "b")), "point h to a, b", True),
        (Repoint(host_name="h", zone="z", addresses=("a",)), "repoint h to a", False),
        (Unpoint(host_name="h", zone="z", addresses=("a",)), "unpoint h", False),
        (DeleteSecret(name="/p/e/s"), "delete secret /p/e/s", False),
    ],
    ids=str,
)
def test_a_change_says_what_it_does_and_whether_it_only_adds(change, words, adds):
    assert (str(change), change.adds) == (words, adds)
    assert more_than_additions([change]) == ([] if adds else [change])
