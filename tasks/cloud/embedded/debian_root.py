"""debian_root: builds debian-12, the first image of every cloud, from this machine's apt sources."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tasks import environ
from tasks.cloud.embedded import containers
from tasks.cloud.embedded.containers import PodmanRefused
from tasks.process import bounds, children
from tasks.process.children import CommandMissing
from tasks.refusal import Refusal

NAME = "debian-12"
SUITE = "bookworm"
# only root may write there: in a folder that everybody writes to, another user could put a link in its place
LOCK = Path("/run/release-pipeline-base-image.lock")
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "openssh-server", "cloud-init", "sudo", "cron"),
    *("python3", "python3-apt", "ca-certificates", "iproute2", "nftables", "curl"),
    *("procps", "netbase", "tzdata"),
)
OPTIONS = (
    *("--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"),
    *("--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=force-unsafe-io"),
)
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer")
"""Timers that are off; apt's would hold its lock when a release needs it."""
CLOUD_INIT = """\
# the cloud runs this machine in a container: network and disks are made for it
datasource_list: [NoCloud, None]
network: {config: disabled}
ssh_genkeytypes: [ed25519, ecdsa]
cloud_init_modules: [write-files, users-groups, ssh]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user, keys-to-console]
"""
SSH_AFTER_LOGIND = """\
# a login that comes before logind waits 25 s for it
[Unit]
Wants=systemd-logind.service
After=systemd-logind.service
"""
CUSTOMIZE = """\
set -e
root="$1"
rm -f "$root"/etc/ssh/ssh_host_*
: > "$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"
cp -rT "$OVERLAY" "$root"
if ls "$root"/usr/local/share/ca-certificates/*.crt > /dev/null 2>&1; then chroot "$root" update-ca-certificates; fi
for unit in $MASKED; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
"""


class DebianAmiFailed(Refusal):
    """debian-12, the machine image of the embedded cloud, cannot be built."""

    sentence = "cloud: debian-12 cannot be built: {tail}"
    remedy = "apt-get update"


@functools.cache
def key() -> str:
    """Digest of what the image is built from: this recipe and the machine's apt settings."""
    digest = hashlib.sha256()
    for part in (
        SUITE,
        CLOUD_INIT,
        SSH_AFTER_LOGIND,
        CUSTOMIZE,
        _apt_settings(),
        *PACKAGES,
        *OPTIONS,
        *MASKED,
    ):
        digest.update(part.encode() + b"\0")
    for path in (*_sources(), *_certificates()):
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def reference(key: str) -> str:
    """Name of the podman image, which the clouds of a machine share."""
    return f"localhost/release-pipeline-base:{key}"


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Let one cloud of this machine at a time build or remove the shared image."""
    with LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make(claim: str, started: Callable[[subprocess.Popen[bytes]], None]) -> None:
    """Build the image unless this machine has it. Takes half a minute. Raises DebianAmiFailed.

    `claim` is the cloud's own second name for the image, which is kept while any cloud has one.
    `started` gets the build's process, a group leader, so that the caller can end it.
    """
    with locked():
        if not containers.has_image(reference(key())):
            with tempfile.TemporaryDirectory(prefix="release-pipeline-image-") as folder:
                _write_overlay(Path(folder) / "overlay")
                _build(Path(folder), started)
        containers.podman("tag", reference(key()), claim)


def remove_unclaimed() -> None:
    """Remove the images that no cloud of this machine claims any more."""
    with locked():
        for name in containers.unclaimed(reference("")):
            containers.remove_image(name)


def _build(folder: Path, started: Callable[[subprocess.Popen[bytes]], None]) -> None:
    script = folder / "customize"
    script.write_text(CUSTOMIZE)
    command = [
        *("mmdebstrap", "--quiet", "--variant=minbase", "--format=tar"),
        f"--include={','.join(PACKAGES)}",
        *OPTIONS,
        f'--customize-hook=OVERLAY={folder}/overlay MASKED="{" ".join(MASKED)}" sh {script} "$1"',
        *(SUITE, "-", *map(str, _sources())),
    ]
    log = folder / "log"
    with log.open("wb") as output:
        try:
            made = subprocess.Popen(
                command,
                env=environ.of("cloud"),
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise CommandMissing(command="mmdebstrap") from None
        started(made)
        imported = True
        # an import that died must not leave mmdebstrap waiting for a reader
        with children.within(bounds.IMAGE, made, ["mmdebstrap"]), made:
            try:
                containers.podman(
                    "import", "--quiet", "-", reference(key()), stdin=made.stdout, seconds=bounds.IMAGE
                )
            except PodmanRefused as refused:
                imported = False
                output.write(f"{refused.text.splitlines()[0]}\n".encode())
    if made.returncode or not imported:
        containers.remove_image(reference(key()))
        raise DebianAmiFailed(tail="; ".join(log.read_text().strip().splitlines()[-3:]))


def _write_overlay(root: Path) -> None:
    files = {
        "etc/cloud/cloud.cfg.d/90_release_pipeline.cfg": CLOUD_INIT.encode(),
        "etc/systemd/system/ssh.service.d/after-logind.conf": SSH_AFTER_LOGIND.encode(),
        "etc/apt/apt.conf.d/90machine": _apt_settings().encode(),
        **{str(path).lstrip("/"): path.read_bytes() for path in _certificates()},
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def _sources() -> list[Path]:
    # a file without the suite is for third-party packages, whose signing key is not in the image
    folder = Path("/etc/apt/sources.list.d")
    files = [Path("/etc/apt/sources.list"), *folder.glob("*.list"), *folder.glob("*.sources")]
    return sorted(path for path in files if path.exists() and SUITE in path.read_text().split())


def _certificates() -> list[Path]:
    return sorted(Path("/usr/local/share/ca-certificates").rglob("*.crt"))


def _apt_settings() -> str:
    # proxies, certificates, dates: hosts reach the registry as this machine does
    _, dumped, _ = children.ask(["apt-config", "dump", "Acquire"], env=environ.of("cloud"))
    kept = (line for line in dumped.decode().splitlines() if not line.endswith('"";'))
    return "".join(f"{line}\n" for line in kept)


def architecture() -> str:
    """This machine's architecture, as EC2 names it."""
    return {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
