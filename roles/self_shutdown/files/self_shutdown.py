#!/usr/bin/python3
"""self_shutdown: shut this machine down when it has expired or is idle. Arguments: days, idle hours, the release's link.

The days count from the last release or, if there was none, from the installation of this file.
"""

import glob
import os
import subprocess
import sys
import time

KEEP = "/var/lib/self_shutdown/keep-until"
HOUR = 3600
# is there while the machine is provisioned, which the pipeline ends after four hours; older than five, it is left from a killed one
PROVISIONING, LONGEST = "/var/lib/provisioning", 5 * HOUR
# is beside the link during a release; older than an hour, it is left from a killed one
UNFINISHED = "unfinished.json"
LOGS = ("/var/log/nginx/access.log", "/var/log/wtmp", "/var/log/lastlog")


def changed(path):
    """When a file, or a link itself, was last written; 0 if there is none."""
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0


def kept_until():
    """Until when `doit keep` keeps this machine; 0 if it does not."""
    try:
        with open(KEEP) as told:
            return float(told.read())
    except (OSError, ValueError):
        return 0.0


def started():
    """When the machine started."""
    with open("/proc/1/stat") as stat:
        ticks = int(stat.read().rpartition(")")[2].split()[19])
    return time.time() - (time.monotonic() - ticks / os.sysconf("SC_CLK_TCK"))


def reason(now, days, idle_hours, link):
    """Why this machine may shut down; empty if it may not."""
    released = changed(link) or changed(__file__)
    releasing = changed(os.path.join(os.path.dirname(link), UNFINISHED)) + HOUR
    if now < max(kept_until(), releasing, changed(PROVISIONING) + LONGEST):
        return ""
    if days and now >= released + days * 86400:
        return f"{days} days have passed since the last release"
    used = max([released, started(), *map(changed, LOGS)])
    if idle_hours and now >= used + idle_hours * HOUR and not glob.glob("/dev/pts/[0-9]*"):
        return f"idle for {idle_hours} hours"
    return ""


def main(days, idle_hours, link):
    """Check once."""
    why = reason(time.time(), int(days), int(idle_hours), link)
    if why:
        print(f"shuts down: {why}", flush=True)
        subprocess.run(["systemctl", "poweroff"], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
