"""runtime: what can run the cloud's hosts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

REBOOTED = 129
"""Exit code of a host whose own init asked for a reboot: the kernel sends it SIGHUP, for a halt SIGINT."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What a host is made from."""

    id: str
    image: str
    address: str
    memory: int
    """MiB of memory, as its instance type has."""
    folder: Path
    """The host's folder: seed/ holds what cloud-init reads, console what the host prints."""


class Runtime(Protocol):
    """`containers` implements it; tests of the API pass one that runs nothing."""

    def run(self, launch: Launch) -> None:
        """Create the host unless it exists, and start it at its address."""

    def start(self, host: str, address: str) -> None:
        """Start a stopped host."""

    def attach(self, host: str, address: str) -> bool:
        """Whether the host runs at this address. If so, `alive` and `wait` know it from then on."""

    def alive(self, host: str) -> bool:
        """Whether the host runs now; asked with every request."""

    def interface(self, host: str) -> int:
        """This machine's end of a running host's cable; 0 if it has none."""

    def wait(self, seconds: float) -> list[str]:
        """Wait until hosts die, or other ones run, and return those that died."""

    def exit_code(self, host: str) -> int | None:
        """A host's exit code; None if the host is gone."""

    def stop(self, host: str) -> None:
        """Shut a host down, and keep its disk."""

    def remove(self, host: str) -> None:
        """Remove a host and its disk."""

    def commit(self, host: str, ami: str) -> None:
        """Make an image of a host, without the host's identity."""

    def remove_image(self, ami: str) -> None:
        """Remove an image that was made of a host."""

    def image(self, ami: str) -> str:
        """The image of an AMI, for `Launch.image`."""

    def all(self) -> list[str]:
        """The ids of all hosts that exist, running or not."""
