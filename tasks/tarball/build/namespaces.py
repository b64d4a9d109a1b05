"""namespaces: a program that runs one command where there is nothing but what its request names.

The request comes on standard input (`sandbox.py` writes it). Three processes do it: the first makes the namespaces and waits;
the second is init of the command's process namespace, and mounts; the third becomes the command, without any right.
If init ends, the kernel ends every process of its namespace before anybody can see that init has ended. So when the first
process returns an exit code, nothing that the command has started is alive.

It imports nothing of ours, and nothing that is slow to load: pathlib, json and signal together take longer than all that it does.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# <linux/sched.h>
NEW_MOUNTS, NEW_UTS, NEW_IPC = 0x20000, 0x4000000, 0x8000000
NEW_USER, NEW_PIDS, NEW_NET = 0x10000000, 0x20000000, 0x40000000
# <linux/mount.h>
READ_ONLY, NO_SUID, NO_DEV, NO_EXEC = 1, 2, 4, 8
BIND, RECURSIVE, PRIVATE = 0x1000, 0x4000, 0x40000
DETACH = 2
SYS_MOUNT_SETATTR, AT_HERE, AT_RECURSIVE = 442, -100, 0x8000
# <linux/prctl.h>
PARENT_DEATH_SIGNAL, DUMPABLE, NO_NEW_PRIVILEGES = 1, 4, 38
# <linux/sockios.h>, <linux/if.h>
INTERNET, DATAGRAM, GET_FLAGS, SET_FLAGS, UP, INTERFACE = 2, 2, 0x8913, 0x8914, 1, "16sH22x"
# <signal.h>
HANG_UP, INTERRUPT, KILL, PIPE, TERMINATE, DEFAULT, IGNORE = 1, 2, 9, 13, 15, 0, 1

ROOT = "root"
"""The new root, from the request's folder."""
USED = "used"
"""The file of the request's folder that gets what the command has taken: CPU seconds, and KiB of memory at its peak."""
SMALL = "mode=755,size=1m"
PLAIN = "/plain"
"""Where the tree is that a shuffled one is made of. Each access is made with the command's own rights."""
SHUFFLE = (
    "/usr/bin/disorderfs",
    "--quiet",
    "--multi-user=yes",
    "--shuffle-dirents=yes",
    "-o",
    "nosuid,nodev",
)
DEVICES = ("null", "zero", "full", "random", "urandom")
LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
SIGNALLED = 128
"""The exit code of a command that a signal has ended, less the signal's number, as a shell says it."""

libc = ctypes.CDLL(None, use_errno=True)
libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
libc.signal.restype = ctypes.c_void_p


def main() -> int:
    """Do what the request says; the command's exit code."""
    request = marshal.load(sys.stdin.buffer)  # noqa: S302  its writer is our parent
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the request has credentials
    os.chdir(request["folder"])
    for each in (HANG_UP, INTERRUPT, TERMINATE):
        libc.signal(each, IGNORE)  # they are for the command, in whose process group we are
    separate(request)
    init = os.fork()
    if not init:
        os._exit(run(request))
    _, status, used = os.wait4(init, 0)
    write(USED, f"{used.ru_utime + used.ru_stime} {used.ru_maxrss}")
    return exit_code(status)


def separate(request: dict[str, Any]) -> None:
    """Make the namespaces. Without root's rights, a user namespace comes first, in which the caller is the build's user."""
    user, group = os.geteuid(), os.getegid()
    kinds = NEW_MOUNTS | NEW_PIDS | NEW_IPC | NEW_UTS
    kinds |= 0 if request["network"] else NEW_NET
    kinds |= 0 if request["as_root"] else NEW_USER
    call("unshare", kinds)
    if not request["as_root"]:
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{request['user']} {user} 1")
        write("/proc/self/gid_map", f"{request['user']} {group} 1")


def run(request: dict[str, Any]) -> int:
    """Be init: mount, start the command, take in what is orphaned, and return the command's exit code."""
    call("prctl", PARENT_DEATH_SIGNAL, KILL, 0, 0, 0)
    call("prctl", DUMPABLE, 0, 0, 0, 0)  # without root's rights the command has our number
    call("sethostname", b"build", 5)
    if not request["network"]:
        raise_loopback()
    mount_all(request)
    child = os.fork()
    if not child:
        become(request)
    while True:
        ended, status = os.wait()
        if ended == child:
            return exit_code(status)


def become(request: dict[str, Any]) -> None:
    """Give up every right and become the command."""
    if request["as_root"]:
        os.setgroups([])
        os.setresgid(*[request["user"]] * 3)
        os.setresuid(*[request["user"]] * 3)
    call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    os.umask(0o022)
    for each in (HANG_UP, INTERRUPT, PIPE, TERMINATE):  # a command inherits what is ignored
        libc.signal(each, DEFAULT)
    command, environment = request["command"], request["environment"]
    problem = "not found"
    for folder in environment.get("PATH", "").split(":"):
        try:  # not by os.execvpe: it imports, and Python's own folder is not there any more
            os.execve(os.path.join(folder, command[0]), command, environment)  # noqa: S606
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            problem = error.strerror or str(error)
    os.write(2, f"{command[0]}: {problem}\n".encode())
    os._exit(127)


