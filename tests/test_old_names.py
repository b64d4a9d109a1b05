"""Old names: none of them is left in a file, so that one word has one meaning."""

from __future__ import annotations

import functools
import io
import re
import tokenize

import pytest

from tests.conftest import ROOT
from tests.test_house import MODULES, TRACKED

ELSEWHERE = (
    "CHANGELOG.md",  # it tells of old names
    "tests/cloud/embedded/test_api.py",  # a stored cloud names the module by which it was written
    "tests/test_old_names.py",
)

MODULES_MOVED = {
    "tasks.ansible": "tasks.hosts.ansible",
    "tasks.archive": "tasks.tarball.build.archive",
    "tasks.aws_error": "tasks.cloud.errors",
    "tasks.cache": "tasks.bucket.cache",
    "tasks.cloud.answer": "tasks.cloud.embedded.errors",
    "tasks.cloud.api": "tasks.cloud.embedded.api",
    "tasks.cloud.awkward": "tasks.cloud.embedded.faults",
    "tasks.cloud.base": "tasks.cloud.embedded.debian_ami",
    "tasks.cloud.body": "tasks.cloud.embedded.objects",
    "tasks.cloud.containers": "tasks.cloud.embedded.containers",
    "tasks.cloud.disk": "tasks.cloud.embedded.disk",
    "tasks.cloud.endpoint": "tasks.cloud.embedded.client",
    "tasks.cloud.forwarder": "tasks.cloud.embedded.forwarder",
    "tasks.cloud.gaps": "tasks.cloud.embedded.moto_patches",
    "tasks.cloud.home": "tasks.cloud.embedded.home",
    "tasks.cloud.hosts": "tasks.cloud.embedded.instances",
    "tasks.cloud.image": "tasks.cloud.embedded.debian_root",
    "tasks.cloud.listen": "tasks.cloud.embedded.listen",
    "tasks.cloud.runtime": "tasks.cloud.embedded.runtime",
    "tasks.cloud.server": "tasks.cloud.embedded.daemon",
    "tasks.commands.look": "tasks.commands.info",
    "tasks.commands.reach": "tasks.commands.open",
    "tasks.compare": "tasks.environments.compare",
    "tasks.cost": "tasks.environments.cost",
    "tasks.diff": "tasks.environments.diff",
    "tasks.drift": "tasks.server.drift",
    "tasks.ec2": "tasks.infrastructure.apply",
    "tasks.estate": "tasks.environments.inventory",
    "tasks.fence": "tasks.hosts.kill_stale_sessions",
    "tasks.history": "tasks.release.history",
    "tasks.identity": "tasks.cloud.caller",
    "tasks.inputs": "tasks.graph.inputs",
    "tasks.journal": "tasks.console.journal",
    "tasks.keep": "tasks.environments.expiry",
    "tasks.layers": "tasks.tarball.build.layers",
    "tasks.lease": "tasks.bucket.lease",
    "tasks.ledger": "tasks.server.ledger",
    "tasks.ledger_host": "tasks.server.ledger_host",
    "tasks.logs": "tasks.hosts.logs",
    "tasks.machines": "tasks.infrastructure.hosts",
    "tasks.member": "tasks.tarball.build.tar",
    "tasks.mermaid": "tasks.graph.diagram",
    "tasks.orphans": "tasks.process.orphans",
    "tasks.passage": "tasks.promotion.gate",
    "tasks.pipeline": "tasks.promotion.record",
    "tasks.plan": "tasks.graph.plan",
    "tasks.playbook_events": "tasks.hosts.playbook_events",
    "tasks.recording": "tasks.hosts.managed",
    "tasks.references": "tasks.sweep.references",
    "tasks.removal": "tasks.sweep.apply",
    "tasks.report": "tasks.graph.reporter",
    "tasks.report_page": "tasks.graph.summary",
    "tasks.sbom": "tasks.tarball.sbom",
    "tasks.secrets": "tasks.infrastructure.secrets",
    "tasks.shared": "tasks.infrastructure.stage",
    "tasks.signature": "tasks.tarball.signature",
    "tasks.sleep": "tasks.environments.sleep",
    "tasks.ssh": "tasks.hosts.ssh",
    "tasks.standing": "tasks.graph.due",
    "tasks.state": "tasks.graph.state",
    "tasks.status": "tasks.environments.status",
    "tasks.store": "tasks.bucket.store",
    "tasks.terminal": "tasks.console.terminal",
    "tasks.verify": "tasks.tarball.verify",
    "tasks.workbench": "tasks.tarball.build.overlay",
}
MODULES_THAT_ARE_ROOMS = {
    "tasks.cloud.embedded": "tasks.cloud.embedded.lifecycle",
    "tasks.graph": "tasks.graph.stage",
    "tasks.infrastructure": "tasks.infrastructure.stage",
    "tasks.process": "tasks.process.children",
    "tasks.promotion": "tasks.promotion.rules",
    "tasks.release": "tasks.release.stage",
    "tasks.server": "tasks.server.stage",
    "tasks.sweep": "tasks.sweep.plan",
    "tasks.tarball": "tasks.tarball.stage",
}
"""The folder has the old module's name now, so only the path of a file is looked for."""

