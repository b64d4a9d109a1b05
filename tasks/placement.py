"""placement: which machines an environment has, by name, and which roles each of them: those of its groups, and those of no group."""

# without `annotations` of __future__: types that are texts are read again by each dataclass, at every start

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks import forms
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.settings import Environment, Read

ALIKE = ""
"""The name of machines that all have every role."""
TAG = "machine"
"""The tag that has a machine's name. Without a placement there is none."""
Groups = Mapping[str, tuple[str, ...]]


class Misplaced(Refusal):
    """The running machines are not one for each name of `infrastructure.placement`."""

    sentence = "{stage}: infrastructure.placement has {wanted}, and the running machines are {found}"
    remedy = "doit infrastructure"


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The machines by name: the groups of each, and its roles in the profile's order."""

    groups: Groups
    roles: Groups

    @property
    def apart(self) -> bool:
        """Whether the machines differ, and are known by their names."""
        return ALIKE not in self.groups

    def named(self, tags: Mapping[str, str]) -> str:
        """The name of a machine with these tags."""
        return tags.get(TAG, "") if self.apart else ALIKE

    def has(self, name: str, role: str) -> bool:
        """Whether a machine has a role."""
        return role in self.roles.get(name, ())

    def tags(self, name: str) -> dict[str, str]:
        """What a machine's tags say of its place, beside those that all have."""
        return {TAG: name, "groups": " ".join(self.groups[name])} if self.apart else {}


def of(roles: Iterable[str], groups: Groups, placed: Groups) -> Placement:
    """The placement of a profile's roles, of which some are in groups. `placed`: the setting; empty: every machine has all roles."""
    machines = placed or {ALIKE: tuple(groups)}
    grouped = {role for names in groups.values() for role in names}

    def has(own: Sequence[str], role: str) -> bool:
        return role not in grouped or any(role in groups[each] for each in own)

    listed = tuple(roles)
    return Placement(
        groups=machines,
        roles={name: tuple(each for each in listed if has(own, each)) for name, own in machines.items()},
    )


def accept(file: "Read[Environment]", groups: Groups, absent: Collection[str] = ()) -> None:
    """Raises SettingWrong for a placement that does not fit the profile's groups, or the other settings.

    `absent`: roles whose services are elsewhere. A group that has no other roles of its own needs no machine.
    """
    here, key = file.said.infrastructure, "infrastructure.placement"
    if not here.placement:
        return
    if not groups:
        raise file.unfit(key, "given", "left out: the profile declares no groups (server.groups)")
    placed = list[str]()
    for name, own in here.placement.items():
        if not forms.FOLDER.holds(name):
            raise file.unfit(f"{key}.{name}", repr(name), f"called by {forms.FOLDER.words}", also=key)
        for each in own:
            if each not in groups:
                raise file.unfit(f"{key}.{name}", repr(each), f"groups of the profile: {', '.join(groups)}")
            if each in placed:
                raise file.unfit(f"{key}.{name}", repr(each), "groups that no other machine has")
            placed.append(each)
    needed = [each for each in groups if not _is_empty(groups, each, absent)]
    if missing := [each for each in needed if each not in placed]:
        raise file.unfit(key, "without", f"one with {' and '.join(missing)}, as each group is on one machine")
    if here.instances != 1:
        expected = "1 with infrastructure.placement, which names each machine"
        raise file.unfit("infrastructure.instances", here.instances, expected)
    if here.ends_itself or here.idle_hours:
        name, value, expected = (
            ("ends_itself", "true", "false") if here.ends_itself else ("idle_hours", here.idle_hours, "0")
        )
        expected += " with infrastructure.placement: only one of the machines sees visitors and releases"
        raise file.unfit(f"infrastructure.{name}", value, expected, also=key)


def _is_empty(groups: Groups, group: str, absent: Collection[str]) -> bool:
    """Whether all roles that a group alone has are absent."""
    others = {role for each, roles in groups.items() if each != group for role in roles}
    own = set(groups[group]) - others
    return bool(own) and own <= set(absent)


def accept_found(placement: Placement, names: Sequence[str], stage: str) -> None:
    """Raises Misplaced where the machines are not one for each name."""
    if placement.apart and sorted(names) != sorted(placement.groups):
        found = ", ".join(sorted(each or "without a name" for each in names)) or "none"
        raise Misplaced(stage=stage, wanted=", ".join(sorted(placement.groups)), found=found)
