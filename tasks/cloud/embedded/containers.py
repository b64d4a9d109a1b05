"""containers: one cloud's hosts, network and images in podman. The only door to podman."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import logging
import os
import re
import resource
import select
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tasks import environ
from tasks.cloud.embedded import nft
from tasks.cloud.embedded.address import hardware_address
from tasks.cloud.embedded.runtime import Launch
from tasks.process import bounds, children
from tasks.process.children import ChildSilent, CommandMissing
from tasks.refusal import Refusal

LABEL = "release-pipeline.cloud"
LOG = logging.getLogger(__name__)
FREEZES, BETWEEN_FREEZES = 8, 0.5
"""Tries to make a container stand still, and seconds between them."""
SLOW = 5.0
NET_ADMIN, SYS_BOOT = 12, 22
"""Capabilities, by their numbers."""
FIRST_RANGE = int(ipaddress.IPv4Address("10.64.0.0"))
RANGES = 128 * 256
CLEAN = (
    "rm -rf /etc/ssh/ssh_host_* /var/lib/cloud /var/log/cloud-init* /run/cloud-init"
    " /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys /var/lib/dbus/machine-id;"
    " : > /etc/machine-id"
)
"""Removes from an image the identity of its host and the keys that may log in."""


class NetworkDenied(Refusal):
    """This process is root of a container that may make no networks, and a host needs one."""

    sentence = "cloud: this container may make no networks for hosts: it lacks the capability NET_ADMIN"
    remedy = "start the container of this job with --privileged"


class PodmanMissing(Refusal):
    """The embedded cloud runs its hosts in podman, and podman is not installed."""

    sentence = "cloud: podman is not installed"
    remedy = "apt-get install podman runc crun netavark iptables nftables iproute2 mmdebstrap"


class PodmanRefused(Refusal):
    """A podman command of the embedded cloud fails."""

    sentence = "cloud: podman {command}: {problem}"
    remedy = "podman info"


class Containers:
    """The containers of one cloud; they carry its id as label and in their names."""

    def __init__(self, cloud: str, *, filters: bool = False) -> None:
        self.cloud, self.filters = cloud, filters
        self.network = f"release-pipeline-{cloud}"
        self._processes: dict[str, int] = {}  # a pid file descriptor for each running host
        self._interfaces: dict[str, int] = {}
        self._changed = os.eventfd(0)

    def name(self, host: str) -> str:
        """The container's name."""
        return f"{self.network}-{host}"

    def image(self, ami: str) -> str:
        """The podman image of one of this cloud's own AMIs."""
        return f"localhost/{self.network}:{ami}"

    def run(self, launch: Launch) -> None:
        """Create the host unless it exists, and start it at its address."""
        if launch.id not in self.all():
            options = (*_limits(), *_shares(launch.memory), *_capabilities())
            volume = f"{launch.folder}/seed:/var/lib/cloud/seed/nocloud:ro"
            podman(
                *(*runtime_options(), "run", "--detach", "--tty", "--systemd=always", *options),
                *("--name", self.name(launch.id), "--label", f"{LABEL}={self.cloud}"),
                *("--network", self.network, "--ip", launch.address),
                *("--mac-address", hardware_address(launch.address)),
                *("--hostname", "ip-" + launch.address.replace(".", "-"), "--volume", volume),
                *("--log-driver", "k8s-file", "--log-opt", f"path={launch.folder}/console"),
                *("--log-opt", "max-size=4mb", launch.image, "/sbin/init"),
            )
        self.start(launch.id, launch.address)

    def start(self, host: str, address: str) -> None:
        """Start a stopped host. Raises PodmanRefused if it does not get its address."""
        if not self.attach(host, address):
            podman("start", self.name(host))
            if not self.attach(host, address):
                raise PodmanRefused(command=f"start {host}", problem=f"it is not at {address}")

    def attach(self, host: str, address: str) -> bool:
        """Whether the host runs at this address. If so, `alive` and `wait` watch its process from then on."""
        found = self._inspect(host)
        if not found or found["State"]["Status"] != "running":
            return False
        if found["NetworkSettings"]["Networks"][self.network]["IPAddress"] != address:
            return False
        self._forget(host)
        if self.filters:
            self._interfaces[host] = nft.interface(found["NetworkSettings"]["SandboxKey"])
        with contextlib.suppress(ProcessLookupError):
            self._processes[host] = os.pidfd_open(found["State"]["Pid"])
            os.eventfd_write(self._changed, 1)
        return self.alive(host)

    def alive(self, host: str) -> bool:
        """Whether the host's init runs: one system call."""
        process = self._processes.get(host)
        return process is not None and not select.select([process], [], [], 0)[0]

    def interface(self, host: str) -> int:
        """This machine's end of a running host's cable; 0 if it has none."""
        return self._interfaces.get(host, 0) if self.alive(host) else 0

    def wait(self, seconds: float) -> list[str]:
        """Wait until hosts die, or the set of running ones changes; return those that died."""
        watched = {process: host for host, process in list(self._processes.items())}
        try:
            ended = select.select([self._changed, *watched], [], [], seconds)[0]
        except OSError:  # one of them was closed meanwhile
            return []
        if self._changed in ended:
            os.eventfd_read(self._changed)
        # check again: a host that was restarted meanwhile may have the file descriptor of one that died
        dead = [watched[each] for each in ended if each in watched and not self.alive(watched[each])]
        for host in dead:
            self._forget(host)
        return dead

    def exit_code(self, host: str) -> int | None:
        """A host's exit code; None if its container is gone."""
        self._forget(host)
        for _ in range(100):
            found = self._inspect(host)
            if not found:
                return None
            if found["State"]["Status"] in ("exited", "created"):
                return int(found["State"]["ExitCode"])
            time.sleep(0.05)
        return 137

    def stop(self, host: str) -> None:
        """Shut a host down, and keep its disk."""
        if self.exists(host):
            podman("stop", "--time", "20", self.name(host))
        self._forget(host)

    def remove(self, host: str) -> None:
        """Remove a host and its disk."""
        podman("rm", "--force", "--ignore", "--time", "2", self.name(host))
        self._forget(host)
        self._prune()

    def commit(self, host: str, ami: str) -> None:
        """Make an image of a host, without the host's identity. The host keeps running."""
        wanted, raw, cleaner = self.image(ami), self.image(f"{ami}-raw"), self.name(ami)
        label, change = f"{LABEL}={self.cloud}", ("--change", f"LABEL={LABEL}={self.cloud}")
        try:
            _commit_still(*change, self.name(host), raw)
            clean = ("--entrypoint", "", raw, "/bin/sh", "-c", CLEAN)
            options = ("--network", "none", "--name", cleaner, "--label", label, *_limits())
            podman(*runtime_options(), "run", *options, *clean)
            podman("commit", "--quiet", *change, cleaner, wanted)
        finally:
            podman("rm", "--force", "--ignore", cleaner)
            remove_image(raw)

    def remove_image(self, ami: str) -> None:
        """Remove the image of one of this cloud's own AMIs."""
        remove_image(self.image(ami))
        self._prune()

    def exists(self, host: str) -> bool:
        """Whether the host has a container, running or not."""
        return _try("container", "exists", self.name(host))

    def all(self) -> list[str]:
        """The ids of all hosts that have a container."""
        prefix = self.name("i-")
        names = podman("ps", "--all", "--filter", f"label={LABEL}={self.cloud}", "--format", "{{.Names}}")
        return [name[len(prefix) - 2 :] for name in names.split() if name.startswith(prefix)]

    def create_network(self, subnet: str) -> bool:
        """Make the network; False if another one of this machine has that range."""
        gateway = str(next(ipaddress.ip_network(subnet).hosts()))
        label = ("--label", f"{LABEL}={self.cloud}")
        range_ = ("--subnet", subnet, "--gateway", gateway, "--disable-dns")
        try:
            podman("network", "create", *label, *range_, self.network)
        except PodmanRefused as refusal:
            if re.search(r"subnet .* already used", str(refusal)):
                return False
            raise
        return True

    def stop_all(self) -> int:
        """Stop every host; return how many ran."""
        running = podman("ps", "--quiet", "--filter", f"label={LABEL}={self.cloud}").split()
        if running:
            podman("stop", "--time", "20", *running)
        nft.remove(self.network)
        return len(running)

    def remove_all(self) -> None:
        """Remove hosts, images, network and rules: nothing of this cloud stays in podman and in the kernel."""
        ours = f"label={LABEL}={self.cloud}"
        if containers := podman("ps", "--all", "--quiet", "--filter", ours).split():
            podman("rm", "--force", "--time", "2", *containers)
        nft.remove(self.network)
        if images := podman("images", "--all", "--quiet", "--filter", ours).split():
            podman("rmi", "--force", *dict.fromkeys(images))
        claims = ("--filter", f"reference=localhost/{self.network}")
        for name in podman("images", "--format", "{{.Repository}}:{{.Tag}}", *claims).split():
            if name.startswith(f"localhost/{self.network}:"):  # the filter matches an image's other names too
                podman("untag", name, name)
        if _try("network", "exists", self.network):
            podman("network", "rm", "--force", self.network)

    def _prune(self) -> None:
        # images that lost their name while hosts still used them
        podman("image", "prune", "--force", "--filter", f"label={LABEL}={self.cloud}")

    def _inspect(self, host: str) -> Any:
        if not self.exists(host):
            return None
        return json.loads(podman("container", "inspect", self.name(host)))[0]

    def _forget(self, host: str) -> None:
        self._interfaces.pop(host, None)
        process = self._processes.pop(host, None)
        if process is not None:
            os.close(process)


