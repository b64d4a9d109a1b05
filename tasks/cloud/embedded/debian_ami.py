"""debian_ami: debian-12 as an AMI: pending while it is built, failed with a reason, built again on request."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from typing import Any

from moto.ec2.models import ec2_backends
from moto.ec2.models.amis import Ami
from moto.ec2.models.instances import StateReason

from tasks.cloud.embedded import debian_root
from tasks.cloud.embedded.disk import Disk
from tasks.refusal import Refusal

LOG = logging.getLogger(__name__)
DEBIAN = "136693071363"
"""The account that publishes Debian's images on AWS."""
RETRY = 30.0
"""Seconds from the start of a failed build until DescribeImages starts another one."""


class DebianAmi:
    """The image that every region of a cloud has from the start."""

    def __init__(self, ami: str, claim: str, lock: threading.RLock, disk: Disk, *, made: bool) -> None:
        self.ami, self.claim, self.lock, self.disk = ami, claim, lock, disk
        self.state, self.reason = ("available", "") if made else ("failed", "not yet made")
        self.tried: float | None = None
        self._thread: threading.Thread | None = None
        self._builds: list[subprocess.Popen[bytes]] = []
        self.retry()

    def retry(self) -> None:
        """Build it in a thread, unless it exists or was tried just now."""
        due = self.tried is None or time.monotonic() - self.tried > RETRY
        if self.state == "failed" and due:
            self.tried = time.monotonic()
            self.state, self.reason = "pending", "building debian-12"
            self._thread = threading.Thread(target=self._make, daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the build; the next daemon begins it again."""
        for build in self._builds:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(build.pid, signal.SIGTERM)
        if self._thread:
            self._thread.join(30)

    def register(self) -> None:
        """Write its current state into every region in use."""
        for _, _, backend in list(ec2_backends.iter_backends()):
            self._register(backend)

    def _register(self, backend: Any) -> None:
        for old in [each for each in backend.amis.values() if each.owner_id == DEBIAN]:
            if old.id != self.ami:  # made by another recipe, or from other apt sources
                del backend.amis[old.id]
        if self.ami not in backend.amis:
            backend.amis[self.ami] = Ami(
                backend,
                self.ami,
                name=debian_root.NAME,
                description="Debian 12 with systemd, OpenSSH and cloud-init",
                owner_id=DEBIAN,
                public=True,
                architecture=debian_root.architecture(),
                virtualization_type="hvm",
                root_device_type="ebs",
                region_name=f"{backend.region_name}a",
            )
        ami = backend.amis[self.ami]
        ami.state = self.state
        ami.state_reason = StateReason(self.reason, self.state if self.reason else "")

    def _make(self) -> None:
        try:
            debian_root.make(self.claim, self._builds.append)
            self.state, self.reason = "available", ""
        except Refusal as refusal:
            self.state, self.reason = "failed", refusal.text.splitlines()[0]
            LOG.error(refusal.text)
        with self.lock:
            self.register()
            self.disk.save("ec2")
