"""A host that is being provisioned has a mark: it does not shut itself down, and an interrupted provisioning is noticed by the next."""

from __future__ import annotations

import yaml

from tests.conftest import ROOT


def tasks(role):
    return yaml.safe_load((ROOT / "roles" / role / "tasks" / "main.yml").read_text())


def command(task):
    return task["ansible.builtin.command"]["argv"]


def test_a_provisioning_looks_for_a_mark_that_is_left_and_then_makes_its_own():
    looks, marks = tasks("provisioning_started")
    mark = looks["ansible.builtin.stat"]["path"]
    assert command(marks) == ["touch", mark]
    asks = (ROOT / "roles" / "self_shutdown" / "files" / "self_shutdown.py").read_text()
    assert f'PROVISIONING, LONGEST = "{mark}"' in asks
    (play,) = yaml.safe_load((ROOT / "playbooks" / "server.yml").read_text())
    assert play["roles"][0] == {"role": "provisioning_started"}, "before anything is changed"
    told = play["vars"]["server_interrupted"]
    assert told == "{{ " + looks["register"] + ".stat.exists }}"
    told = play["tasks"][-1]["vars"]["provisioning_finished_interrupted"]
    assert told == "{{ server_interrupted }}"
    assert play["tasks"][-1]["ansible.builtin.import_role"] == {"name": "provisioning_finished"}


def test_the_mark_goes_last_once_all_services_have_their_configuration():
    *before, removes = tasks("provisioning_finished")
    assert command(removes)[-1] == command(tasks("provisioning_started")[-1])[-1]
    assert command(removes)[:-1] == ["rm", "-f"]
    assert before[-1]["ansible.builtin.meta"] == "flush_handlers"
    assert before[0]["notify"] == "The last provisioning was interrupted"
    assert before[0]["when"] == "provisioning_finished_interrupted"
    assert before[0]["changed_when"] is True