def podman(*arguments: str, stdin: IO[bytes] | None = None, seconds: float = bounds.PODMAN) -> str:
    """Run podman and return its output. Raises PodmanMissing, or PodmanRefused with its last line."""
    begun = time.monotonic()
    try:
        # a session of its own: Ctrl-C ends our command, not a container that is being made
        code, printed, said = children.ask(
            ["podman", *arguments], env=environ.of("cloud"), stdin=stdin, seconds=seconds
        )
    except CommandMissing:
        raise PodmanMissing from None
    except ChildSilent as silent:
        problem = f"did not end within {silent.facts['seconds']} s and was ended"
        raise PodmanRefused(command=arguments[0], problem=problem) from None
    if time.monotonic() - begun > SLOW:
        LOG.warning("podman %s took %.0f s", " ".join(arguments), time.monotonic() - begun)
    if code:
        last = (said.decode(errors="replace").strip().splitlines() or [f"exit code {code}"])[-1]
        command = arguments[2] if arguments[0] == "--runtime" else arguments[0]
        raise PodmanRefused(command=command, problem=last.removeprefix("Error: "))
    return printed.decode(errors="replace")


def _commit_still(*arguments: str) -> None:
    """Make an image of a container that stands still meanwhile. One that starts programs quickly may do so after some tries only.

    runc gives up a freeze of cgroups v1 that processes outrun which are just being made. Raises as `podman`.
    """
    for left in reversed(range(FREEZES)):
        try:
            podman("commit", "--quiet", "--pause", *arguments)
            return
        except PodmanRefused as refused:
            if not left or not str(refused.facts["problem"]).startswith("pausing container"):
                raise
        time.sleep(BETWEEN_FREEZES)


