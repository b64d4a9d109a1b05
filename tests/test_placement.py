"""Which machine has which roles: a profile says what may be apart, and an environment which machines there are."""

from __future__ import annotations

import shutil

import pytest

from tasks import placement, profile, settings
from tasks.placement import Misplaced
from tasks.settings import Application, SettingWrong
from tests.conftest import ROOT

ROLES = ("base", "nginx", "application", "mariadb")
GROUPS = {"ingress": ("nginx",), "app": ("application", "nginx"), "data": ("mariadb",)}
PLACED = {"web": ("ingress",), "app": ("app",), "data": ("data",)}
APART = placement.of(ROLES, GROUPS, PLACED)


@pytest.mark.promise("groups-have-machines")
def test_a_machine_has_the_roles_of_its_groups_in_the_profile_s_order_and_those_of_no_group():
    assert APART.roles == {
        "web": ("base", "nginx"),
        "app": ("base", "nginx", "application"),
        "data": ("base", "mariadb"),
    }
    assert APART.tags("web") == {"machine": "web", "groups": "ingress"}
    assert (APART.named({"machine": "app"}), APART.named({})) == ("app", "")


@pytest.mark.promise("all-on-one-machine")
def test_without_a_placement_every_machine_has_all_roles_whatever_its_tags():
    alike = placement.of(ROLES, GROUPS, {})
    assert alike.roles == {placement.ALIKE: ROLES}
    assert (alike.apart, alike.tags(""), alike.named({"machine": "app"})) == (False, {}, "")


@pytest.mark.promise("groups-have-machines")
@pytest.mark.parametrize(
    "names", [["app", "web"], ["app", "data", "data", "web"], ["", "app", "data", "web"], []]
)
def test_machines_that_are_not_one_for_each_name_are_not_provisioned(names):
    with pytest.raises(
        Misplaced, match=r"server: infrastructure\.placement has app, data, web, and the running"
    ):
        placement.accept_found(APART, names, "server")
    placement.accept_found(APART, ["web", "data", "app"], "server")
    placement.accept_found(placement.of(ROLES, GROUPS, {}), names, "server")


PLACE = "infrastructure:\n  placement: {web: [ingress, cache], app: [app], data: [data]}\n"
WRONG = [
    (PLACE.replace(", data: [data]", ""), "infrastructure.placement: should be one with data, as each group is on one machine"),
    (PLACE.replace("[data]", "[data, app]"), "infrastructure.placement.data: should be groups that no other machine has, not 'app'"),
    (PLACE.replace("cache", "cash"), "infrastructure.placement.web: should be groups of the profile: ingress, cache, app, data, not 'cash'"),
    (PLACE.replace("app:", "'a b':"), "should be called by the name of one folder"),
    (f"{PLACE}  instances: 2\n", "infrastructure.instances: should be 1 with infrastructure.placement"),
    (f"{PLACE}  ends_itself: true\n", "infrastructure.ends_itself: should be false with infrastructure.placement"),
    (f"{PLACE}  idle_hours: 4\n", "infrastructure.idle_hours: should be 0 with infrastructure.placement"),
]  # fmt: skip


def accepted(folder, text, groups):
    (folder / "testing.yml").write_text(text)
    file = settings.read(settings.Environment, folder / "testing.yml", folder, {})
    placement.accept(file, groups)
    return file.said.infrastructure.placement


@pytest.mark.promise("groups-have-machines")
@pytest.mark.parametrize(("text", "sentence"), WRONG)
def test_a_placement_that_does_not_fit_is_one_sentence(tmp_path, text, sentence):
    groups = profile.load(ROOT, Application(profile="magento2")).server.groups
    with pytest.raises(SettingWrong) as caught:
        accepted(tmp_path, text, groups)
    assert sentence in caught.value.text
    assert accepted(tmp_path, PLACE, groups) == {
        "web": ("ingress", "cache"),
        "app": ("app",),
        "data": ("data",),
    }


@pytest.mark.promise("groups-have-machines")
def test_a_profile_without_groups_has_nothing_to_place(tmp_path):
    with pytest.raises(
        SettingWrong, match=r"infrastructure\.placement: should be left out: the profile declares no groups"
    ):
        accepted(tmp_path, PLACE, {})


@pytest.mark.promise("groups-have-machines")
def test_a_group_of_what_the_profile_does_not_list_is_refused(tmp_path):
    text = (ROOT / "applications" / "php" / "profile.yml").read_text()
    folder = tmp_path / "applications" / "php"
    shutil.copytree(ROOT / "applications" / "php", folder)
    (folder / "profile.yml").write_text(
        text.replace("data: [mariadb, database]", "data: [mariadb, data_base]")
    )
    (tmp_path / "roles").symlink_to(ROOT / "roles")
    with pytest.raises(SettingWrong, match=r"server\.groups\.data\[1\]: should be a role of server\.roles"):
        profile.load(tmp_path, Application(profile="php"))
