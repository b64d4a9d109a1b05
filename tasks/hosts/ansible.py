"""ansible: play a playbook on hosts, and say in one sentence what failed."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from tasks import environ, required_roles
from tasks.console.console import Console
from tasks.hosts.managed import Managed
from tasks.hosts.playbook_events import PlaybookEvents, PlaybookIdle
from tasks.hosts.ssh import ALIVE_EVERY, ALIVE_MISSED, Host, known_hosts, options, refusal
from tasks.process import bounds, children, private
from tasks.process.children import Cancelled
from tasks.refusal import Refusal

ROOT = Path(__file__).parents[2]
PLAIN = "linear"
"""Ansible's own strategy, which works wherever Ansible does."""
SETTINGS = "[defaults]\ninternal_poll_interval = 0.005\n"
"""What no variable sets: a thousand looks a second at whether a task has ended take the time that the tasks need."""
RUNNER_S_OWN = (
    *("ANSIBLE_STDOUT_CALLBACK", "ANSIBLE_RETRY_FILES_ENABLED", "AWX_ISOLATED_DATA_DIR"),
    *("RUNNER_OMIT_EVENTS", "RUNNER_ONLY_FAILED_EVENTS"),
)
"""Variables that ansible-runner sets, so that Ansible tells it what happens."""
CHANGES_ONLY = {"ANSIBLE_DISPLAY_OK_HOSTS": "False"}
"""Ansible prints nothing of tasks that change nothing."""


class PlaySilent(Refusal):
    """A playbook did not end within its bound, and was ended: a task of it has fallen silent."""

    sentence = "{stage}: ansible-playbook {stage}.yml: did not end within {seconds} s and was ended"
    remedy = "doit logs"


@dataclass(frozen=True, kw_only=True)
class Recap:
    """What a successful playbook did on all hosts; `recorded`: what it manages on each."""

    changed: int
    ok: int
    seconds: float
    recorded: Mapping[str, Managed] = field(default_factory=dict)


Own = Mapping[str, Mapping[str, object]]
"""Variables that a host alone has, by the host's name."""
AT_ONCE = 10
"""Hosts that are worked on at once."""


def play_each(playbook: str, *, hosts: Sequence[Host], log: Path | None, **how: Any) -> Recap:
    """The same on hosts that differ: each has an Ansible of its own, as one for all would do what one host alone has while the others wait.

    Each host has a log of its own beside. All come to their end; raises the refusal of the first one that fails. No role of one host may
    need that another one has had its own.
    """

    def alone(host: Host) -> Recap:
        own = log and log.with_stem(f"{log.stem}-{host.name}")
        return play(playbook, hosts=[host], log=own, **how)

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="each") as pool:
        recaps = [*pool.map(alone, hosts)]
    return Recap(
        changed=sum(each.changed for each in recaps),
        ok=sum(each.ok for each in recaps),
        seconds=max(each.seconds for each in recaps),
        recorded={name: found for each in recaps for name, found in each.recorded.items()},
    )


def play(
    playbook: str,
    *,
    hosts: Sequence[Host],
    variables: Mapping[str, object],
    strategy: str,
    console: Console,
    log: Path | None,
    own: Own | None = None,
    seconds: float = bounds.PLAY,
) -> Recap:
    """Play `playbooks/PLAYBOOK.yml` on the hosts; `log` gets everything that Ansible prints. Raises PlaySilent, or why it failed."""
    started, say = time.monotonic(), console.say(playbook)
    if strategy != PLAIN and not mitogen():
        console.once(playbook, f"mitogen is not installed: plays with {PLAIN}, slower")
        strategy = PLAIN
    status, story = _play(playbook, hosts, variables, own, strategy, say, log, seconds)
    if status == "failed" and not story.begun and strategy != PLAIN and not children.cancelled():
        # nothing was changed, so it can be played again: mitogen may not support this Ansible
        console.once(playbook, f"{strategy} did not get to a first task: plays with {PLAIN}, slower")
        status, story = _play(playbook, hosts, variables, own, PLAIN, say, log, seconds)
    for note in story.notes:
        console.once(playbook, note)
    accept(status, story, playbook, hosts)
    return Recap(
        changed=story.changed,
        ok=story.ok,
        seconds=time.monotonic() - started,
        recorded=story.recording.hosts,
    )


def preview(
    playbook: str,
    *,
    hosts: Sequence[Host],
    variables: Mapping[str, object],
    say: Callable[[str], None],
    own: Own | None = None,
    differ: bool = False,
) -> list[str]:
    """What a play would change, as Ansible's check mode prints it with `--diff`; it changes nothing. `differ`: host by host."""

    def printed(some: Sequence[Host]) -> list[str]:
        with private.folder("preview") as folder:
            log = folder / "log"
            # linear: not all of mitogen's modules support check mode
            status, story = _play(playbook, some, variables, own, PLAIN, say, log, check=True)
            accept(status, story, playbook, some)
            return log.read_text().splitlines()

    together = [[each] for each in hosts] if differ else [hosts]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="preview") as pool:
        return [line for lines in pool.map(printed, together) for line in lines]


def accept(status: str, story: PlaybookEvents, playbook: str, hosts: Sequence[Host]) -> None:
    """Raise the refusal of a play that failed, or that did nothing on a host."""
    if status == "canceled" or children.cancelled():
        raise Cancelled(stage=playbook)
    for host in hosts:
        if host.name in story.unreachable:
            raise refusal(playbook, host) or story.failure()
    if status != "successful":
        raise story.failure()
    for host in hosts:
        if host.name not in story.worked_on:
            raise PlaybookIdle(stage=playbook, host=host.name)