IDENTIFIERS = {
    "Asked": "CommandMixin",
    "Awkward": "Faults",
    "BAKERY": "IMAGE_BUILDER",
    "BaseImage": "DebianAmi",
    "BaseImageFailed": "DebianAmiFailed",
    "Bench": "Overlay",
    "CloudSaysNo": "CloudRefused",
    "Digested": "HashingReader",
    "Doomed": "Deletion",
    "Estate": "Inventory",
    "Hiding": "RedactedLog",
    "Keyed": "KeyedLayer",
    "Left": "Spared",
    "Member": "TarEntry",
    "Memory": "Sightings",
    "NotOurs": "ForeignCheckout",
    "Object": "StoredObject",
    "Paperhouse": "PaperCloud",
    "Picture": "Diagram",
    "Place": "EnvironmentInventory",
    "Recorded": "Managed",
    "Recording": "ManagedListener",
    "Standing": "Due",
    "Story": "PlaybookEvents",
    "Thing": "Resource",
    "Way": "PromotionPath",
    "admit": "check_checkout",
    "archive_key": "blob",
    "branch_id": "branch_identity",
    "copy_hollow": "copy_project",
    "estate": "inventory",
    "forget_launches": "forget",
    "from_command_line": "read",
    "images_in_use": "in_use",
    "inputs_of": "inputs",
    "keep_bodies": "keep_in_files",
    "launch_token": "token",
    "make_shared": "share",
    "raise_around": "kill",
}
"""Classes and functions. Ordinary words such as Member are looked for in code only, not in prose."""

ROLES = {
    r"\bguard_(stands|days|idle_hours)\b": "self_shutdown_enabled, _days, _idle_hours",
    r"\broles?[/:]\s*guard\b": "roles/self_shutdown",
    r"\broles?[/:]\s*begun\b": "roles/provisioning_started",
    r"\broles?[/:]\s*finished\b": "roles/provisioning_finished",
    r"\bguard\.(py|timer|service)\b": "self_shutdown.py, .timer, .service",
}


@functools.cache
def text_of(path):
    return (ROOT / path).read_text(errors="replace")


@functools.cache
def lines_of(path):
    """The lines that may name a module: there are few, and many old names are looked for."""
    return "\n".join(line for line in text_of(path).splitlines() if "tasks" in line)


FILES = [path for path in TRACKED if path not in ELSEWHERE and (ROOT / path).is_file()]


def found(pattern, text=text_of):
    return [path for path in FILES if re.search(pattern, text(path))]


def identifiers(path):
    """The names in a module's code, or in the code spans of a page."""
    if path in MODULES:
        tokens = tokenize.generate_tokens(io.StringIO(text_of(path)).readline)
        return {each.string for each in tokens if each.type == tokenize.NAME}
    return {name for span in re.findall(r"`([^`\n]+)`", text_of(path)) for name in re.findall(r"\w+", span)}


@pytest.mark.parametrize(("old", "new"), MODULES_MOVED.items())
def test_an_old_module_is_named_nowhere(old, new):
    room, _, name = old.rpartition(".")
    pattern = rf"\b{re.escape(old)}\b|\b{old.replace('.', '/')}\.py\b|from {re.escape(room)} import [^\n]*\b{name}\b"
    assert found(pattern, lines_of) == [], f"it is {new}"
    assert new.replace(".", "/") + ".py" in TRACKED


@pytest.mark.parametrize(("old", "new"), MODULES_THAT_ARE_ROOMS.items())
def test_an_old_module_that_is_a_room_is_no_file(old, new):
    assert found(rf"\b{old.replace('.', '/')}\.py\b", lines_of) == [], f"it is {new}"
    assert new.replace(".", "/") + ".py" in TRACKED


def test_every_new_name_exists():
    known = set().union(*(identifiers(path) for path in MODULES if path not in ELSEWHERE))
    assert sorted(set(IDENTIFIERS.values()) - known) == []


def test_an_old_class_or_function_is_named_nowhere():
    pages = [path for path in FILES if path in MODULES or path.endswith(".md")]
    old = {path: sorted(identifiers(path) & IDENTIFIERS.keys()) for path in pages}
    assert {path: {name: IDENTIFIERS[name] for name in names} for path, names in old.items() if names} == {}


@pytest.mark.parametrize(("old", "new"), ROLES.items())
def test_an_old_role_is_named_nowhere(old, new):
    assert found(old) == [], f"it is {new}"
