"""share: what is in folders belongs to a group, which may write it. `GROUP PATTERN...`; prints how many were not so.

It runs as the commands' user and changes what that user has: what an older pipeline has made, and what was written under another umask.
What is right already costs a look. A folder's own files are looked at by its descriptor: nobody can put a link in their place meanwhile.
"""

import contextlib
import glob
import grp
import os
import stat
import sys


def shared(fd, found):
    """Whether a file or a folder had to be changed. No links: they have no rights; nor what has a second name, elsewhere."""
    folder = stat.S_ISDIR(found.st_mode)
    wanted = found.st_mode & 0o7777 | (0o2070 if folder else 0o060)
    right = found.st_gid == GROUP and found.st_mode & 0o7777 == wanted
    if right or found.st_uid != os.geteuid() or (not folder and found.st_nlink > 1):
        return False
    os.fchown(fd, -1, GROUP)
    os.fchmod(fd, wanted)
    return True


def inside(folder):
    """How many of a folder's had to be changed, with the folder itself."""
    changed = 0
    for _, _, names, here in os.fwalk(folder):
        changed += shared(here, os.fstat(here))
        for name in names:
            with contextlib.suppress(OSError):  # it is gone, or only its owner may look into it
                seen = os.stat(name, dir_fd=here, follow_symlinks=False)
                if stat.S_ISREG(seen.st_mode) and (seen.st_gid != GROUP or seen.st_mode & 0o060 != 0o060):
                    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
                    try:
                        changed += shared(fd, os.fstat(fd))
                    finally:
                        os.close(fd)
    return changed


GROUP = grp.getgrnam(sys.argv[1]).gr_gid
print(sum(inside(folder) for pattern in sys.argv[2:] for folder in glob.glob(pattern)))
