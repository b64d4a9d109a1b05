"""zygote: a process that has loaded the pipeline and forks for each call: a call is a process, and costs milliseconds."""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

ODD_STREAMS = ("closed", "full", "pipe")
READ = 2
"""Linux's capability to read every file, CAP_DAC_READ_SEARCH."""


class Zygote:
    """Started once; `call` is one command line of `doit`. The caller closes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(
        self, words: list[str], cwd: Path, environ: dict[str, str], uid: int = 0, **streams: str
    ) -> tuple[int, str]:
        """The exit code, and what went to stdout and stderr. `streams`: stdin, stdout, stderr, encoding."""
        asked = {
            "words": words,
            "cwd": str(cwd),
            "environ": environ,
            "uid": uid,
            "said": str(self.folder / "said"),
            **streams,
        }
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        code = int(self.process.stdout.readline())
        return code, (self.folder / "said").read_bytes().decode(errors="replace")

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def _serve() -> None:
    import tasks.commands

    for module in pkgutil.iter_modules(tasks.commands.__path__, "tasks.commands."):
        importlib.import_module(module.name)
    for name in ("boto3", "git", "tests.paper"):
        importlib.import_module(name)
    sys.modules["tests.paper"].connect_ahead()
    gc.freeze()  # a child's garbage collection would copy all of it
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _answer(json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _answer(asked: dict[str, Any]) -> None:
    code = 1
    try:
        os.chdir(asked["cwd"])
        os.environ.clear()
        os.environ.update(asked["environ"])
        sys.argv = ["doit", *asked["words"]]
        said = os.open(asked["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            _place(number, name, asked.get(name, ""), said, asked.get("encoding") or "utf-8")
        os.close(said)
        if asked["uid"]:
            _become(asked["uid"])
        from tasks.commands import entry

        code = entry.main()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        Path(asked["said"]).write_text(traceback.format_exc())
    finally:
        os._exit(code)


def _become(uid: int) -> None:
    """Become a user who may read every file, as of a checkout that is mounted read-only, and writes none of ours."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, only = (ctypes.c_uint32 * 2)(0x20080522, 0), 1 << READ
    libc.prctl(
        28, 1 << 2, 0, 0, 0
    )  # PR_SET_SECUREBITS, NO_SETUID_FIXUP: access(2), which git uses, reads too
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if libc.capset(header, (ctypes.c_uint32 * 6)(only, only, only, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "capset")
    libc.prctl(47, 2, READ, 0, 0)  # PR_CAP_AMBIENT_RAISE: git gets it too


def _place(number: int, name: str, kind: str, said: int, encoding: str) -> None:
    stream = None
    os.close(number)
    if kind != "closed":
        opened = said
        if not number:
            opened = os.open(os.devnull, os.O_RDONLY)
        elif kind == "full":
            opened = os.open("/dev/full", os.O_WRONLY)
        elif kind == "pipe":
            read, opened = os.pipe()
            os.close(read)
        os.dup2(opened, number)
        if opened not in (said, number):
            os.close(opened)
        stream = open(number, "w" if number else "r", encoding=encoding, closefd=False)  # noqa: SIM115  a descriptor
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    _serve()
