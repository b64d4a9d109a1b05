"""ssh: logs in to a host that is known by its keys, and says why that fails."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import enum
import hashlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.process import bounds, children, private
from tasks.process.children import CommandFailed
from tasks.refusal import Refusal

PATIENCE = 5
"""Seconds that a host has for an answer."""
ALIVE_EVERY, ALIVE_MISSED = 15, 4
"""Seconds between two signs of life of a host that was logged in to, and how many may be missing: then it has fallen silent."""
KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512")
"""The kinds of keys that a host has."""
SOCKET_LENGTH = 90
"""Characters that a connection's socket may have in its path: the kernel takes 107, of which OpenSSH uses 17 while it makes it."""
FAILED = 255
"""OpenSSH's own exit code, when it did not get as far as the command."""


class HostUnreachable(Refusal):
    """A host does not answer on its SSH port."""

    sentence = "{stage}: {host} ({address}) does not answer on port {port}"
    remedy = "doit plan infrastructure"


class HostKeyChanged(Refusal):
    """A host shows other SSH keys than its console printed at its first start."""

    sentence = "{stage}: {host} ({address}) shows an SSH host key that is not its own"
    remedy = "ssh-keyscan -p {port} {address}"


class LoginRefused(Refusal):
    """A host answers, but does not accept the deploy key."""

    sentence = "{stage}: {host} ({address}) refuses the key of the user {user}"
    remedy = "doit plan infrastructure"


class SshFailed(Refusal):
    """ssh of this machine does not get as far as a login, though the host answers with its own key."""

    sentence = "{stage}: ssh to {host} ({address}): {problem}"
    remedy = "doit status"


@dataclass(frozen=True, kw_only=True)
class SharedConnection:
    """A connection that several calls share: OpenSSH's control master."""

    socket: Path
    master: subprocess.Popen[bytes]

    @property
    def options(self) -> list[str]:
        """How OpenSSH uses it, once it is there; none where there is none, or none any more: then OpenSSH makes one of its own."""
        deadline = time.monotonic() + PATIENCE
        while self.master.poll() is None and time.monotonic() < deadline:
            if self.socket.exists():
                return ["-o", f"ControlPath={quoted(self.socket)}"]
            time.sleep(0.005)
        return []


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host, and what is needed to log in to it and to recognise it."""

    name: str
    address: str
    user: str
    key: str = field(repr=False)
    host_keys: tuple[str, ...]
    port: int = 22
    proxy: str = ""
    """OpenSSH's ProxyCommand; empty where the address is reached directly."""
    connection: SharedConnection | None = field(default=None, compare=False, repr=False)
    """None where each login makes a connection of its own."""

    @property
    def pattern(self) -> str:
        """What OpenSSH looks up in a file of known hosts."""
        return _pattern(self.address, self.port)


class LoginAnswer(enum.Enum):
    """How far a login gets."""

    NOTHING = enum.auto()
    OTHER_KEY = enum.auto()
    NO_LOGIN = enum.auto()
    LOGIN = enum.auto()


def options(known: Path, key: Path, proxy: str = "") -> list[str]:
    """Options that make OpenSSH trust only the known keys, and show only this one, whatever the user has configured."""
    return [
        "-F",
        "/dev/null",
        *("-o", "StrictHostKeyChecking=yes"),
        *("-o", f"UserKnownHostsFile={quoted(known)}"),
        *("-o", f"IdentityFile={quoted(key)}"),
        *("-o", "GlobalKnownHostsFile=/dev/null"),
        *("-o", "IdentitiesOnly=yes"),
        *("-o", "IdentityAgent=none"),
        *("-o", "BatchMode=yes"),
        *("-o", f"ServerAliveInterval={ALIVE_EVERY}", "-o", f"ServerAliveCountMax={ALIVE_MISSED}"),
        *(("-o", f"ProxyCommand={proxy}") if proxy else ()),
    ]


def quoted(path: Path) -> str:
    """A path as OpenSSH reads it in a setting: it splits at blanks, and expands what follows a `%`."""
    text = str(path)
    for special in ("\\", '"'):
        text = text.replace(special, f"\\{special}")
    return '"{}"'.format(text.replace("%", "%%"))


def known_hosts(hosts: Sequence[Host]) -> str:
    """The hosts' keys, as a file of known hosts."""
    return "".join(f"{host.pattern} {_bare(key)}\n" for host in hosts for key in host.host_keys)


def offered(address: str, port: int = 22, proxy: str = "") -> list[str]:
    """The public keys that whatever answers at an address offers, as `type key` lines. Nobody vouches for them."""
    if proxy:
        return _offered_through(proxy, address, port)
    scan = ["ssh-keyscan", "-T", str(PATIENCE), "-p", str(port), address]
    lines = map(str.split, (_ask(scan) or "").splitlines())
    return sorted(
        {" ".join(words[1:]) for words in lines if len(words) == 3 and words[0] == _pattern(address, port)}
    )


