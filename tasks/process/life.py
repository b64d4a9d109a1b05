"""life: which process is meant: a process id is used again, together with its start and the machine's boot it is not."""

from __future__ import annotations

from pathlib import Path


def started_at(pid: int) -> int | None:
    """When a process started, in ticks since boot; with the pid it names a process for good."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def this_boot() -> str:
    """Names the current boot of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
