"""A role with a setting is added by its files and a line of a profile; no Python names it."""

from __future__ import annotations

import pytest

from tasks.hosts import managed
from tests.conftest import commit, doit
from tests.paper import copy_paper, users_cloud

SPECS = """---
argument_specs:
  main:
    short_description: A queue engine
    options:
      queue_heap:
        type: str
        choices: [1g, 2g]
        default: 1g
        description: Memory of the heap.
      queue_index:
        type: path
        required: true
        description: Template of the index.
"""
TASKS = """---
- name: Write the index
  ansible.builtin.template:
    src: "{{ queue_index }}"
    dest: /etc/queue.conf
    mode: "0644"
"""
NAME = "applications/magento2/profile.yml"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with one role more, which its profile lists, and a cloud for it."""
    with users_cloud(tmp_path_factory.mktemp("state")):
        root = copy_paper(tmp_path_factory.mktemp("project") / "shop")
        for path, text in {
            "roles/queue/meta/argument_specs.yml": SPECS,
            "roles/queue/tasks/main.yml": TASKS,
            "roles/queue/vars/main.yml": '---\n__queue_packages: ["queue-{{ queue_heap }}"]\n',
            "applications/magento2/index.j2": "heap {{ queue_heap }}\n",
            NAME: (root / NAME)
            .read_text()
            .replace("    self_shutdown:", "    queue: {index: index.j2}\n    self_shutdown:"),
        }.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        commit(root, "A role more")
        yield root


def said(answered, code=0):
    assert answered.returncode == code, answered.stdout + answered.stderr
    return answered.stderr if code else answered.stdout


def with_setting(root, text):
    """The testing environment's file with a setting of the role; what it was before."""
    file = root / "environments" / "testing.yml"
    before = file.read_text()
    file.write_text(f"{before}server:\n  queue: {text}\n")
    return file, before


def test_its_setting_and_its_files_are_inputs_of_the_stage(project):
    described = said(doit(project, "info", "--no-status", "server"))
    assert "server.queue.heap" in described
    assert "\n    queue  " in described.partition("roles/\n")[2]
    said(doit(project, "server"))
    file, before = with_setting(project, "{heap: 2g}")
    try:
        assert "server.queue.heap" in said(doit(project, "plan", "server"))
    finally:
        file.write_text(before)


def test_its_packages_decide_about_the_image(project):
    described = said(doit(project, "info", "--no-status", "image"))
    assert "queue_heap" in described
    assert "\n    queue  " in described.partition("roles/\n")[2]


def test_it_is_in_the_docs(project):
    said(doit(project, "docs"))
    assert "| `server.queue.heap` | one of 1g, 2g | `1g` | Memory of the heap |" in (project / "docs/settings.md").read_text()  # fmt: skip
    assert "| `server.roles.queue.index` | a template | must be given | " in (project / "docs/profiles.md").read_text()  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("{heep: 2g}", "server.queue.heep: unknown key (did you mean heap? known: heap"),
        ("{heap: 3g}", "server.queue.heap: should be one of 1g, 2g, not '3g'"),
    ],
)
def test_a_wrong_setting_is_refused(project, setting, sentence):
    file, before = with_setting(project, setting)
    line = before.count("\n") + 2
    try:
        assert said(doit(project, "list"), code=3).startswith(f"environments/testing.yml:{line}: {sentence}")
    finally:
        file.write_text(before)


@pytest.mark.promise("what-nobody-tells-is-refused")
def test_what_the_profile_tells_it_is_held_to_its_options(project):
    file = project / NAME
    before = file.read_text()
    try:
        file.write_text(before.replace("index.j2", "indx.j2"))
        refused = said(doit(project, "list"), code=3)
        assert (
            "server.roles.queue.index: should be a template in applications/magento2 (did you mean index.j2? "
            in refused
        )
        file.write_text(before.replace("queue: {index: index.j2}", "queue:"))
        assert "server.roles.queue.index: is missing (Template of the index)" in said(
            doit(project, "list"), code=3
        )
    finally:
        file.write_text(before)


def test_what_it_manages_is_known_to_the_ledger(project):
    assert "queue:\\ Write\\ the\\ index".replace("\\ ", " ") in [
        each.replace("\\ ", " ") for each in managed.declared(project, "server", ["queue"])
    ]
