"""home: the folder of a user's embedded cloud, and whether its server runs."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.cloud.embedded.address import LOOPBACK
from tasks.full_disk import full_disk
from tasks.process.life import started_at
from tasks.refusal import Refusal


class CloudDamaged(Refusal):
    """The file that says which cloud this is has other content, as after a full disk: its hosts cannot be found by it."""

    sentence = "cloud: {file} is damaged"
    remedy = "podman ps --all; ls -l {folder}"


class HomeRefused(Refusal):
    """The folder of the embedded cloud cannot be made."""

    sentence = "cloud: {folder} cannot be made: {problem}"
    remedy = "ls -ld {folder}"


class HomeUnknown(Refusal):
    """The user has no home folder: neither HOME nor an entry in passwd names one."""

    sentence = "cloud: no folder for the cloud: HOME is not set, and uid {uid} has no entry in passwd"
    remedy = "export XDG_STATE_HOME=$(mktemp -d)"


@dataclass(frozen=True, kw_only=True)
class CloudIdentity:
    """What a cloud keeps from its first start to `delete`."""

    id: str
    subnet: str
    """The /24 of its hosts; no other cloud of this machine has it."""
    gateway: str
    port: int = 0
    """The API's, on loopback and on the gateway; 0 until the first server has bound one."""
    forward_port: int = 0
    """The forwarder's port."""
    key: str = ""
    """Access key; requests with another one are refused."""
    secret: str = ""
    """Secret key."""
    presign_key: str = ""
    presign_secret: str = ""
    """Access and secret key of the URLs that hosts fetch: their logs show the access key, and it opens nothing else."""
    faults: bool = False
    """Whether it throttles, delays and pages as AWS does."""
    paused: bool = False
    """Whether `stop` stopped its hosts; then the next start starts them again."""
    boot: str = ""
    """The boot of this machine in which its hosts were last started."""

    @property
    def presigning(self) -> tuple[str, str]:
        """Access and secret key for URLs; the common ones while a server runs that was started before it had others."""
        if self.presign_key:
            return self.presign_key, self.presign_secret
        return self.key or "nobody", self.secret or "nobody"


@dataclass(frozen=True, kw_only=True)
class Home:
    """The folder of one cloud. It holds secrets: only the user may read it."""

    folder: Path

    @property
    def log(self) -> Path:
        """The server's log; each start empties it."""
        return self.folder / "server.log"

    @property
    def objects(self) -> Path:
        """The content of S3 objects, a file each."""
        return self.folder / "objects"

    @property
    def hosts(self) -> Path:
        """A folder for each host: its user data and its console."""
        return self.folder / "hosts"

    @property
    def state(self) -> Path:
        """All other state: SQLite."""
        return self.folder / "state.sqlite"

    def issuer_keys(self) -> dict[str, list[dict[str, str]]]:
        """The keys (JWK) of identity providers, by their URL. AWS fetches them; this cloud leaves this machine for nothing."""
        try:
            return self._read("issuers.json")
        except FileNotFoundError:
            return {}

    def register_issuer(self, url: str, keys: list[dict[str, str]]) -> None:
        """Let this cloud know an identity provider's keys."""
        self._write("issuers.json", {**self.issuer_keys(), url: keys})

    def identity(self) -> CloudIdentity | None:
        """The cloud's identity; None before its first start."""
        return self.load() if (self.folder / "cloud.json").exists() else None

    def load(self) -> CloudIdentity:
        """The identity of a cloud that exists."""
        values = self._read("cloud.json")
        if "awkward" in values:  # the former name of `faults`
            values["faults"] = values.pop("awkward")
        try:
            return CloudIdentity(**values)
        except TypeError:
            raise CloudDamaged(file=self.folder / "cloud.json", folder=self.folder) from None

    def change(self, identity: CloudIdentity, **values: object) -> CloudIdentity:
        """Write the identity with some values changed, and return it."""
        changed = dataclasses.replace(identity, **values)  # type: ignore[arg-type]
        self._write("cloud.json", dataclasses.asdict(changed))
        return changed

    def running(self) -> int | None:
        """The process id of the server that is ready to answer. Costs less than a millisecond."""
        try:
            server = self._read("server.json")
            return int(server["pid"]) if started_at(server["pid"]) == server["started"] else None
        except (OSError, CloudDamaged, LookupError, TypeError, ValueError):
            return None  # a start writes it anew, and the ports say whether another server runs

    def announce(self) -> None:
        """Record that this process is the server, and ready."""
        self._write("server.json", {"pid": os.getpid(), "started": started_at(os.getpid())})

    def make(self) -> None:
        """Make the folders, which only the user may read."""
        with full_disk("cloud", self.folder):
            for folder in (self.folder, self.objects, self.hosts):
                try:
                    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                except (FileExistsError, NotADirectoryError, PermissionError) as error:
                    raise HomeRefused(folder=folder, problem=error.strerror) from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let one command at a time start, stop or delete this cloud."""
        self.make()
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def remove(self) -> None:
        """Remove everything, the identity last, so that an interrupted removal can be repeated."""
        import shutil  # it imports every compression module; only this needs it

        for path in sorted(self.folder.iterdir(), key=lambda path: path.name == "cloud.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.folder.rmdir()

    def _read(self, name: str) -> dict[str, Any]:
        """A file of this folder. Raises FileNotFoundError or CloudDamaged."""
        path = self.folder / name
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:  # a full disk, or a machine that lost power
            values = None
        if not isinstance(values, dict):
            raise CloudDamaged(file=path, folder=self.folder)
        return values

    def _write(self, name: str, values: object) -> None:
        temporary = self.folder / f".{name}.{os.getpid()}"
        with full_disk("cloud", self.folder):
            temporary.touch(mode=0o600)
            temporary.write_text(json.dumps(values, indent=2) + "\n")
            temporary.replace(self.folder / name)


def of(environ: Mapping[str, str]) -> Home:
    """The home that the user's environment names."""
    try:
        state = environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
    except RuntimeError:  # a uid without a passwd entry, and no HOME
        raise HomeUnknown(uid=os.getuid()) from None
    return Home(folder=Path(state) / "release-pipeline" / "cloud")


def described(place: Home) -> list[str]:
    """Lines that say where a cloud is and where it answers."""
    identity = place.load()
    return [
        f"cloud {identity.id}  {place.folder}",
        f"api    http://{LOOPBACK}:{identity.port}  (hosts: {identity.gateway}, {identity.subnet})",
        f"names  http://NAME:{identity.forward_port}/",
    ]
