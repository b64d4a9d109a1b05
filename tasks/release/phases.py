"""phases: what a release does on a host, as a program for the host's own Python. One call does one phase, or several.

It is sent over SSH with its plan and leaves nothing of itself behind. Each phase can be done again, also after it was killed
at any moment: what is under way stands in `unfinished.json`.

    bring    fetch, verify, unpack, link, keep the static files by version: nothing that visitors notice
    live     start the release in a unit of its own, migrate if that is due, check where nobody sees it, switch, check again
    open     end the maintenance, restart what runs the release's code
    settle   forget what was under way, remove old releases, then do what need not be done before visitors come
    ready    of a rollback, instead of `bring`: the release before is here, and nothing else is under way
    undo     what `live` and `open` do when they fail, and what a host does where another one has failed
    rehearse after `bring`, ahead of a yes: start, check and warm it where nobody sees it, if no data must change before
    discard  without a yes: remove what `bring` has made
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import fnmatch
import grp
import hashlib
import html.parser
import http.client
import itertools
import json
import os
import pwd
import re
import select
import shlex
import shutil
import signal
import ssl
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any

LATER = (404, 429, 500, 502, 503, 504)
"""HTTP statuses that are asked again: the store is busy, or does not find a new tarball yet."""
FETCHES, FETCH_PAUSE, SILENCE = 6, 2.0, 60.0
"""How often a tarball is asked for, seconds between, and seconds without a byte."""
PROXIES = ("http_proxy", "https_proxy", "no_proxy")
CHECKS, CHECK_PAUSE = 6, 2.0
"""How often a release is checked before visitors get it, and seconds between."""
AGAIN, AGAIN_PAUSE, ANSWER = 2, 0.5, 30.0
"""The same once they get it: what was well before is not waited for. And seconds for an answer: caches may be empty."""
PUBLIC, PUBLIC_TLS, NEXT = 80, 443, 8090
"""Ports of the host's web server: what visitors get, and what the link `next` names, which nobody else can ask for."""
WARM, WARMINGS = 0.5, 5
"""Seconds in which a warm page answers, and how often pages are asked for until they do."""
ASSETS = 200
"""Files that a page names, of which each is asked for."""
RESERVE, RESERVE_BYTES = 0.1, 2 << 30
"""What a release leaves free: this share of the disk's blocks and inodes; of the blocks never more than so many bytes."""
LOOK_EVERY, ASK_EVERY = 0.05, 0.2
"""Seconds between two looks at the disk while it is written to, and at a command that nobody waits for."""
BURST = 0.02
"""Seconds in which what tar says comes together. Who reads each line at once is woken up for each, and tar waits for that."""
ENDED = (3, 4)
"""Exit codes of `systemctl is-active` for a unit that has ended, and for one that is not there any more."""
LATE = 600.0
"""Seconds that all commands have which come late."""
AS_IT_IS = "/%?=&+,;:@!$'()*~[]"
"""What stays in an address; the rest is asked for as a browser does, in %XX of UTF-8."""
VERSION = re.compile(r"[\w-][\w.-]*", re.ASCII)
"""A version of static files, which is a folder's name: what nginx reads in an address too."""
OWN = (".complete", ".verified")
"""The marks of a release's folder."""
LIBC, PR_SET_PDEATHSIG = ctypes.CDLL(None), 1
"""Of `linux/prctl.h`."""
OUTPUT = 20_000
"""Characters of a failed command's output that are told."""
SHARED = 0o002
"""What commands write, pages may change: the umask. By their folders it has the group of both."""
HOOK_SECONDS = 600.0
"""Seconds that a script of the repository has."""


class Failure(Exception):
    """A step that failed. `output`: what its command said, if it was a command; `remedy`: what to type, if not the same again."""

    def __init__(self, words: str, output: str = "", remedy: str = "") -> None:
        super().__init__(words)
        self.output, self.remedy = output[-OUTPUT:], remedy