def has_image(image: str) -> bool:
    """Whether podman has an image of that name."""
    return _try("image", "exists", image)


def remove_image(image: str) -> None:
    """Remove an image, if it is there; a container that was made from it keeps its layers."""
    if has_image(image) and not _try("rmi", image):
        podman("untag", image)


def unclaimed(prefix: str) -> list[str]:
    """The images whose name has this prefix and that no cloud has given a second name."""
    listed: dict[str, list[str]] = {}
    for line in podman("images", "--format", "{{.Id}} {{.Repository}}:{{.Tag}}").splitlines():
        id, name = line.split()
        listed.setdefault(id, []).append(name)
    return [names[0] for names in listed.values() if len(names) == 1 and names[0].startswith(prefix)]


def usable() -> None:
    """Refuse early where podman is missing or cannot work here."""
    podman("version")
    if os.geteuid():
        raise PodmanRefused(command="run", problem="giving hosts addresses of their own needs root")
    if not _may(NET_ADMIN):
        raise NetworkDenied


def ranges(seed: str) -> Iterator[str]:
    """Private /24 ranges that overlap no route of this machine; the seed decides their order."""
    taken = list(_routes())
    number = int(hashlib.sha256(seed.encode()).hexdigest(), 16)
    for offset in range(RANGES):
        candidate = ipaddress.IPv4Network((FIRST_RANGE + (number + offset * 997) % RANGES * 256, 24))
        if not any(candidate.overlaps(network) for network in taken):
            yield str(candidate)


