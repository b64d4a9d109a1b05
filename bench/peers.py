"""peers: Capistrano and plain ansible-playbook, told to do on a host what a release of ours does there.

Each fetches the same tarball, unpacks it beside the old release, links what releases share, switches, restarts PHP-FPM, and asks once
for the site's health. Neither verifies the tarball, nor asks the new release for a page before it switches.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.hosts import ssh
from tasks.hosts.ssh import Host

CAPISTRANO = {
    "Capfile": """
require "json"
require "shellwords"
require "capistrano/setup"
require "capistrano/deploy"
require "capistrano/scm/plugin"

TOLD = JSON.parse(File.read("told.json"))

class Tarball < Capistrano::SCM::Plugin
  def register_hooks
    after "deploy:new_release_path", "tarball:create_release"
    before "deploy:set_current_revision", "tarball:set_current_revision"
  end

  def define_tasks
    namespace :tarball do
      task :create_release do
        on release_roles(:all) do
          execute :mkdir, "-p", release_path
          execute :curl, "--fail --silent --show-error", TOLD["url"].shellescape,
                  "| tar --extract --zstd --file - --directory", release_path
        end
      end

      task :set_current_revision do
        set :current_revision, TOLD["release"]
      end
    end
  end
end

install_plugin Tarball
""",
    "config/deploy.rb": """
set :application, "peer"
set :deploy_to, TOLD["path"]
set :linked_dirs, TOLD["directories"]
set :linked_files, TOLD["files"]
set :keep_releases, TOLD["keep"]

after "deploy:published", "deploy:restart_php" do
  on release_roles(:all) do
    execute :sudo, "systemctl", "restart", TOLD["unit"].shellescape
    execute :curl, "--fail --silent --show-error --output /dev/null",
            "--header", "X-Forwarded-Proto:https", # or it is sent to the site's own address
            "--header", "Host: #{TOLD["host_name"]}".shellescape, TOLD["health"].shellescape
  end
end
""",
    "config/deploy/peer.rb": """
server TOLD["address"], user: TOLD["login"], port: TOLD["ssh_port"], roles: [:app], ssh_options: {
  config: false, keys: [TOLD["key"]], keys_only: true, auth_methods: ["publickey"], use_agent: false,
  user_known_hosts_file: TOLD["known_hosts"], global_known_hosts_file: "/dev/null", verify_host_key: :always
}
""",
}
PLAYBOOK = """
- hosts: all
  gather_facts: false
  vars:
    folder: "{{ path }}/releases/{{ release }}"
  tasks:
    - ansible.builtin.get_url: {url: "{{ url }}", dest: "{{ path }}/{{ release }}.tar.zst", mode: "0644"}
    - ansible.builtin.file: {path: "{{ folder }}", state: directory, mode: "0755"}
    - ansible.builtin.unarchive: {src: "{{ path }}/{{ release }}.tar.zst", dest: "{{ folder }}", remote_src: true}
    - ansible.builtin.file: {path: "{{ folder }}/{{ item }}", state: directory, mode: "0755"}
      loop: "{{ (directories + files) | map('dirname') | unique | select | list }}"
    - ansible.builtin.file: {src: "{{ path }}/shared/{{ item }}", dest: "{{ folder }}/{{ item }}", state: link, force: true}
      loop: "{{ directories + files }}"
    - ansible.builtin.file: {src: "{{ folder }}", dest: "{{ path }}/current", state: link}
    - ansible.builtin.systemd_service: {name: "{{ unit }}", state: restarted}
      become: true
    - ansible.builtin.uri: {url: "{{ health }}", headers: {Host: "{{ host_name }}", X-Forwarded-Proto: https}}
"""
ADMIT = """
import pathlib, subprocess
keys = "sntrup761x25519-sha512@openssh.com,curve25519-sha256,ecdh-sha2-nistp256"
pathlib.Path("/etc/ssh/sshd_config.d/00-bench.conf").write_text(f"KexAlgorithms {keys}\\n")
subprocess.run(["systemctl", "reload", "ssh"], check=True)
rule = ["insert", "rule", "inet", "filter", "output", "meta", "skuid", told["login"], "accept"]
subprocess.run(["nft", *rule], check=True)
"""
"""On the host: sshd accepts a key exchange that Debian's Capistrano knows: it knows none of those that a hardened sshd has. And the peers' user may fetch."""
PREPARE = """
import pathlib, shutil
root = pathlib.Path(told["path"])
for each in [root / "releases", *(root / "shared" / each for each in told["directories"])]:
    each.mkdir(parents=True, exist_ok=True)
