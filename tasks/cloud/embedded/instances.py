"""instances: EC2's instances as containers. A state such as pending is worked on until the next one is reached."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.ec2.models.instances import StateReason

from tasks.cloud.embedded.runtime import REBOOTED, Launch, Runtime
from tasks.refusal import Refusal

LOG = logging.getLogger(__name__)
CODES = {
    "pending": 0,
    "running": 16,
    "shutting-down": 32,
    "terminated": 48,
    "stopping": 64,
    "stopped": 80,
}
NEXT = {"pending": "running", "stopping": "stopped", "shutting-down": "terminated"}
QUOTA = 1000
"""The vCPUs that may run at once."""
FORGET_AFTER = timedelta(hours=1)
"""How long EC2 still lists a terminated instance."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds that a state lasts at least; AWS is slower than containers."""

    pending: float = 0.0
    shutting_down: float = 0.0
    stopping: float = 0.0
    console: float = 60.0
    """Until the console shows what a host has printed."""
    latest_console: float = 0.0
    """The same for who asks for the latest."""

    def of(self, state: str) -> float:
        """Seconds that an instance stays in a state."""
        return float(getattr(self, state.replace("-", "_")))


class Instances:
    """The instances of one cloud.

    Requests are answered under `lock`. podman is called without it, in a thread for each instance, so that a lease
    can be renewed while an image is made.
    """

    def __init__(
        self,
        *,
        runtime: Runtime,
        lock: threading.RLock,
        save: Callable[[], None],
        folder: Path,
        debian_ami: str,
        debian_image: str,
        subnet: str,
        pace: Pace,
    ) -> None:
        self.runtime, self.lock, self.save = runtime, lock, save
        self.folder, self.subnet, self.pace = folder, ipaddress.ip_network(subnet), pace
        self.debian_ami, self.debian_image = debian_ami, debian_image
        self._turns: dict[str, threading.Lock] = {}
        self._restarting: set[str] = set()
        self._judged = threading.Condition()
        self._closing = False

    def fate(self) -> str:
        """What happens to the next launch: a line of the file `launches` in the cloud's folder, which a test writes; mostly nothing."""
        file = self.folder.parent / "launches"
        with contextlib.suppress(FileNotFoundError):
            fate, *rest = [*file.read_text().split(), ""]
            file.write_text(" ".join(rest))
            return fate
        return ""

    def taken(self) -> list[str]:
        """Names of buckets that another account has: the words of the file `taken` in the cloud's folder."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder.parent / "taken").read_text().split()
        return []

    def quota(self) -> int:
        """The vCPUs that may run: the number in the file `quota` in the cloud's folder, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            return int((self.folder.parent / "quota").read_text())
        return QUOTA

    # --- what requests ask for, under the lock ----------------------------------------------------

    def change(self, instance: Any, state: str, reason: str = "") -> None:
        """Set an instance's state, and begin the work that it needs."""
        set_state(instance, state, reason)
        if state in NEXT:
            _thread(self._settle, instance)

    def reboot(self, instance: Any) -> None:
        """Stop and start the host; the instance is never seen as stopped."""
        self._restarting.add(instance.id)  # `_died` leaves it alone
        _thread(self._restart, instance)

    def create_image(self, ami: Any, instance_id: str) -> None:
        """Make an AMI of a host: pending, then available."""
        ami.state = "pending"
        _thread(self._commit, ami, instance_id)

    def forget_image(self, ami: str) -> None:
        """Remove the image behind an AMI."""
        _thread(self.runtime.remove_image, ami)

    def free_address(self, subnet: ipaddress.IPv4Network) -> str:
        """The next address of a subnet that no instance of any region has, so that none is reused soon."""
        taken = {each.private_ip for _, each in self.all() if each.state != "terminated"}
        ours = [address for address in self.subnet.hosts() if address in subnet]
        hosts = [str(address) for address in ours][9:]  # the first ones are the network's own
        known = [each for _, each in self.all() if each.private_ip in hosts]
        last = max(known, key=made_at, default=None)
        start = hosts.index(last.private_ip) + 1 if last else 0
        return next(each for each in hosts[start:] + hosts[:start] if each not in taken)

    def all(self) -> Iterator[tuple[Any, Any]]:
        """Every instance of every region, each with its backend."""
        for _, _, backend in list(ec2_backends.iter_backends()):
            for reservation in list(backend.reservations.values()):
                for instance in reservation.instances:
                    yield backend, instance

    def forget_terminated(self) -> None:
        """Drop instances that EC2 would no longer list."""
        for _, _, backend in list(ec2_backends.iter_backends()):
            for reservation in list(backend.reservations.values()):
                ended = [getattr(each, "terminated_at", None) for each in reservation.instances]
                if all(at and utcnow() - at > FORGET_AFTER for at in ended):
                    del backend.reservations[reservation.id]
                    for instance in reservation.instances:
                        backend.tags.pop(instance.id, None)

    def console(self, host: str, *, latest: bool) -> str:
        """What the host has printed on its console since its last start. It shows late."""
        late = self.pace.latest_console if latest else self.pace.console
        until = f"{utcnow() - timedelta(seconds=late):%FT%T}"
        with contextlib.suppress(FileNotFoundError):
            lines = (self.folder / host / "console").read_text(errors="replace").splitlines()
            fields = [line.split(" ", 3) for line in lines if _as_utc(line.partition(" ")[0]) <= until]
            return "".join(
                each[3] + ("" if each[2] == "P" else "\n") for each in fields if len(each) == 4
            ).replace("\r", "")
        return ""

    def _empty_console(self, host: str) -> None:
        """A console is that of one start, and only the first one prints the host's keys."""
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self.folder / host / "console", 0)

    # --- before a request, without the lock -------------------------------------------------------

    def judge(self) -> None:
        """Wait until hosts that have just died are no longer shown as running."""
        with self._judged:
            self._judged.wait_for(lambda: not list(self._unjudged()), timeout=5)

    def _unjudged(self) -> Iterator[Any]:
        for _, instance in self.all():
            dead = instance.state == "running" and not self.runtime.alive(instance.id)
            if dead and instance.id not in self._restarting:
                yield instance

    # --- from start to end ------------------------------------------------------------------------

    def resume(self, bring_back: bool) -> None:
        """Attach to the hosts after a restart of the server, and continue what was under way.

        `bring_back`: this machine has booted, or `stop` stopped the hosts; those that ran are started again.
        """
        known = {instance.id: instance for _, instance in self.all()}
        containers = set(self.runtime.all())
        for stray in containers - {id for id, each in known.items() if each.state != "terminated"}:
            self.runtime.remove(stray)
        for instance in known.values():
            if instance.state in NEXT:
                _thread(self._settle, instance)
            elif instance.state == "running" and instance.id not in containers:
                self.change(instance, "shutting-down", "Server.InternalError: its container is gone")
            elif instance.state == "running" and not self.runtime.attach(instance.id, instance.private_ip):
                if bring_back:
                    self.change(instance, "pending")
                else:
                    self._died(instance)
        for _, _, backend in ec2_backends.iter_backends():
            for ami in [each for each in backend.amis.values() if each.state == "pending"]:
                if ami.id != self.debian_ami:
                    _thread(self._commit, ami, ami.instance_id)

    def watch(self) -> None:
        """Notice hosts that end by themselves. Never returns."""
        while True:
            for host in self.runtime.wait(3600):
                for instance in [each for _, each in self.all() if each.id == host]:
                    _thread(self._died, instance)

    def close(self) -> None:
        """Begin no more work, and wait for what is under way; the next server continues the rest."""
        self._closing = True
        for turn in list(self._turns.values()):
            turn.acquire()

    def _died(self, instance: Any) -> None:
        """Handle the end of a running host: restart it after a reboot, else stop or terminate it, as it was launched."""
        code: int | None = 0
        with self._turn(instance.id):  # work under way may have ended it, and may start it again
            running = instance.state != "running" or self.runtime.alive(instance.id)
            restarted = running or self.runtime.attach(instance.id, instance.private_ip)
            if not restarted and instance.id not in self._restarting:
                code = self.runtime.exit_code(instance.id)
                if code == REBOOTED:
                    self._restarting.add(instance.id)
                else:
                    self._ended(instance, gone=code is None)
        if code == REBOOTED:
            self._restart(instance)
        with self._judged:
            self._judged.notify_all()

    def _ended(self, instance: Any, *, gone: bool) -> None:
        behaviour = instance.instance_initiated_shutdown_behavior
        reason = "Client.InstanceInitiatedShutdown: Instance initiated shutdown"
        with self.lock:
            if instance.state == "running":
                ends = gone or behaviour == "terminate"
                self.change(instance, "shutting-down" if ends else "stopping", reason)
                self.save()

    def _settle(self, instance: Any) -> None:
        with self._turn(instance.id):
            while instance.state in NEXT and not self._closing:
                state, reached, reason = instance.state, NEXT[instance.state], ""
                begun = time.monotonic()
                try:
                    self._work(instance, state)
                except Refusal as refusal:
                    reason = f"Server.InternalError: {refusal.text.splitlines()[0]}"
                    LOG.error(f"{instance.id}: {state}: {refusal.text}")
                    reached = "shutting-down" if state == "pending" else reached
                time.sleep(max(0.0, self.pace.of(state) - (time.monotonic() - begun)))
                with self.lock:
                    if instance.state == state:
                        set_state(instance, reached, reason)
                    self.save()

    def _work(self, instance: Any, state: str) -> None:
        if state == "pending":
            self._seed(instance)
            self._empty_console(instance.id)
            self.runtime.run(
                Launch(
                    id=instance.id,
                    image=self._image(instance.image_id),
                    address=instance.private_ip,
                    folder=self.folder / instance.id,
                )
            )
        elif state == "stopping":
            self.runtime.stop(instance.id)
        else:
            self.runtime.remove(instance.id)
            shutil.rmtree(self.folder / instance.id, ignore_errors=True)

    def _restart(self, instance: Any) -> None:
        try:
            with self._turn(instance.id):
                if instance.state == "running":
                    self.runtime.stop(instance.id)
                    self._empty_console(instance.id)
                    self.runtime.start(instance.id, instance.private_ip)
        except Refusal as refusal:
            LOG.error(f"{instance.id}: reboot: {refusal.text}")
            with self.lock:
                self.change(instance, "stopping", f"Server.InternalError: {refusal.text}")
                self.save()
        finally:
            self._restarting.discard(instance.id)

    def _commit(self, ami: Any, host: str) -> None:
        state, reason = "available", StateReason()
        try:
            with self._turn(host):
                self.runtime.commit(host, ami.id)
        except Refusal as refusal:
            state, reason = "failed", StateReason(refusal.text, "Server.InternalError")
        with self.lock:
            ami.state, ami.state_reason = state, reason
            self.save()

    def _image(self, ami: str) -> str:
        return self.debian_image if ami == self.debian_ami else self.runtime.image(ami)

    def _seed(self, instance: Any) -> None:
        seed = self.folder / instance.id / "seed"
        seed.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = "ip-" + instance.private_ip.replace(".", "-")
        meta = {"instance-id": instance.id, "local-hostname": name}
        (seed / "meta-data").write_text(json.dumps(meta))
        (seed / "user-data").write_bytes(base64.b64decode(str(instance.user_data or "")))

    def _turn(self, host: str) -> threading.Lock:
        return self._turns.setdefault(host, threading.Lock())


def made_at(instance: Any) -> Any:
    """When an instance was made: a start renews its launch time."""
    return getattr(instance, "made_at", instance.launch_time)


def _as_utc(stamp: str) -> str:
    """A time of the container runtime's log, as UTC to the second."""
    try:
        at = datetime.fromisoformat(stamp)
    except ValueError:
        return ""
    return f"{at.astimezone(UTC):%FT%T}"


def set_state(instance: Any, state: str, reason: str = "") -> None:
    """Write a state into moto's instance."""
    instance._state.name, instance._state.code = state, CODES[state]
    if reason or state in ("pending", "running"):  # why an instance ended stays
        instance._reason = reason and f"{reason.partition(':')[2].strip()} ({utcnow():%F %T} UTC)"
        instance.state_reason = StateReason(reason, reason.partition(":")[0])
    if state == "terminated":
        instance.terminated_at = utcnow()


def _thread(work: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=work, args=arguments, daemon=True).start()