def mount_all(request: dict[str, Any]) -> None:
    """Mount a new root: what of the machine is shown, and where may be written; a process list and devices of its own.

    What is to be mounted without a source is an empty folder in its place.
    """
    mount(None, "/", None, RECURSIVE | PRIVATE)
    mount("tmpfs", ROOT, "tmpfs", NO_SUID | NO_DEV, SMALL)
    for source, target, writable in request["mounts"]:
        if source:
            show(source, ROOT + target, read_only=not writable)
        else:
            mount("tmpfs", ROOT + target, "tmpfs", NO_SUID | NO_DEV, SMALL)
    for target in ("/dev", "/proc", request["tree"]):
        os.makedirs(ROOT + target, exist_ok=True)
    tree = request["tree"]
    if request["shuffled"]:
        os.makedirs(f"{ROOT}{PLAIN}{tree}")
        tree = PLAIN + tree
    if request["overlay"]:
        mount("overlay", ROOT + tree, "overlay", NO_SUID | NO_DEV, request["overlay"])
    mount("proc", f"{ROOT}/proc", "proc", NO_SUID | NO_DEV | NO_EXEC)
    mount_devices(f"{ROOT}/dev", (*DEVICES, *(["fuse"] if request["shuffled"] else [])))
    limit(ROOT, READ_ONLY, below=False)
    os.chdir(ROOT)
    call("pivot_root", b".", b".")
    call("umount2", b".", DETACH)
    if request["shuffled"]:
        shuffle(tree, request["tree"])
    os.chdir(request["tree"])


def show(source: str, place: str, *, read_only: bool) -> None:
    """A folder, file or link of the machine."""
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if os.path.islink(source):
        os.symlink(os.readlink(source), place)
        return
    if os.path.isdir(source):
        os.makedirs(place, exist_ok=True)
    elif not os.path.exists(place):
        write(place, "")
    mount(source, place, None, BIND | RECURSIVE)
    limit(place, NO_SUID | NO_DEV | READ_ONLY * read_only)


def shuffle(source: str, place: str) -> None:
    """Show a folder with its entries, and those of all below it, in another order each time."""
    child = os.fork()
    if not child:
        os.execve(SHUFFLE[0], [*SHUFFLE, source, place], {})  # noqa: S606
    code = exit_code(os.waitpid(child, 0)[1])  # it goes on in the background
    if code:
        raise OSError(f"{SHUFFLE[0]}: exit code {code}")
    call("umount2", b"/dev/fuse", DETACH)
    os.unlink("/dev/fuse")


def mount_devices(folder: str, names: tuple[str, ...]) -> None:
    """The devices that take and give bytes, and no others: unless a folder is to be shuffled."""
    mount("tmpfs", folder, "tmpfs", NO_SUID | NO_EXEC, SMALL)
    for name in names:
        write(f"{folder}/{name}", "")
        mount(f"/dev/{name}", f"{folder}/{name}", None, BIND)
    for name, target in LINKS.items():
        os.symlink(target, f"{folder}/{name}")
    os.mkdir(f"{folder}/shm")
    mount("tmpfs", f"{folder}/shm", "tmpfs", NO_SUID | NO_DEV, "mode=1777")


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2)."""
    told = (source and os.fsencode(source), os.fsencode(target), kind and kind.encode())
    call("mount", *told, ctypes.c_ulong(flags), os.fsencode(options))


def limit(path: str, what: int, *, below: bool = True) -> None:
    """Take writing, set-uid programs or devices from a mount and all below it; what was taken before stays so."""
    wanted = struct.pack("QQQQ", what, 0, 0, 0)
    told = (AT_HERE, os.fsencode(path), AT_RECURSIVE * below, wanted, len(wanted))
    call(
        "syscall",
        *(ctypes.c_long(each) if isinstance(each, int) else each for each in (SYS_MOUNT_SETATTR, *told)),
    )


def raise_loopback() -> None:
    """Turn the network namespace's own loopback on: a command may talk to itself."""
    asked = call("socket", INTERNET, DATAGRAM, 0)
    about = ctypes.create_string_buffer(struct.pack(INTERFACE, b"lo", 0))
    call("ioctl", asked, ctypes.c_ulong(GET_FLAGS), about)
    name, flags = struct.unpack(INTERFACE, about.raw[: struct.calcsize(INTERFACE)])
    call("ioctl", asked, ctypes.c_ulong(SET_FLAGS), struct.pack(INTERFACE, name, flags | UP))
    os.close(asked)


def call(name: str, *arguments: Any) -> int:
    """A call of the C library. Raises OSError."""
    result: int = getattr(libc, name)(*arguments)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def write(path: str, text: str) -> None:
    """Write a file."""
    with open(path, "w") as file:
        file.write(text)


def exit_code(status: int) -> int:
    """Of a status that `wait` gave."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else SIGNALLED - code


if __name__ == "__main__":
    sys.exit(main())