for each in told["files"]:
    file = root / "shared" / each
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
for each in [root, *root.rglob("*")]:
    shutil.chown(each, told["login"], told["login"])
"""
"""On the host: a peer's folder, with the folders and files that its releases share."""
LOOK = """
import json, pathlib, subprocess
def systemctl(*words):
    return subprocess.run(["systemctl", *words], check=True, capture_output=True, text=True).stdout
listed = systemctl("list-units", "--type=service", "--state=running", "--plain", "--no-legend", "php*")
started = {
    name: int(systemctl("show", "--value", "--property=ActiveEnterTimestampMonotonic", name))
    for name in [line.split()[0] for line in listed.splitlines()]
}
unit = max(started, key=started.get, default="")
mark = pathlib.Path(told["path"], "current", told["mark"])
print(json.dumps([unit, started.get(unit, 0), mark.read_text() if mark.exists() else ""]))
"""
"""On the host: the unit of PHP-FPM that was started last, when that was, and what the current release's mark says."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A way to release: the command that does it, and the folder on the host that has its link `current`."""

    name: str
    path: str
    command: tuple[str, ...]
    cwd: Path
    restarts: bool = True
    environ: Mapping[str, str] = field(default_factory=dict)

    def tell(self, **told: Any) -> None:
        """Add to what a peer is told."""
        file = self.cwd / "told.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**known, **told}))


def ways(folder: Path, host: Host, **told: Any) -> Iterator[Peer]:
    """The peers that are installed here, each in a folder of its own; of one that is not, what to type is said.

    `told`: `host_name` and `health` of the site, `directories` and `files` that releases share, and how many releases to `keep`.
    """
    key, known = folder / "key", folder / "known_hosts"
    key.touch(mode=0o600)
    key.write_text(host.key.rstrip("\n") + "\n")
    known.write_text(ssh.known_hosts([host]))
    login = {"address": host.address, "login": host.user, "ssh_port": host.port}
    whole = {**told, **login, "key": str(key), "known_hosts": str(known)}
    on_host(host, ADMIT, **login)
    if shutil.which("cap"):
        deploy = ("cap", "peer", "deploy")
        yield _way(f"Capistrano {_version()}", folder / "capistrano", host, CAPISTRANO, deploy, whole)
    else:
        sys.stderr.write(
            "bench: Capistrano is not installed, so nothing is measured beside it\n    sudo apt-get install capistrano\n"
        )
    trust = shlex.join(ssh.options(known, key, host.proxy))
    play = str(Path(sys.executable).parent / "ansible-playbook")
    command = (play, "-i", f"{host.address},", "-u", host.user, "-e", "@told.json", "play.yml")
    environ = {
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_SSH_COMMON_ARGS": trust,
        # its connections would stay for a minute
        "ANSIBLE_SSH_ARGS": "-C -o ControlMaster=auto -o ControlPersist=5s",
    }
    whole |= {"ansible_port": host.port, "ansible_python_interpreter": "/usr/bin/python3"}
    yield _way(
        "`ansible-playbook`", folder / "ansible", host, {"play.yml": PLAYBOOK}, command, whole, environ
    )


def _way(
    name: str,
    cwd: Path,
    host: Host,
    files: Mapping[str, str],
    command: tuple[str, ...],
    told: Mapping[str, Any],
    environ: Mapping[str, str] | None = None,
) -> Peer:
    """A peer with its files, and its folder on the host."""
    for path, text in files.items():
        (cwd / path).parent.mkdir(parents=True, exist_ok=True)
        (cwd / path).write_text(text)
    way = Peer(name=name, path=f"/srv/{cwd.name}", command=command, cwd=cwd, environ=environ or {})
    way.tell(**told, path=way.path)
    on_host(host, PREPARE, **told, path=way.path)
    return way


def _version() -> str:
    """Of Capistrano, as it says itself."""
    said = subprocess.run(["cap", "--version"], capture_output=True, text=True, check=True).stdout
    return next(iter(said.split()[2:3]), "")


def seen(host: Host, way: Peer, mark: str) -> tuple[str, int, str]:
    """The unit of PHP-FPM that runs, when it was started, and what the file `mark` of a way's current release says."""
    unit, started, text = json.loads(on_host(host, LOOK, path=way.path, mark=mark))
    if not unit:
        sys.exit(f"bench: no unit of PHP-FPM runs on {host.name}\n    doit status")
    return unit, started, text


def on_host(host: Host, program: str, **told: Any) -> str:
    """Run a program on the host as root, which reads `told`."""
    return ssh.python(host, "bench", f"told = {told!r}\n{program}")