def _offered_through(proxy: str, address: str, port: int) -> list[str]:
    """The same through a proxy, which ssh-keyscan does not know: a login that stops before it says who it is."""
    found = set()
    for kind in KEY_TYPES:
        with private.folder("scan") as folder:
            known = folder / "known_hosts"
            trust = [*options(known, folder / "none", proxy), "-o", f"ConnectTimeout={PATIENCE}"]
            ask = [
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                f"HostKeyAlgorithms={kind}",
                "-o",
                "HashKnownHosts=no",
            ]
            # OpenSSH takes the first value that it is given
            _ask(
                [
                    *("ssh", *ask, *trust, "-o", "PreferredAuthentications=none"),
                    "-p",
                    str(port),
                    address,
                    "true",
                ]
            )
            lines = known.read_text().splitlines() if known.exists() else []
            found |= {" ".join(line.split()[1:3]) for line in lines}
    return sorted(found)


def fingerprint(key: str) -> str:
    """A public key's fingerprint, as `ssh-keygen -l` prints it."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def answer(host: Host) -> LoginAnswer:
    """Try, step by step, how far a login to a host gets."""
    return _try(host)[0]


def _try(host: Host) -> tuple[LoginAnswer, str]:
    """How far a login gets, and what ssh says when it does not get in."""
    found = set(offered(host.address, host.port, host.proxy))
    if not found:
        return LoginAnswer.NOTHING, ""
    if not found & {_bare(key) for key in host.host_keys}:
        return LoginAnswer.OTHER_KEY, ""
    with login(host) as command:
        try:
            children.run([*command, "true"], seconds=bounds.LOGIN)
        except CommandFailed as failed:
            said = str(failed.facts["tail"]).splitlines()
            return LoginAnswer.NO_LOGIN, "; ".join(line.removeprefix("    | ") for line in said)
    return LoginAnswer.LOGIN, ""


def python(
    host: Host,
    stage: str,
    program: str,
    *,
    say: Callable[[str], None] | None = None,
    seconds: float = bounds.HOST,
) -> str:
    """Run a program by the host's Python as root; return what it prints. One connection; nothing is left on the host.

    `say` gets each line as it comes. `seconds`: its bound.
    Raises HostUnreachable, HostKeyChanged, LoginRefused, or CommandFailed with the program's output.
    """
    try:
        with login(host) as command:
            command = [*command, "sudo", "-n", "python3", "-IS", "-"]
            return children.run(command, stdin=program.encode(), say=say, seconds=seconds)
    except CommandFailed as failed:
        raise refusal(stage, host) or failed from None


def refusal(stage: str, host: Host) -> Refusal | None:
    """Why a host cannot be reached, found by asking it. None if it can be."""
    return refused(stage, host, *_try(host))


def refused(stage: str, host: Host, answer: LoginAnswer, words: str) -> Refusal | None:
    """The refusal for an answer; `words`: what ssh said."""
    facts = {"stage": stage, "host": host.name, "address": host.address, "port": host.port}
    match answer:
        case LoginAnswer.NOTHING:
            return HostUnreachable(**facts)
        case LoginAnswer.OTHER_KEY:
            return HostKeyChanged(**facts)
        case LoginAnswer.NO_LOGIN:
            if "Permission denied" not in words:  # the host was not asked, or did not refuse
                return SshFailed(**facts, problem=words)
            return LoginRefused(**facts, user=host.user)
    return None


@contextlib.contextmanager
def login(host: Host) -> Iterator[list[str]]:
    """The command that logs in to a host; its key and known hosts are in a private folder until the end."""
    with private.folder("ssh") as folder:
        known, key = folder / "known_hosts", folder / "key"
        known.write_text(known_hosts([host]))
        key.touch(mode=0o600)
        key.write_text(host.key.rstrip("\n") + "\n")
        trust = [*options(known, key, host.proxy), "-o", f"ConnectTimeout={PATIENCE}"]
        shared = host.connection.options if host.connection else []
        yield ["ssh", *shared, *trust, "-p", str(host.port), "-l", host.user, host.address]


@contextlib.contextmanager
def connected(hosts: Sequence[Host]) -> Iterator[list[Host]]:
    """The hosts, with a connection to each that the calls within this share. It comes about beside what goes on meanwhile."""
    with contextlib.ExitStack() as held:
        folder = held.enter_context(private.folder("ways"))
        yield [
            dataclasses.replace(host, connection=held.enter_context(_master(host, folder / str(number))))
            for number, host in enumerate(hosts)
        ]


@contextlib.contextmanager
def _master(host: Host, socket: Path) -> Iterator[SharedConnection | None]:
    if len(str(socket)) > SOCKET_LENGTH:
        yield None
        return
    with login(host) as command:
        master = [command[0], "-M", "-N", "-o", f"ControlPath={quoted(socket)}", *command[1:]]
        with children.beside(master) as child:
            yield SharedConnection(socket=socket, master=child)


def _pattern(address: str, port: int) -> str:
    return address if port == 22 else f"[{address}]:{port}"


def _ask(command: Sequence[str]) -> str | None:
    """What a command prints, or None when it fails."""
    try:
        return children.run(command, seconds=bounds.LOGIN)
    except CommandFailed:
        return None


def _bare(key: str) -> str:
    """A key without its comment."""
    return " ".join(key.split()[:2])