def _play(
    playbook: str,
    hosts: Sequence[Host],
    variables: Mapping[str, object],
    own: Own | None,
    strategy: str,
    say: Callable[[str], None],
    log: Path | None,
    seconds: float = bounds.PLAY,
    *,
    check: bool = False,
) -> tuple[str, PlaybookEvents]:
    story = PlaybookEvents(playbook=playbook, say=say, log=log)
    try:
        with private.folder("play") as folder:  # it holds the key and the variables
            status = _run(
                folder,
                playbook=ROOT / "playbooks" / f"{playbook}.yml",
                inventory=_inventory(folder, hosts, variables, own or {}),
                environment=children.marked(
                    {**_environment(folder, strategy), **(CHANGES_ONLY if check else {})}
                ),
                story=story,
                seconds=seconds,
                check=check,
            )
    except TimeoutError:
        raise PlaySilent(stage=playbook, seconds=f"{seconds:g}") from None
    finally:
        story.close()
    return status, story


def _runner() -> ModuleType:
    """ansible-runner. By the package, whose import the other threads wait for: a module of it is found before all of it is there."""
    from ansible_runner import interface  # half a second to import, needed by plays only

    return cast("ModuleType", interface)


def _run(
    folder: Path,
    *,
    playbook: Path,
    inventory: Path,
    environment: Mapping[str, str],
    story: PlaybookEvents,
    seconds: float,
    check: bool,
) -> str:
    """Run Ansible in a thread: in the main one, ansible-runner would keep the signal handlers. Raises TimeoutError."""
    ansible_runner, over = _runner(), threading.Event()

    def stop() -> bool:
        if over.is_set() or children.cancelled():
            _end_all(folder)
            return True
        return False

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="play") as thread:
        try:
            runner = ansible_runner.init_runner(
                private_data_dir=str(folder),
                playbook=str(playbook),
                inventory=str(inventory),
                envvars=dict(environment),
                quiet=True,
                suppress_env_files=True,
                fact_cache_type="memory",
                event_handler=story.hear,
                cancel_callback=stop,
                **({"cmdline": "--check --diff"} if check else {}),
            )
            # ansible-runner adds the caller's environment to ours
            known = {*environment, *RUNNER_S_OWN}
            runner.config.env = {name: value for name, value in runner.config.env.items() if name in known}
            run = thread.submit(runner.run)
            deadline = time.monotonic() + seconds
            while wait([run], timeout=0.2).not_done:
                stop()  # ansible-runner itself asks only every five seconds
                if time.monotonic() > deadline:
                    raise TimeoutError
            run.result()
            return str(runner.status)
        finally:
            over.set()
            _end_all(folder)


def _inventory(folder: Path, hosts: Sequence[Host], variables: Mapping[str, object], own: Own) -> Path:
    """Write hosts and variables to a file that only this user can read; no secret is an argument."""
    _write(folder / "known_hosts", known_hosts(hosts))
    entries = {}
    for number, host in enumerate(hosts):
        key = _write(folder / f"key-{number}", host.key.rstrip("\n") + "\n")
        entries[host.name] = {
            **own.get(host.name, {}),
            "ansible_host": host.address,
            "ansible_port": host.port,
            "ansible_user": host.user,
            # Ansible splits it as a shell does; it and mitogen quote a private key's path in ways of their own
            "ansible_ssh_common_args": shlex.join(options(folder / "known_hosts", key, host.proxy)),
            "ansible_python_interpreter": "/usr/bin/python3",
            # mitogen tells OpenSSH its own, before ours
            "mitogen_ssh_keepalive_interval": ALIVE_EVERY,
            "mitogen_ssh_keepalive_count": ALIVE_MISSED,
        }
    inventory = {"all": {"hosts": entries, "vars": dict(variables)}}
    return _write(folder / "inventory.json", json.dumps(inventory))


@functools.cache
def mitogen() -> Path | None:
    """The folder of mitogen's strategies, found without loading it."""
    found = importlib.util.find_spec("ansible_mitogen")
    return Path(found.origin).parent / "plugins" / "strategy" if found and found.origin else None


def _environment(folder: Path, strategy: str) -> dict[str, str]:
    """Every setting of Ansible, so that neither the working directory nor the user's configuration decides one."""
    given = environ.of()
    return {
        **given,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{given.get('PATH', os.defpath)}",
        "ANSIBLE_CONFIG": str(_write(folder / "ansible.cfg", SETTINGS)),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_ROLES_PATH": os.pathsep.join(map(str, required_roles.search_path(ROOT))),
        "TMPDIR": str(folder),  # mitogen does not remove its sockets
        "ANSIBLE_STRATEGY": strategy,
        "ANSIBLE_STRATEGY_PLUGINS": str(mitogen() or ""),
        "ANSIBLE_FORKS": str(AT_ONCE),
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_TIMEOUT": "10",
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=30s",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "ssh"),
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "False",
        "ANSIBLE_NOCOLOR": "True",
        # ansible-runner adds to these what the caller has
        "ANSIBLE_CALLBACK_PLUGINS": "",
        "AWX_LIB_DIRECTORY": "",
    }


def _write(path: Path, content: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(content)
    return path


def _end_all(folder: Path) -> None:
    """End every process that the play started.

    Ansible's workers, mitogen and SSH's master connections leave the process group. But each has the private
    folder in its environment or, if a process title has overwritten that, in its command line.
    """
    mark = f"{folder}/".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if any(mark in (folder / name).read_bytes() for name in ("cmdline", "environ")):
                os.kill(int(folder.name), signal.SIGKILL)
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue  # it has ended, or belongs to another user
