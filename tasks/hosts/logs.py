"""logs: prints the journals of several hosts as they come."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tasks.hosts import ssh
from tasks.process import bounds, children
from tasks.process.children import Cancelled, CommandFailed

INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class Show:
    """What is shown of a journal. `named`: each line begins with its host."""

    lines: int = 100
    follow: bool = False
    as_json: bool = False
    named: bool = False


def tell(hosts: Sequence[ssh.Host], show: Show, say: Callable[[str], None]) -> int:
    """Print each line of the hosts' journals; return an exit code. Raises a refusal of SSH."""
    with ThreadPoolExecutor(max_workers=len(hosts)) as pool:
        told = [pool.submit(_journal, each, show, say) for each in hosts]
        try:
            for each in told:
                each.result()
        except KeyboardInterrupt:
            children.interrupt()  # the threads wait for their children, which this ends
            return INTERRUPTED
        except Cancelled:
            return INTERRUPTED
    return 0


def command(show: Show) -> list[str]:
    """The command that runs on the host."""
    form = "json" if show.as_json else "short-iso"
    following = ["--follow"] if show.follow else []
    return ["sudo", "-n", "journalctl", "--no-pager", f"--lines={show.lines}", f"--output={form}", *following]


def _journal(host: ssh.Host, show: Show, say: Callable[[str], None]) -> None:
    def heard(line: str) -> None:
        say(_with_host(line, host.name) if show.as_json else f"{host.name}  {line}" if show.named else line)

    try:
        with ssh.login(host) as login:
            seconds = None if show.follow else bounds.HOST
            children.run([*login, *command(show)], say=heard, seconds=seconds)
    except CommandFailed as failed:
        raise ssh.refusal("logs", host) or failed from None


def _with_host(line: str, host: str) -> str:
    try:
        return json.dumps({"host": host, **json.loads(line)})
    except ValueError:  # a warning by ssh
        return json.dumps({"host": host, "MESSAGE": line})