class HostRelease:
    """A release on this host: the plan, what is under way, and what was done.

    The plan's words: `path`, `user` (of commands), `group` (of what they and pages write), `host_names` of the application; `shared`, `configured`: paths that releases share, and
    those of them that are written on the host; `id`, `url`, `sha256`, `signature` of the tarball;
    `https`: whether visitors come over TLS; `certificate`: the file of what this host speaks it with, empty where another one does;
    `keep`, `static_hours`, `job_seconds`; `migrations`: patterns of files that change the database; `why` a release is undone; `profile`: the section `release` of the profile; `scripts`: the texts of its scripts by name.
    `hooks`: the scripts of the repository, each with `name`, `when`, `phase`, `root`, `must` and `text`; `commit`, `environment`, `host` for them.
    Of a rollback alone `undoes`: the release that it undoes, `undoes_online`: whether what that has migrated, the code before knows;
    and `instead`: what to type where there is no way back.
    """

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self.plan, self.profile = plan, plan["profile"]
        self.id, self.root = str(plan["id"]), Path(plan["path"])
        self.folder = self.root / "releases" / self.id
        self.marker = self.folder / ".complete"
        self.tarball = self.root / "downloads" / f"{plan['sha256']}.tarball"
        self.account = pwd.getpwnam(plan["user"])
        self.fetched = ""  # the digest of what was fetched
        self.signer = ""
        self.changed = False
        self.migrated: bool | None = None
        self.online = False
        self.downtime = 0.0
        self.notes: list[str] = []
        self.late: list[str] = []
        self.steps: list[tuple[str, float]] = []

    # --- what the host has ------------------------------------------------------------------------------

    @property
    def unfinished(self) -> Path:
        """Exists from the first step that visitors could notice to the last, and after a killed run."""
        return self.root / "unfinished.json"

    def note(self) -> dict[str, Any]:
        """What is under way; empty for nothing. `begun`: a migration was begun, which an older pipeline did not write."""
        try:
            said: dict[str, Any] = json.loads(self.unfinished.read_text())
        except FileNotFoundError:
            return {}
        return {
            "begun": said.get("migrates", False),
            "online": False,
            "imports": False,
            "installs": False,
            **said,
        }

    def write(self, **more: Any) -> None:
        """Write what is under way."""
        replace(self.unfinished, json.dumps({**self.note(), **more}) + "\n")

    def linked(self, name: str) -> str:
        """The release that a link of the application's folder names; empty for none."""
        with contextlib.suppress(FileNotFoundError):
            return (self.root / name).readlink().name
        return ""

    def previous(self) -> str:
        """The release to go back to; empty for none."""
        known = (self.note().get("previous", ""), self.linked("current"), self.linked("previous"))
        return next((each for each in known if each not in ("", self.id)), "")

    def is_live(self) -> bool:
        """Whether it ran here before, with nothing left to do."""
        return self.linked("current") == self.id and not self.note()

    def in_maintenance(self) -> bool:
        """Whether somebody has closed the site."""
        return self.is_closed(self.linked("current"))

    def is_closed(self, release: str) -> bool:
        """Whether a release shows visitors its maintenance page."""
        said = self.profile.get("maintenance")
        return bool(said and release) and (self.root / "releases" / release / said["active_file"]).exists()

    def turn(self, way: str, release: str) -> None:
        """Switch the maintenance of a release `on` or `off`, where it is not so."""
        said = self.profile.get("maintenance")
        if said and release and self.is_closed(release) != (way == "on"):
            self.must(said[way], cwd=self.root / "releases" / release)

    # --- bring ------------------------------------------------------------------------------------------

    def bring(self) -> None:
        """The release's folder, complete and verified."""
        if self.marker.exists() and self.linked("current") != self.id:
            with self.step("Verify the release that is here"):
                if wrong := self.wrong_with(self.id):
                    self.notes.append(f"{self.id} was here, and is fetched again: {wrong}")
                    self.stop()  # what runs of it runs on what was changed
                    self.marker.unlink()
        if not self.marker.exists():
            self.changed = True
            try:
                with self.step("Fetch the tarball"):
                    self.fetch()
                with self.step("Verify the tarball"):
                    self.verify()
                with self.step("Unpack the release"):
                    unpacked = self.unpack()
                with self.step("Link what releases share"):
                    self.link(unpacked)
            except BrokenPipeError:  # the next release goes on with it
                raise
            except (Failure, OSError):  # it may never come again, and what sells needs the room
                for left in (self.tarball.parent, self.folder.with_name(f"{self.id}.partial")):
                    shutil.rmtree(left, ignore_errors=True)
                raise
        # of the running release as well: an older pipeline has kept none
        for folder in (self.root / "current", self.folder):
            if (version := self.version(folder)) and not (self.static / version).exists():
                self.changed = True
                with self.step("Keep static files by their version"):
                    self.keep_static(folder, version)

    def fetch(self) -> None:
        """The tarball, from an address that is never told."""
        if self.tarball.exists():
            return
        self.tarball.parent.mkdir(exist_ok=True)
        for left in reversed(range(FETCHES)):
            try:
                self.download()
                return
            except urllib.error.HTTPError as error:
                problem, again = f"{error.reason} (HTTP {error.code})", error.code in LATER
            except OSError as error:  # no answer, or one that breaks off
                problem, again = str(getattr(error, "reason", error)), True
            except http.client.HTTPException as error:
                problem, again = type(error).__name__, True
            if not again or not left:
                break
            time.sleep(FETCH_PAUSE)
        raise Failure(f"the tarball {self.plan['sha256'][:12]} could not be fetched: {problem}")

    def download(self) -> None:
        """Under another name until it is whole."""
        part, digest = self.tarball.with_suffix(".part"), hashlib.sha256()
        with urllib.request.urlopen(self.plan["url"], timeout=SILENCE) as answer:  # noqa: S310 (the pipeline's own address)
            wanted = int(answer.headers.get("Content-Length") or 0)
            self.refuse_to_fill(wanted)
            with part.open("wb") as file:
                for chunk in iter(partial(answer.read, 1 << 20), b""):
                    digest.update(chunk)
                    file.write(chunk)
            if wanted and part.stat().st_size != wanted:
                raise urllib.error.URLError("the answer broke off")
        part.replace(self.tarball)
        self.fetched = digest.hexdigest()

    def verify(self) -> None:
        """The digest must be the expected one, and the signature a known key's. What is refused is removed."""
        wanted, found = self.plan["sha256"], self.fetched
        if not found:  # a killed run has fetched it
            with self.tarball.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != wanted:
            raise Failure(f"the tarball's digest should be {wanted} and is {found}; it was removed")
        known = self.keys()
        signed = self.plan["signature"] and known["public_keys"]
        if not signed and known["signatures"] == "required":
            raise Failure(f"the tarball {wanted[:12]} is not signed, and this host takes signed ones only")
        self.signer = self.signed_by(known["public_keys"]) if signed else ""
        if signed and not self.signer:
            raise Failure(
                f"the tarball {wanted[:12]} is signed by none of the keys that this host knows; it was removed"
            )

    def keys(self) -> dict[str, Any]:
        """What this host believes, which `server` has written: its `public_keys`, and whether `signatures` are required."""
        path = self.root / "release_keys.json"
        try:
            known: dict[str, Any] = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            raise Failure(
                f"{path} is missing or broken, so that nothing can be verified: doit server writes it"
            ) from None
        return known

    def signed_by(self, keys: Sequence[str]) -> str:
        """The known key that has signed the tarball, prehashed; empty for none."""
        signature = self.tarball.with_suffix(".minisig")
        signature.write_text(self.plan["signature"])
        check = ["minisign", "-V", "-q", "-H", "-x", str(signature), "-m", str(self.tarball), "-P"]
        return next((key for key in keys if self.run([*check, key], cwd=self.root).returncode == 0), "")

    def wrong_with(self, id: str) -> str:
        """Why a release that is here may not go live: by what it was verified for, what this host knows now, and its files."""
        if self.note():  # a killed run may have lent some of them, and its migration may still write there
            self.await_migration()
            self.share_again()
        folder, known = self.root / "releases" / id, self.keys()
        try:
            said = json.loads((folder / ".verified").read_text())
            tree = said["tree"]
        except (FileNotFoundError, KeyError, ValueError):
            return "it was not verified as releases are now"
        if id == self.id and said["sha256"] != self.plan["sha256"]:
            return "it is another tarball's"
        if said["signer"] and said["signer"] not in known["public_keys"]:
            return "it was signed by a key that this host does not know any more"
        if not said["signer"] and known["signatures"] == "required":
            return "it is not signed"
        writable = self.profile.get("writable", ())
        found = manifest(looked_at(folder, each) for each in names_in(folder, writable))
        return "" if found == tree else "its files are not what was unpacked"

    def unpack(self) -> Unpacked:
        """As root, whose the code stays, and into a folder of another name. It stops before the disk is full."""
        part = self.folder.with_name(f"{self.id}.partial")
        for left in (part, self.folder):
            remove(left)
        self.refuse_to_fill()
        part.mkdir(parents=True)
        # neither the archive's owners nor its set-user-ID bits, nor what others may write
        tar_it = ["tar", "--extract", "--zstd", "--no-same-owner", "--no-same-permissions", "--verbose"]
        with os.fdopen(os.memfd_create("complaints"), "w+") as complaints:
            # by larger blocks than 10 kB: a twentieth of the time
            command = [*tar_it, "--blocking-factor=256", "--file", str(self.tarball)]
            with self.started(command, cwd=part, root=True, stderr=complaints) as tar:
                unpacked = Unpacked(part, in_bursts(tar.stdout) if tar.stdout else ())
                unpacked.start()
                while unpacked.is_alive():
                    self.refuse_to_fill()
                    unpacked.join(LOOK_EVERY)
                self.refuse_to_fill()  # with a last look once it has ended
                tar.wait()
            complaints.seek(0)
            said = complaints.read()
        if tar.returncode:
            raise Failure(f"tar: exit code {tar.returncode}", said)
        return unpacked

    def fills(self, command: Sequence[str], *, cwd: Path, **how: Any) -> None:
        """A command of root's that writes much, until it has ended, or there is no more room for what it writes."""
        with self.started(command, cwd=cwd, root=True, **how) as child:
            ended = False
            while not ended:  # with a last look once it has ended
                ended = child.poll() is not None
                self.refuse_to_fill()
                time.sleep(0 if ended else LOOK_EVERY)
            said = "".join(each or "" for each in child.communicate())
        if child.returncode:
            raise Failure(f"{command[0]}: exit code {child.returncode}", said)

    def refuse_to_fill(self, size: int = 0) -> None:
        """What sells needs room too."""
        disk = os.statvfs(self.root)
        left = disk.f_bavail * disk.f_frsize - size
        reserve = min(int(RESERVE * disk.f_blocks * disk.f_frsize), RESERVE_BYTES)
        if left < reserve:
            raise Failure(
                f"{self.root} would have {megabytes(left)} left, of which {megabytes(reserve)} are kept free"
            )
        if disk.f_files and disk.f_favail < RESERVE * disk.f_files:
            raise Failure(
                f"{self.root} has {disk.f_favail} inodes left, of which {int(RESERVE * disk.f_files)} are kept free"
            )

    def link(self, unpacked: Unpacked) -> None:
        """Link the shared paths, then name and mark the folder. The first release's own files are copied to the shared folder."""
        part, shared = self.folder.with_name(f"{self.id}.partial"), self.root / "shared"
        for each in self.plan["shared"]:
            place = inside(part, str(Path(each).parent)) / Path(each).name
            place.parent.mkdir(parents=True, exist_ok=True)
            if not self.linked("current") and each not in self.plan["configured"] and os.path.lexists(place):
                # as the user, whose the shared folder is, and with its group: both write there
                if not place.is_symlink():
                    self.must(["chmod", "--recursive", "g+w", str(place)], root=True, cwd=part)
                copy = ["cp", "--recursive", "--no-dereference", "--preserve=timestamps", "--no-clobber"]
                self.must([*copy, each, f"{(shared / each).parent}/"], cwd=part)
            remove(place)
            place.symlink_to(shared / each)
        # last: what the user may write leads root nowhere
        for each in self.profile.get("writable", ()):
            place = inside(part, each)
            place.mkdir(parents=True, exist_ok=True)
            self.share(place)
        tree = manifest(unpacked.lines(self.plan["shared"], self.profile.get("writable", ())))
        verified = {"sha256": self.plan["sha256"], "signer": self.signer, "tree": tree}
        # the marker's `fsync` writes it too; after a crash before that it is broken, and the release no verified one
        (part / ".verified").write_text(json.dumps(verified) + "\n")
        part.replace(self.folder)
        replace(self.marker, self.plan["sha256"] + "\n")
        shutil.rmtree(self.tarball.parent)

    def give(self, path: Path, group: int | None = None) -> None:
        """To the commands' user, with all that is in it. Where links lead is left alone."""
        owner = f"{self.account.pw_uid}:{self.account.pw_gid if group is None else group}"
        self.must(["chown", "--no-dereference", "--recursive", owner, str(path)], root=True, cwd=self.root)

    def share(self, path: Path) -> None:
        """The same, for commands and pages: what one of them makes there, the other may change and replace."""
        self.give(path, self.group)
        self.must(["chmod", "--recursive", "g+rwX", str(path)], root=True, cwd=self.root)
        self.must(
            ["find", str(path), "-type", "d", "-exec", "chmod", "g+s", "{}", "+"], root=True, cwd=self.root
        )

    @property
    def group(self) -> int:
        """That of what commands and pages write; `server` makes it."""
        return grp.getgrnam(self.plan["group"]).gr_gid

    @property
    def static(self) -> Path:
        """Static files by version. A page that a browser or a cache still has names those of its own release."""
        return self.root / "static"

    def version(self, folder: Path) -> str:
        """The version of a release's static files; empty where there is none."""
        said = self.profile.get("static")
        with contextlib.suppress(FileNotFoundError):
            if said:
                told = inside(folder, said["version"]).read_text(errors="replace").strip()
                return told if VERSION.fullmatch(told) else ""
        return ""

    def keep_static(self, folder: Path, version: str) -> None:
        """The same files under a second name, which take no room, and outlive the release's folder."""
        part = self.root / "static.partial"
        remove(part)
        files = inside(folder, self.profile["static"]["folder"])
        self.must(["cp", "--archive", "--link", str(files), str(part)], root=True)
        os.utime(part)
        self.static.mkdir(exist_ok=True)
        part.replace(self.static / version)

    def forget_static(self) -> None:
        """Remove those that nobody asks for any more: of no release that is here, and not live for some hours."""
        if not self.static.exists():
            return
        here = {self.version(each) for each in (self.root / "releases").iterdir()}
        since = time.time() - self.plan["static_hours"] * 3600
        for each in self.static.iterdir():
            if each.name not in here and each.stat().st_mtime < since:
                remove(each)

    # --- live -------------------------------------------------------------------------------------------

    def live(self) -> None:
        """Visitors get the release, checked. A release that was live before is checked only."""
        if self.is_live():
            with self.step("Check the release that visitors get"):
                self.start(self.id)
                self.check(PUBLIC, CHECKS, CHECK_PAUSE)
            return
        self.changed = True
        with self.step("Check what is due"):
            due = self.due()
        if self.profile["unit"]:
            with self.step("Start the release where nobody sees it"):
                self.drain(self.older())
                self.start(self.id)
        if due["migration"] and self.profile.get("copy") and not self.is_copied(due):
            with self.step("Copy the database"):
                self.copy()
        if due["migrates"] or self.note()["maintained"]:
            with self.step("Switch maintenance on"):
                self.close()
        if not self.note()["maintained"]:
            self.end_left_maintenance()
        if due["migrates"]:
            with self.step("Wait for the jobs of cron that still run"):
                self.wait_for_jobs()
        if due["installs"]:
            with self.step("Install the application"):
                self.install()
        # of what is not closed, the running release may show no page from the import to the switch
        at_once = due["configuration"] and not due["migrates"]
        relink(self.root / "next", f"releases/{self.id}")
        seen = False
        if at_once:
            with self.step("Check the release's health where nobody sees it"):
                self.check(NEXT, CHECKS, CHECK_PAUSE, pages=False)
        if due["migration"] or due["configuration"] or due["installs"]:
            with self.step("Change the data with the new code"):
                self.migrate(due)
        if not at_once:
            with self.step("Check the release where nobody sees it"):
                seen = self.check(NEXT, CHECKS, CHECK_PAUSE)
        if (
            seen and self.profile["unit"] and not due["migrates"]
        ):  # what is closed is not kept closed for that
            with self.step("Warm the release"):
                self.warm()
        with self.step("Switch to the new release"):
            if due["migrates"]:  # only `open` lets visitors in
                self.turn("on", self.id)
            self.switch(self.id)
            for command in self.profile["after_switch"]:
                self.must(command)
        with self.step("Check the release that visitors get"):
            self.check(PUBLIC, *((AGAIN, AGAIN_PAUSE) if seen else (CHECKS, CHECK_PAUSE)))

    def due(self) -> dict[str, bool]:
        """What the new code says of database and configuration; and a note of it, which only `settle` removes."""
        known = self.note()
        self.await_migration()
        if known:
            self.share_again()
        begun, opened = known.get("begun", False), known.get("opened", False)
        self.online = known.get("online", False) and not begun
        self.migrated = self.online or begun
        # by a person: before it was begun, or once it was opened; who has opened it since wants it open
        by_hand = known.get("maintained", True) or (opened and not known.get("closed"))
        maintained = by_hand and self.in_maintenance()
        # what visitors have has ended, and after a migration it is what to go back to
        if opened and (current := self.linked("current")) != self.id:
            begun = False
            ended = {"previous": current, "online": False, "copy": ""} if self.migrated else {}
            self.write(begun=False, migrates=False, opened=False, **ended)
        asked = self.asked()
        due = {"installs": (known.get("installs", False) and not opened) or asked["installs"].result()}
        counts = not due["installs"] and not self.plan.get("undoes_online")
        due["migration"] = counts and asked["migration"].result()
        changes = due["installs"] or due["migration"]
        due["configuration"] = not changes and asked["configuration"].result()
        undoes = self.plan.get("undoes", "")
        closes = known.get("migrates", False) and not opened
        due["online"] = due["migration"] and not undoes and not closes and self.is_online()
        due["migrates"] = closes or (due["migration"] and not due["online"])
        if undoes and (due["migrates"] or due["installs"]):
            raise Failure(
                f"{self.id} does not know this database: it has moved on", remedy=self.plan["instead"]
            )
        first = known.get("first", not known and not self.linked("current"))
        told = {"migrates": due["migrates"], "installs": due["installs"], "maintained": maintained}
        self.write(previous=self.previous(), first=first, begun=begun, undoes=undoes, **told)
        return due

    def asked(self) -> dict[str, Future[bool]]:
        """What the release is asked, all at once: an application takes long to start. What fails matters only to who needs the answer."""
        with ThreadPoolExecutor() as pool:
            works = {each: pool.submit(self.is_due, each) for each in ("migration", "configuration")}
            return {"installs": pool.submit(self.installs), **works}

    def is_online(self) -> bool:
        """Whether old and new code work with what a migration changes: whatever of its files differs from the live release's is declared so."""
        said, live = self.profile.get("online"), self.linked("current")
        file = inside(self.folder, said) if said else None
        if not file or not file.is_file() or not live:
            return False
        # as sha256sum writes it
        declared = {
            (name.lstrip(" *"), digest)
            for digest, _, name in (each.partition(" ") for each in file.read_text().splitlines())
        }
        before, now = (self.migrations(self.root / "releases" / each) for each in (live, self.id))
        new, gone = now.items() - before.items(), before.keys() - now.keys()
        # pages of the running release may fail from an import of configuration to the switch
        return bool(new) and new <= declared and not gone and not self.is_due("configuration")

    def migrations(self, folder: Path) -> dict[str, str]:
        """The files of a release that change the database, and their digests."""
        found = {}
        for here, _, names in os.walk(folder):
            for name in names:
                path = Path(here, name)
                told = str(path.relative_to(folder))
                wanted = any(fnmatch.fnmatchcase(told, each) for each in self.plan["migrations"])
                if wanted and not path.is_symlink():
                    found[told] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def installs(self) -> bool:
        """Whether the application is to be installed."""
        said = self.profile.get("install")
        return bool(said) and self.asks(
            said["interpreter"], said["due_exit"], self.plan["scripts"][said["due"]]
        )

    def is_due(self, work: str) -> bool:
        """Whether there is work of this kind, by the exit code of the profile's command."""
        said = self.profile.get(work)
        return bool(said) and self.asks(said["due"], said["due_exit"])

    def asks(self, command: Sequence[str], due: int, stdin: str = "") -> bool:
        """Whether a command ends with the exit code that means work. A command that cannot start has no exit code."""
        asked = self.run(command, stdin=stdin)
        if asked.returncode not in (0, due):
            raise Failure(f"{command[0]}: exit code {asked.returncode}", asked.stderr or asked.stdout)
        return asked.returncode != 0

    @property
    def copies(self) -> Path:
        """Copies of the database, root's alone."""
        return self.root / "copies"

    def is_copied(self, due: Mapping[str, bool]) -> bool:
        """Whether a copy would come too late, or visitors have changed nothing since the one that is there."""
        known = self.note()
        if known.get("opened"):
            return False
        begun = known["begun"] or (known["online"] and due["online"])
        return bool(begun or (known.get("copy") and self.in_maintenance()))

    def copy(self) -> None:
        """The database as it is before a migration. It has its name when it is whole."""
        begun, name = time.time(), f"{self.id}.sql.zst"
        self.copies.mkdir(mode=0o700, exist_ok=True)
        part = self.copies / "partial"
        try:
            self.refuse_to_fill()
            part.touch(mode=0o600)
            with part.open("wb") as file:
                how = {"stdout": file, "stderr": subprocess.PIPE}
                self.fills([*self.profile["copy"], "take"], cwd=self.root, **how)
                os.fsync(file)
        except (Failure, OSError):
            part.unlink(missing_ok=True)
            raise
        os.utime(part, (begun, begun))
        part.replace(self.copies / name)
        self.write(copy=name)

    def way_to_restore(self, known: Mapping[str, Any]) -> str:
        """What is told of the copy where a migration was begun; empty where there is none. `known`: the note."""
        copy = known.get("copy")
        if not copy or not self.profile.get("copy") or not (self.copies / copy).exists():
            return ""
        path = self.copies / copy
        at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(path.stat().st_mtime))
        command = shlex.join([*self.profile["copy"], "restore", str(path)])
        return (
            f"; the database of {at} comes back, and that of now is kept aside, with: doit ssh sudo {command}"
        )

    def forget_copies(self, kept: str = "") -> None:
        """All but one, and what a killed run has left of one."""
        for each in self.copies.iterdir() if self.copies.exists() else ():
            if each.name != kept:
                each.unlink()

    def close(self) -> None:
        """Maintenance in the running release, and in the new one too where it was on before."""
        known = self.note()
        if not known.get("closed"):
            self.write(closed=time.time())
        self.turn("on", self.linked("current"))
        if known["maintained"]:
            self.turn("on", self.id)

    def end_left_maintenance(self) -> None:
        """What an earlier one, by hand or of a run that was killed, has left in a release that nobody sees."""
        if self.is_closed(self.id) and self.linked("current") != self.id:
            with self.step("Switch off a maintenance that has ended"):
                self.turn("off", self.id)

    def wait_for_jobs(self) -> None:
        """Units of the running release's code stop. Jobs hold a lock, and new ones do not begin in maintenance."""
        if self.profile["restart"]:
            self.must(["systemctl", "stop", *self.profile["restart"]], root=True)
        seconds = self.plan["job_seconds"]
        wait = ["flock", "--exclusive", "--timeout", str(seconds), str(self.root / "releases"), "true"]
        if self.run(wait, root=True, cwd=self.root).returncode:
            raise Failure(f"a job of cron still runs after {seconds} s")

    def install(self) -> None:
        """Into an empty database. The installation writes its own configuration, so that the shared one is not linked meanwhile."""
        said = self.profile["install"]
        with self.lent(said.get("lent", ()), configured=False):
            self.must(said["interpreter"], stdin=self.plan["scripts"][said["run"]])
        for each in said["then"]:
            self.must(said["interpreter"], stdin=self.plan["scripts"][each], name=Path(each).name)

    def migrate(self, due: Mapping[str, bool]) -> None:
        """Database and configuration, by the new code."""
        with self.lent(self.profile.get("lent", ())):
            if due["migration"]:
                self.online = due["online"] and (self.online or not self.migrated)
                self.migrated = True
                self.write(**{"online" if due["online"] else "begun": True}, opened=False)
                self.outliving(self.profile["migration"]["run"])
            if due["configuration"] or (
                (due["migration"] or due["installs"]) and self.is_due("configuration")
            ):
                self.write(imports=True)
                self.must(self.profile["configuration"]["run"])
            if written := self.profile.get("written"):
                said = self.must(written["interpreter"], stdin=self.plan["scripts"][written["names"]])
                self.notes += [f"{each} was written: put it into the template" for each in said.splitlines()]

    @contextlib.contextmanager
    def lent(self, folders: Sequence[str], *, configured: bool = True) -> Iterator[None]:
        """Commands may write into copies of some folders, and of the shared configuration unless they write their own. No copy stays."""
        mine, part = self.root / "lent" / self.id, self.root / "lent.partial"
        try:
            for each in folders:
                place = inside(self.folder, each)
                remove(part)
                self.must(["cp", "--archive", str(place), str(part)], root=True)
                self.give(part)
                for one in self.plan["configured"]:
                    if Path(one).is_relative_to(each):
                        self.configure(part / Path(one).relative_to(each), empty=configured)
                mine.mkdir(parents=True, exist_ok=True)
                place.replace(mine / urllib.parse.quote(each, safe=""))
                part.replace(place)
            for one in self.plan["configured"]:
                if not any(Path(one).is_relative_to(each) for each in folders):
                    self.configure(self.folder / one, empty=configured)
                if configured:  # read as the user, who may read it
                    self.must(["cp", str(self.root / "shared" / one), one])
            yield
        finally:
            self.share_again()

    def configure(self, place: Path, *, empty: bool) -> None:
        """In place of the link to the shared configuration, nothing or an empty file of the commands' user, which pages read too."""
        remove(place)
        if empty:
            place.touch(mode=0o600, exist_ok=False)
            self.give(place, self.group)
            place.chmod(0o640)

    def share_again(self) -> None:
        """What was lent is as it was released, and the shared configuration is linked, whatever was there."""
        for kept in self.root.glob("lent/*/*"):
            place = self.root / "releases" / kept.parent.name / urllib.parse.unquote(kept.name)
            if place.parent.exists():
                remove(place)
                kept.replace(place)
        for left in (self.root / "lent", self.root / "lent.partial"):
            remove(left)
        for each in self.plan["configured"]:
            place = inside(self.folder, str(Path(each).parent)) / Path(each).name
            relink(place, str(self.root / "shared" / each))

    @property
    def unit(self) -> str:
        """The migration's unit of systemd. It outlives the session that starts it, and there is one at a time."""
        return f"{self.root.name}-migration.service"

    def outliving(self, command: Sequence[str]) -> None:
        """Run the migration in a unit of its own: what it did is not left to a connection."""
        output, code = (self.root / f"migration.{each}" for each in ("out", "code"))
        for each in (output, code):
            each.unlink(missing_ok=True)
        user = [
            "setpriv",
            f"--reuid={self.account.pw_uid}",
            f"--regid={self.account.pw_gid}",
            "--init-groups",
        ]
        # its output is root's alone
        script = f'umask 077; exec > {shlex.quote(str(output))} 2>&1; umask {SHARED:03o}; "$@"; echo $? > {shlex.quote(str(code))}'
        settings = [f"--setenv={name}={value}" for name, value in self.environment().items()]
        start = [
            "systemd-run",
            "--quiet",
            "--collect",
            f"--unit={self.unit}",
            f"--working-directory={self.folder}",
        ]
        words = ["sh", "-c", script, "sh", *user, *command]
        # a word of a unit's command that begins with $ names a variable
        self.must([*start, *settings, *(each.replace("$", "$$") for each in words)], root=True)
        self.await_migration()
        said = output.read_text(errors="replace") if output.exists() else ""
        ended = code.read_text().strip() if code.exists() else "none: it was ended"
        for each in (output, code):
            each.unlink(missing_ok=True)
        if ended != "0":
            raise Failure(f"{shlex.join(command)}: exit code {ended}", said)

    def await_migration(self) -> None:
        """Until no migration runs, also one that a killed run has begun. While systemd cannot say, it may."""
        ask = ["systemctl", "--quiet", "is-active", self.unit]
        known = self.note()
        begun = known.get("begun") or known.get("online")
        while begun and self.run(ask, root=True).returncode not in ENDED:
            time.sleep(ASK_EVERY)

    def unit_of(self, release: str) -> str:
        """The unit of systemd that runs a release, and nothing else."""
        return str(self.profile["unit"]).replace("@", f"@{release}")

    def start(self, release: str) -> None:
        """Its unit takes requests; one that runs goes on. One that still ends its last requests is awaited first."""
        if not self.profile["unit"]:
            return
        unit = self.unit_of(release)
        if self.run(["systemctl", "start", unit], root=True).returncode:
            tell = ["journalctl", "--no-pager", "--output=cat", "--lines=5", f"--unit={unit}"]
            raise Failure(f"{unit} does not start", self.run(tell, root=True).stdout)

    def stop(self) -> None:
        """The release's unit has ended, with the requests that it had begun."""
        if self.profile["unit"]:
            self.must(["systemctl", "stop", self.unit_of(self.id)], root=True, cwd=self.root)

    def drain(self, releases: Sequence[str]) -> None:
        """Their units end what they have begun, and take no more. Nobody waits for that."""
        if releases and self.profile["unit"]:
            units = [self.unit_of(each) for each in releases]
            self.must(["systemctl", "stop", "--no-block", *units], root=True)

    def older(self) -> list[str]:
        """Releases that are neither live, nor the one to go back to, nor this one."""
        kept = (self.id, self.linked("current"), self.previous())
        return [
            each.name
            for each in (self.root / "releases").iterdir()
            if completed(each) and each.name not in kept
        ]

    def warm(self) -> None:
        """Ask for the profile's pages again until each answers at once, or often enough."""
        for name in self.plan["host_names"]:
            for page in self.pages():
                for _ in range(WARMINGS):
                    begun = time.monotonic()
                    self.site(name, NEXT).get(page)
                    if time.monotonic() - begun < WARM:
                        break

    def switch(self, to: str) -> None:
        """A new link is renamed over the old one: there is no moment without one."""
        if version := self.version(self.root / "current"):
            with contextlib.suppress(FileNotFoundError):
                os.utime(self.static / version)  # pages that name it are made until now
        relink(self.root / "current", f"releases/{to}")

    def check(self, port: int, attempts: int, pause: float, *, pages: bool = True) -> bool:
        """Health, the profile's pages, and what these name, within some attempts. False if nobody listens for the link `next`."""
        paths = self.pages() if pages else ()
        for left in reversed(range(attempts)):
            try:
                for name in self.plan["host_names"]:
                    self.site(name, port).check(self.profile["health_path"], paths)
                return True
            except ConnectionRefusedError:
                if port == NEXT:
                    self.notes.append(
                        f"nothing listens on 127.0.0.1:{NEXT}: the release is checked after the switch only"
                    )
                    return False
                problem = Failure("the web server does not listen")
            except OSError as error:
                problem = Failure(f"the web server does not answer: {error}")
            except Failure as failure:
                problem = failure
            if left:
                time.sleep(pause)
        raise problem

    def site(self, name: str, port: int) -> Site:
        """The site as this host shows it to itself, whatever its names lead to: over TLS where visitors get it so."""
        told, tls = self.plan.get("ports", {}), None
        if port == PUBLIC and (certificate := self.plan["certificate"]):
            port, tls = PUBLIC_TLS, shows(certificate)
        visitor = Visitor(https=self.plan["https"], tls=tls)
        return Site(name, "127.0.0.1", told.get(str(port), port), visitor)

    def pages(self) -> Sequence[str]:
        """The profile's pages. Where the site was closed by hand they have nothing to show, nor while the release itself is closed."""
        closed = self.note().get("maintained", self.in_maintenance()) or self.is_closed(self.id)
        return () if closed else self.profile.get("pages", ())

    # --- ready ------------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Only the release before is gone back to; where that was begun, it is gone on with."""
        with self.step("Check that the release before is here"):
            undoes, instead, current = self.plan["undoes"], self.plan["instead"], self.linked("current")
            if note := self.note():
                if note.get("undoes") != undoes:
                    raise Failure("a release was begun here and has not ended", remedy="doit release")
            elif current not in (self.id, undoes):
                raise Failure(f"it is {current or 'nothing'} that runs, not {undoes}", remedy="doit release")
            elif current == undoes and (before := self.linked("previous")) != self.id:
                raise Failure(f"before {undoes} it was {before or 'nothing'}, not {self.id}", remedy=instead)
            if not self.marker.exists() or self.marker.read_text().strip() != self.plan["sha256"]:
                raise Failure(f"{self.id} is not complete here", remedy=instead)
            if current != self.id and (wrong := self.wrong_with(self.id)):
                raise Failure(f"{self.id} is not believed: {wrong}", remedy=instead)

    # --- open, settle -----------------------------------------------------------------------------------

    def open(self) -> None:
        """The maintenance of the release ends; one that was on before it stays."""
        if not self.note():
            return
        with self.step("Switch maintenance off"):
            self.end_maintenance()
        with self.step("Restart the units that run the release's code"):
            self.restart()
        self.write(opened=True)

    def end_maintenance(self) -> None:
        """In every release that is here; visitors wait for the first one."""
        if not self.profile.get("maintenance") or self.note().get("maintained"):
            return
        here = sorted(each.name for each in (self.root / "releases").iterdir())
        for each in (self.linked("current"), *here):
            self.turn("off", each)
        if closed := self.note().get("closed"):
            self.downtime = round(time.time() - closed, 1)
            self.write(closed=0)

    def restart(self) -> None:
        """Workers and their like, with the code that is current; without any they rest."""
        if self.profile["restart"]:
            way = "restart" if self.linked("current") else "stop"
            self.must(["systemctl", way, *self.profile["restart"]], root=True)

    def settle(self) -> None:
        """Nothing is under way any more; the oldest releases go, never the current one, the previous one, or one that runs."""
        if not self.note():
            return
        with self.step("Remove the oldest releases"):
            previous = self.previous()
            if self.plan.get("undoes"):  # a second rollback would swing back to it
                (self.root / "previous").unlink(missing_ok=True)
            elif previous:
                relink(self.root / "previous", f"releases/{previous}")
            copy = self.note().get("copy", "")
            self.unfinished.unlink()
            if not self.plan.get("undoes"):
                self.forget_copies(copy)
            for each in self.surplus(previous):
                remove(each)
            self.forget_static()
        self.do_late()

    def do_late(self) -> None:
        """What need not be done before visitors come. It fails no release, and has an end."""
        until = time.monotonic() + LATE
        for command in self.profile["late"]:
            name = shlex.join(command).partition("\n")[0]
            with self.step(f"Late: {name}"):
                if wrong := self.wrong_with_late(command, until):
                    self.notes.append(f"{name} comes late, and has failed: {wrong}")

    def wrong_with_late(self, command: Sequence[str], until: float) -> str:
        """Why a command did not end well; empty where it did. It ends with who waits for it: a rollback may be wanted."""
        if time.monotonic() >= until:
            return "there was no time left"
        listened = select.poll()
        listened.register(sys.stdout.fileno(), 0)
        try:
            with os.fdopen(os.memfd_create("output"), "w+", errors="replace") as output:
                with self.started(command, stdout=output) as child:
                    while child.poll() is None and time.monotonic() < until:
                        if listened.poll(ASK_EVERY * 1000):
                            raise BrokenPipeError
                    in_time = child.poll() is not None
                output.seek(0)
                last = output.read()[-OUTPUT:].strip().splitlines()[-1:]
        except BrokenPipeError:
            raise
        except (Failure, OSError) as problem:
            return str(problem)
        code = f"exit code {child.returncode}" if in_time else f"it has not ended within {LATE:.0f} s"
        return ": ".join([code, *last]) if child.returncode else ""

    def surplus(self, previous: str) -> list[Path]:
        """Folders of releases that nobody needs."""
        folders = [
            each for each in (self.root / "releases").iterdir() if each.is_dir() and not each.is_symlink()
        ]
        newest = sorted(folders, key=completed, reverse=True)
        old = [each for each in newest[self.plan["keep"] :] if each.name not in (self.id, previous)]
        return [each for each in old if not in_use(each)]

    # --- undo -------------------------------------------------------------------------------------------

    def undo(self) -> str:
        """The release before is live again, unless data was migrated; where the site stands then."""
        known = self.note()
        if not known:
            return f"{self.linked('current') or 'nothing'} runs as before"
        previous, migrated, in_front = self.previous(), known["begun"], self.linked("current") == self.id
        if in_front and previous and not migrated:
            self.start(previous)  # it still runs, unless the host was started again since
            self.switch(previous)
            commands = [self.profile["configuration"]["run"]] if known["imports"] else []
            for command in [*commands, *self.profile["after_switch"]]:
                with contextlib.suppress(Failure):  # the failure to tell is the release's own
                    self.must(command, cwd=self.root / "releases" / previous)
        if migrated and known.get("opened"):
            if known.get("closed"):  # for another one, which was not begun
                self.end_maintenance()
                self.restart()
            return f"data was migrated, so the site runs {self.linked('current')}"
        if migrated:
            self.close()
            return f"a migration was begun, so the site stays in maintenance until a release succeeds{self.way_to_restore(known)}"
        self.end_maintenance()
        if in_front and not previous and known.get("first"):  # it never was live, and is not to count as if
            (self.root / "current").unlink()
        if self.linked("current") != self.id:
            self.drain([self.id])
        self.restart()
        if known.get("copy") and not known["online"]:  # of what was not changed
            (self.copies / known["copy"]).unlink(missing_ok=True)
        if not known["installs"]:  # an installation that failed goes on with the next release
            self.unfinished.unlink()
        stays = f"; what was migrated online stays{self.way_to_restore(known)}" if known["online"] else ""
        if not in_front:
            return f"{self.linked('current') or 'nothing'} runs as before{stays}"
        if previous:
            return f"went back to {previous}{stays}"
        return f"{self.linked('current') or 'nothing'} runs: there is no previous release to go back to"

    # --- rehearse, discard ------------------------------------------------------------------------------

    def rehearse(self) -> None:
        """Started, checked and warm before visitors get it. Not while a release is under way, nor where the new code wants other data."""
        if self.note() or self.linked("current") in ("", self.id):
            return
        with self.step("Check what is due"):
            if any(each.result() for each in self.asked().values()):
                return
        if not self.in_maintenance():
            self.end_left_maintenance()
        with self.step("Start the release where nobody sees it"):
            self.start(self.id)
            relink(self.root / "next", f"releases/{self.id}")
        with self.step("Check the release where nobody sees it"):
            seen = self.check(NEXT, CHECKS, CHECK_PAUSE)
        if seen and self.profile["unit"]:
            with self.step("Warm the release"):
                self.warm()

    def discard(self) -> None:
        """A release that was only brought goes: no link names it, no process runs from it, and nothing is under way.

        Its static files go when nobody can ask for them any more, as those of every version.
        """
        with self.step("Remove what was brought"):
            current = self.linked("current")
            if self.note() or self.id in (current, self.linked("previous")):
                return
            if self.linked("next") == self.id and current:  # by the rehearsal
                relink(self.root / "next", f"releases/{current}")
            self.stop()
            if in_use(self.folder):
                return
            for each in (self.folder, self.folder.with_name(f"{self.id}.partial"), self.tarball.parent):
                remove(each)

    # --- hooks ------------------------------------------------------------------------------------------

    def hooks(self, when: str, phase: str) -> None:
        """The repository's scripts before or after a phase. One that ends badly is the phase's failure, unless visitors have the release."""
        for each in self.plan["hooks"]:
            if (each["when"], each["phase"]) != (when, phase):
                continue
            try:
                with self.step(f"Hook {each['name']}"):
                    self.hook(each)
            except Failure as failure:
                told_only = phase == "undo" or (when == "after" and phase in SEEN and not each["must"])
                if not told_only:
                    raise
                said = "".join(f": {line}" for line in str(failure.output).strip().splitlines()[-1:])
                self.late.append(f"{failure}{said}")

    def hook(self, said: Mapping[str, Any]) -> None:
        """A script, as the application's user unless its name says root. It is no file of the host; what it leaves running is not waited for."""
        told = {
            "ID": self.id,
            "DIGEST": self.plan["sha256"],
            "COMMIT": self.plan["commit"],
            "ENVIRONMENT": self.plan["environment"],
            "HOST": self.plan["host"],
            "PHASE": said["phase"],
            "PATH": str(self.root),
            "PREVIOUS": self.previous(),
        }
        names = {f"RELEASE_{name}": value for name, value in told.items()}
        with (
            os.fdopen(os.memfd_create("hook"), "wb") as file,
            os.fdopen(os.memfd_create("out"), "r+b") as out,
        ):
            file.write(said["text"].encode(errors="surrogateescape"))
            file.flush()
            reader = said["text"].partition("\n")[0][2:].split(None, 1)
            with self.started(
                [*reader, f"/dev/fd/{file.fileno()}"],
                cwd=self.folder if self.marker.exists() else self.root,
                root=said["root"],
                env={**self.environment(), **names},
                pass_fds=(file.fileno(),),
                stdout=out,
            ) as child:
                try:
                    code: object = child.wait(HOOK_SECONDS)
                except subprocess.TimeoutExpired:
                    code = f"none within {HOOK_SECONDS:.0f} s"
            out.seek(0)
            if code != 0:
                raise Failure(f"hooks/{said['name']}: exit code {code}", out.read().decode(errors="replace"))

    # --- commands ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """What is done now: said as it begins, and told with its seconds."""
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()
        begun = time.monotonic()
        self.steps.append((name, 0.0))
        try:
            yield
        finally:
            self.steps[-1] = (name, round(time.monotonic() - begun, 2))

    def environment(self) -> dict[str, str]:
        """What a login of the commands' user would have."""
        name = self.account.pw_name
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": self.account.pw_dir,
            "USER": name,
            "LOGNAME": name,
            "SHELL": "/bin/sh",
            # how it gets out, where egress is listed
            **{name: os.environ[name] for name in PROXIES if name in os.environ},
        }

    @contextlib.contextmanager
    def started(
        self, command: Sequence[str], *, cwd: Path | None = None, root: bool = False, **how: Any
    ) -> Iterator[subprocess.Popen[str]]:
        """A command of the commands' user, in the release's folder. It is ended where the block fails."""
        account = self.account
        if not root and os.geteuid() == 0 and account.pw_uid != 0:
            groups = [each.gr_gid for each in grp.getgrall() if account.pw_name in each.gr_mem]
            how = {**how, "user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups}
        try:
            child = subprocess.Popen(
                list(command),
                cwd=cwd or self.folder,
                umask=0o022 if root else SHARED,
                process_group=0,
                preexec_fn=end_with_parent,
                text=True,
                errors="replace",
                **{
                    "env": self.environment(),
                    "stdin": subprocess.DEVNULL,
                    "stdout": subprocess.PIPE,
                    "stderr": subprocess.STDOUT,
                    **how,
                },
            )
        except OSError as error:
            raise Failure(f"{command[0]} cannot be started: {error.strerror}") from None
        try:
            yield child
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)  # with what it has started, which may write on
                child.wait()

    def run(
        self, command: Sequence[str], *, cwd: Path | None = None, root: bool = False, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """A command that has ended. It may also open `stdin` by its name: of a pipe of root's, a user cannot."""
        with os.fdopen(os.memfd_create("stdin"), "w+") as file:
            file.write(stdin)
            file.seek(0)
            with self.started(command, cwd=cwd, root=root, stdin=file, stderr=subprocess.PIPE) as child:
                output, complaints = child.communicate()
        return subprocess.CompletedProcess(list(command), child.returncode, output, complaints)

    def must(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        root: bool = False,
        stdin: str = "",
        name: str = "",
    ) -> str:
        """A command that ends well; what it printed."""
        ended = self.run(command, cwd=cwd, root=root, stdin=stdin)
        if ended.returncode:
            words = f"{name or shlex.join(command)}: exit code {ended.returncode}"
            raise Failure(words, ended.stderr.strip() or ended.stdout)
        return ended.stdout


def end_with_parent() -> None:
    """What a killed program has started would still change the host while the next one does."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def replace(path: Path, text: str) -> None:
    """Write a file that is never half there."""
    new = path.with_name(f"{path.name}.new")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def relink(path: Path, target: str) -> None:
    """A link that names another target from one moment to the next."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(path)


def remove(path: Path) -> None:
    """A file, a link, or a folder with all that is in it, if there is one. Links are not followed. What is half removed is no complete release."""
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            (path / ".complete").unlink(missing_ok=True)
            shutil.rmtree(path)
        else:
            path.unlink()


def inside(folder: Path, name: str) -> Path:
    """A path in a release, to which no link of the tarball leads: root would follow it."""
    real = Path(os.path.realpath(folder), name)
    if real.resolve() != real:
        raise Failure(f"{name} of the release {folder.resolve().name} is a link, or behind one")
    return real


def manifest(lines: Iterable[str]) -> str:
    """A digest of all that is in a release but what is writable, of which there is a line each (`looked_at`).

    Nobody but root can change a file of root's and keep its time. What a crash has not written, and what was changed by hand, shows.
    """
    return hashlib.sha256(os.fsencode("\0".join(sorted(lines)))).hexdigest()


def looked_at(folder: Path, name: str) -> str:
    """What a manifest says of a name: kind and rights, owner, of a file its size and time, of a link where it leads."""
    path = f"{folder}/{name}"
    return line(path, name, os.lstat(path))


def line(path: str, name: str, found: os.stat_result) -> str:
    """The same, of what was found there."""
    told = f"{found.st_mode:o} {found.st_uid} {found.st_gid} {name}"
    if stat.S_ISREG(found.st_mode):
        return f"{told} {found.st_size} {found.st_mtime_ns}"
    if stat.S_ISLNK(found.st_mode):
        return f"{told} {Path(path).readlink()}"
    if stat.S_ISDIR(found.st_mode):
        return told
    raise Failure(f"{name} is neither a file nor a folder nor a link")


def names_in(folder: Path, writable: Sequence[str]) -> Iterator[str]:
    """All that is in a release, but what is writable."""
    but, left = {*writable, *OWN}, [""]
    while left:
        here = left.pop()
        with os.scandir(f"{folder}/{here}") as entries:
            for entry in entries:
                if (name := f"{here}{entry.name}") not in but:
                    yield name
                    if entry.is_dir(follow_symlinks=False):
                        left.append(f"{name}/")


class Unpacked(threading.Thread):
    """What tar has unpacked: each file is looked at as soon as tar names the next one. To go through all folders afterwards takes a fifth as long as tar."""

    def __init__(self, folder: Path, said: Iterable[str]) -> None:
        super().__init__(daemon=True)
        self.folder, self.said = folder, said
        self.found: dict[str, str] = {}
        self.folders: set[str] = set()
        self.inside: list[str] = []  # folders that tar has named, each in the one before it
        self.odd = False

    def run(self) -> None:
        """Until tar has ended."""
        before = ""
        for each in itertools.chain(self.said, [""]):
            if before:
                self.see(before.rstrip("/"), is_folder=before.endswith("/"))
            before = each.removeprefix("./")

    def see(self, name: str, *, is_folder: bool) -> None:
        """Keep the lines of a name and of its folders; none of what tar may still change: links, for which empty files stand until its end."""
        if os.path.normpath(name) != name or name.startswith("/"):
            self.odd = True
        try:
            for folder in parents(name, self.folders):
                if folder not in self.found:
                    self.found[folder] = looked_at(self.folder, folder)
            self.leave(name)
            if is_folder:
                self.inside.append(name)
                self.found[name] = ""
                return
            path = f"{self.folder}/{name}"
            found = os.lstat(path)
            whole = stat.S_ISREG(found.st_mode) and found.st_size
            self.found[name] = line(path, name, found) if whole else ""
        except OSError:  # tar writes some characters in another way
            self.odd = True

    def leave(self, name: str) -> None:
        """Look at the folders that a name is not in: tar gives a folder its rights before it extracts what is elsewhere."""
        while self.inside and not name.startswith(f"{self.inside[-1]}/"):
            left = self.inside.pop()
            self.found[left] = looked_at(self.folder, left)

    def lines(self, shared: Sequence[str], writable: Sequence[str]) -> list[str]:
        """The manifest's lines of what was unpacked, and of what was linked since. All folders are gone through where a name is odd."""
        if not self.odd:
            free = tuple(f"{each}/" for each in writable)
            linked = {each for each in shared if not each.startswith(free)}
            made = [each for name in (*linked, *writable) for each in parents(name, self.folders)]
            gone, but = (*free, *(f"{each}/" for each in shared)), {*writable, *OWN}
            lines = {
                name: told or looked_at(self.folder, name)
                for name, told in {**self.found, **dict.fromkeys((*made, *linked), "")}.items()
                if name not in but and not name.startswith(gone)
            }
            # none is a link
            if all(lines.get(each, "4").startswith("4") for each in self.folders.difference(linked)):
                return [*lines.values()]
        return [looked_at(self.folder, each) for each in names_in(self.folder, writable)]


def in_bursts(pipe: IO[str]) -> Iterator[str]:
    """The lines that a process says, some time after it has said them."""
    rest = b""
    while chunk := os.read(pipe.fileno(), 1 << 20):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (each.decode(errors="replace") for each in lines)
        time.sleep(BURST)
    if rest:
        yield rest.decode(errors="replace")


def parents(name: str, known: set[str]) -> Iterator[str]:
    """The folders that a name is in, of those that are not known yet; then they are."""
    while (name := name.rpartition("/")[0]) and name not in known:
        known.add(name)
        yield name


def in_use(folder: Path) -> bool:
    """Whether a process runs from a folder."""
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cwd", "exe"):
            with contextlib.suppress(OSError):
                if (process / name).readlink().is_relative_to(folder):
                    return True
    return False


def completed(folder: Path) -> float:
    """When a release was complete; a folder's own time changes with what is put into it."""
    marker = folder / ".complete"
    return marker.stat().st_mtime if marker.exists() else 0.0


class PageFiles(html.parser.HTMLParser):
    """The files that a page names, which a browser would fetch with it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, None] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Scripts, style sheets, icons and pictures."""
        told = dict(attrs)
        if tag == "link" and not {"stylesheet", "icon"} & set((told.get("rel") or "").lower().split()):
            return
        name = told.get({"script": "src", "img": "src", "link": "href"}.get(tag, ""))
        if name:
            self.found[name.strip()] = None


def shows(certificate: str) -> ssl.SSLContext:
    """Trust in the certificate of a file alone, whoever vouches for it: whether visitors trust that one was looked at when it came."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(certificate)
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return made


class Visitor:
    """Who asks a site. `https`: whether visitors come over TLS; `tls`: whom this one trusts; `authorization`: where a password is asked for.

    Without `tls` a site of `https` is asked as by a load balancer, which has ended it.
    """

    def __init__(
        self, *, https: bool = False, tls: ssl.SSLContext | None = None, authorization: str = ""
    ) -> None:
        self.https, self.tls, self.authorization = https, tls, authorization

    @property
    def headers(self) -> dict[str, str]:
        """Of every request."""
        ended = {"X-Forwarded-Proto": "https"} if self.https and not self.tls else {}
        return {**ended, **({"Authorization": self.authorization} if self.authorization else {})}


PLAIN = Visitor()


class Site:
    """A site, as visitors see it; `address`, `port`: where it is asked."""

    def __init__(self, host_name: str, address: str, port: int, visitor: Visitor = PLAIN) -> None:
        self.host_name, self.address, self.port, self.visitor = host_name, address, port, visitor

    def check(self, health: str, pages: Sequence[str]) -> None:
        """Health and pages answer 200, and so does every file of the site that a page names. Raises Failure or OSError.

        Over one connection, as a browser does: over TLS a new one for each file takes longer than the file.
        """
        with contextlib.closing(SiteConnection(self)) as kept:
            self.get(health, over=kept)
            for page in pages:
                named = [self.own(page, each) for each in PageFiles(self.get(page, over=kept)).found]
                for path in [each for each in named if each][:ASSETS]:
                    self.get(path, f"{self.host_name}{page} names {path}, which", over=kept)

    def own(self, page: str, name: str) -> str:
        """The path of a name on a page; empty where it is another site's."""
        try:
            found = urllib.parse.urlsplit(urllib.parse.urljoin(f"http://{self.host_name}{page}", name))
        except ValueError:
            return ""
        query = f"?{found.query}" if found.query else ""
        return found.path + query if found.hostname == self.host_name else ""

    @property
    def headers(self) -> dict[str, str]:
        """Of every request: by address alone, another site would answer."""
        return {"Host": self.host_name, **self.visitor.headers}

    def connection(self, patience: float = ANSWER) -> SiteConnection:
        """An open connection: by the address, and over TLS under the site's own name. Raises OSError."""
        made = SiteConnection(self, patience)
        made.connect()
        return made

    def get(self, path: str, words: str = "", over: SiteConnection | None = None) -> str:
        """What the site answers; `over`: the connection, which stays open. Raises Failure or OSError."""
        words = words or f"{self.host_name}{path}"
        connection = over or self.connection()
        try:
            status, said = self._answer(connection, path, again=bool(over and over.sock))
        except http.client.HTTPException as error:
            raise Failure(f"{words} gets no answer: {type(error).__name__}") from None
        finally:
            if not over:
                connection.close()
        if status != 200:
            raise Failure(f"{words} answers {status}, not 200", "" if "<" in said else said)
        return said

    def _answer(self, connection: SiteConnection, path: str, *, again: bool) -> tuple[int, str]:
        """The status and the text. `again`: ask once more if the site has ended the connection, which it may where it was kept."""
        try:
            connection.request("GET", urllib.parse.quote(path, safe=AS_IT_IS), headers=self.headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            connection.close()
            if not again:
                raise
        return self._answer(connection, path, again=False)


class SiteConnection(http.client.HTTPConnection):
    """A connection to a site: by its address, and over TLS under the site's own name. A request opens it where it is closed."""

    def __init__(self, site: Site, patience: float = ANSWER) -> None:
        super().__init__(site.address, site.port, timeout=patience)
        self.site = site

    def connect(self) -> None:
        """Open it. Raises OSError."""
        super().connect()
        if tls := self.site.visitor.tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname=self.site.host_name)


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{max(0, size) / 1e6:,.0f} MB"


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One release at a time on a host."""
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def perform(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Do the plan's `phases`, up to one that fails; what fails visitors is undone.

    The answer: `changed`, `closed` (to visitors), `migrated` (None where nobody asked what is due), `online` (it was migrated while open), `downtime` (seconds of the maintenance that it has
    ended), `notes`, `late` (hooks that failed once visitors had the release) and `steps` and `phases` (name, seconds) of what was done; `failed`: None, or the `step` that failed, its `reason`, the `output` of its command, the `outcome`: where the site stands, whether it was `undone`, and the `remedy`.
    """
    release, failed, took = HostRelease(plan), None, list[tuple[str, float]]()
    with alone(release.root):
        for phase in plan["phases"]:
            begun = time.monotonic()
            try:
                between_hooks(release, phase)
            except BrokenPipeError:  # nobody listens any more: the next release goes on
                raise
            except (Failure, OSError) as problem:
                step = release.steps[-1][0]
                outcome, well = (
                    undone(release)
                    if phase in UNDONE
                    else (f"{release.linked('current') or 'nothing'} runs", True)
                )
                failed = {
                    "step": step,
                    "reason": str(problem),
                    "output": getattr(problem, "output", ""),
                    "outcome": outcome,
                    "undone": well,
                    "remedy": getattr(problem, "remedy", ""),
                }
            took.append((phase, round(time.monotonic() - begun, 3)))
            if failed:
                break
    return {
        "changed": release.changed,
        "closed": release.in_maintenance(),
        "migrated": release.migrated,
        "online": release.online,
        "downtime": release.downtime,
        "notes": release.notes,
        "late": release.late,
        "steps": release.steps,
        "phases": took,
        "failed": failed,
    }


def between_hooks(release: HostRelease, phase: str) -> None:
    """A phase and its hooks, which run where it may have something to do. Of `undo` see `undone`."""
    busy = phase != "undo" and not release.is_live()
    if busy:
        release.hooks("before", phase)
    PHASES[phase](release)
    if busy:
        release.hooks("after", phase)


def undone(release: HostRelease) -> tuple[str, bool]:
    """Where the site stands once the release is undone, and whether it could be."""
    try:
        busy = bool(release.note())
        if busy:
            release.hooks("before", "undo")
        stands = release.undo()
        if busy:
            release.hooks("after", "undo")
        return stands, True
    except (Failure, OSError) as problem:
        return f"and it could not be undone: {problem}", False


def give_way(release: HostRelease) -> None:
    """Undo a release that is well here, as it is not everywhere."""
    release.steps.append(("Go back", 0.0))
    raise Failure(release.plan.get("why") or "this host is well, and another one is not")


PHASES: Mapping[str, Callable[[HostRelease], None]] = {
    "bring": HostRelease.bring,
    "live": HostRelease.live,
    "open": HostRelease.open,
    "settle": HostRelease.settle,
    "ready": HostRelease.ready,
    "undo": give_way,
    "rehearse": HostRelease.rehearse,
    "discard": HostRelease.discard,
}
UNDONE = ("live", "open", "undo")
"""The phases that are undone where they fail."""
SEEN = ("live", "open", "settle")
"""The phases after which visitors have the release."""


def main(plan: Mapping[str, Any]) -> None:
    """Print the answer, as the last line."""
    os.umask(0o022)  # whatever the login has: the application and the web server read what is made here
    sys.stdout.write(json.dumps(perform(plan)) + "\n")
