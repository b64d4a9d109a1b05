"""life: identifies a process: its id may be reused, but not together with its start time and the machine's boot."""

from __future__ import annotations

from pathlib import Path


def started_at(pid: int) -> int | None:
    """When a process started, in ticks since boot; None if it does not run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def this_boot() -> str:
    """The id of this machine's current boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