def _routes() -> Iterator[ipaddress.IPv4Network]:
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        destination, mask = (int(line.split()[field], 16) for field in (1, 7))
        if mask:  # the default route overlaps every range
            octets = (destination.to_bytes(4, "little"), mask.to_bytes(4, "little"))
            address, netmask = (ipaddress.IPv4Address(each) for each in octets)
            yield ipaddress.IPv4Network(f"{address}/{netmask}")


def _try(*arguments: str) -> bool:
    try:
        podman(*arguments)
    except PodmanRefused:
        return False
    return True


def runtime_options() -> tuple[str, ...]:
    """Options that choose the OCI runtime: crun needs unified cgroups, and runc is not installed everywhere."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    wanted = "crun" if unified and shutil.which("crun") else "runc"
    return ("--runtime", wanted) if shutil.which(wanted) else ()


def _limits() -> tuple[str, ...]:
    # podman asks for more than this process may have, and fails without CAP_SYS_RESOURCE
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    most = [most if hard < 0 else min(hard, most) for hard, most in ((files, 65536), (processes, 32768))]
    return ("--ulimit", f"nofile={most[0]}:{most[0]}", "--ulimit", f"nproc={most[1]}:{most[1]}")


def _shares(memory: int) -> tuple[str, ...]:
    """What a host with so many MiB may take of this machine, where it has the controllers for that; there is no swap."""
    unified = Path("/sys/fs/cgroup/cgroup.subtree_control")
    if unified.exists():
        present = set(unified.read_text().split())
    else:
        present = {path.name for path in Path("/sys/fs/cgroup").glob("*/")}
    limits = {
        "memory": (f"--memory={memory}m", f"--memory-swap={memory}m"),
        "pids": (f"--pids-limit={memory // 2}",),
    }
    return tuple(option for name, options in limits.items() if name in present for option in options)


def _capabilities() -> tuple[str, ...]:
    # NET_ADMIN: for the host's firewall. SYS_BOOT: in a pid namespace, reboot(2) ends only that namespace, and its
    # exit code differs from a halt's; where this machine lacks SYS_BOOT, a reboot is taken for a halt
    return ("--cap-add", "NET_ADMIN", *(("--cap-add", "SYS_BOOT") if _may(SYS_BOOT) else ()))


def _may(capability: int) -> bool:
    """Whether this process may have a capability, and so give it to a host."""
    bounding = re.findall(r"CapBnd:\s*(\w+)", Path("/proc/self/status").read_text())[0]
    return bool(int(bounding, 16) >> capability & 1)
