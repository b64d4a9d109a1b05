"""What no role manages any more goes from a host, and nothing else does."""

from __future__ import annotations

import pytest

from tests.conftest import commit

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("pages")]

TASKS = """
- name: Write what goes again
  ansible.builtin.copy:
    content: "# nothing\\n"
    dest: "{{ __nginx_path }}"
    mode: "0644"
  loop: [/etc/nginx/extra.conf, /etc/cron.d/extra, /srv/extra.txt]
  loop_control:
    loop_var: __nginx_path
  when: WHEN

- name: Run something by the clock
  ansible.builtin.cron:
    name: extra
    job: "true"
    minute: "1"
  when: WHEN
"""
FAILS = """
- name: Fail at the end
  ansible.builtin.command:
    argv: ["false"]
"""


@pytest.fixture
def nginx(pages):
    """Change the role nginx of the project; it is put back at the end."""
    paths = [pages.root / "roles" / "nginx" / each / "main.yml" for each in ("tasks", "vars")]
    texts = [path.read_text() for path in paths]

    def change(tasks, packages):
        paths[0].write_text(texts[0] + tasks)
        paths[1].write_text(texts[1].replace("[nginx]", f"[{', '.join(['nginx', *packages])}]"))
        commit(pages.root)
        return pages.doit("server")

    yield change
    if [path.read_text() for path in paths] != texts:
        change("", [])


@pytest.mark.promise("leftovers-are-printed", "failed-provisioning-removes-nothing")
def test_what_no_role_manages_any_more_goes_and_nothing_else_does(pages, nginx, tmp_path):
    def ssh(*command):
        return pages.ssh(*command, tmp=tmp_path)

    there = "ls /etc/nginx/extra.conf /etc/cron.d/extra; crontab -l; dpkg-query -W -f=\\${Status} tree"
    assert nginx(TASKS.replace("WHEN", "true"), ["tree"]).returncode == 0
    before = ssh(there)
    # a part is skipped: carried over
    answered = nginx(TASKS.replace("WHEN", "false"), ["tree"])
    assert answered.returncode == 0
    assert "leftover" not in answered.stdout
    assert ssh(there) == before
    # not declared any more, but the playbook fails
    answered = nginx(FAILS, [])
    assert answered.returncode == 1
    assert "leftover" not in answered.stdout
    assert ssh(there) == before
    answered = nginx("", [])
    assert answered.returncode == 0, answered.stderr
    for line in [
        "file /etc/nginx/extra.conf: removed",
        "file /etc/cron.d/extra: removed",
        "cron root extra: removed",
        "package tree: purged",
        "file /srv/extra.txt: stays, it may hold data",
    ]:
        assert f"leftover {line}" in answered.stdout
    gone = ssh(
        "ls /etc/nginx/extra.conf /etc/cron.d/extra 2>/dev/null; crontab -l | grep -v ^#; dpkg-query -W tree 2>/dev/null || true"
    )
    assert gone.strip() == ""
    assert ssh("ls /srv/extra.txt")
    assert "leftover" not in pages.doit("release").stdout
    assert pages.get()[0] == 200
