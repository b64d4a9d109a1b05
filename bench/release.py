"""bench: how long a release takes, from nothing, for a change, and for no change; and beside others who release the same tarball, in one run.

Prints Markdown. Runs in a copy of the checkout and in a cloud of its own, which it deletes at the end.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import large, peers, yes
from tasks.bucket import layout
from tasks.commands import command_line
from tasks.console.console import Console
from tasks.digest import Digest
from tasks.hosts.hosts import Hosts
from tasks.hosts.ssh import Host
from tasks.infrastructure import hosts
from tasks.infrastructure import stage as infrastructure
from tasks.release import outside
from tasks.release import stage as release
from tasks.release.phases import PUBLIC
from tasks.run import Run
from tasks.server import stage as server
from tasks.tarball import stored
from tasks.tarball.build import archive, tar
from tasks.tarball.manifest import Manifest
from tasks.version import Commit

ROOT = Path(__file__).parents[1]
DOIT = Path(sys.executable).parent / "doit"
TIMES = 10
ROUNDS = 6
"""How often each way releases. It is as many as three ways have orders, so that none has always the same before it."""
KEEP = 20
"""Releases that stay on the host: of files made soon after others were deleted, ext4 takes up to four times as long."""
FILES, SIZE = 2000, 4000
"""Files that are added to the example, of so many bytes."""
ANSWERS = 3
"""How often somebody says yes."""
PAGE = "app/app/code/Shop/Catalog/view/frontend/templates/page.phtml"
"""A template of the example, which every page has."""
MARK = "bench/round.txt"
"""A file of the application that says which round its release is of."""


def main() -> None:
    """Measure and print."""
    with project() as root, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        report(root)
        settings = root / "environments" / "testing.yml"
        # the peers fetch the tarball by themselves: their host lets everything out
        text = settings.read_text().replace("egress: listed", "egress: open")
        settings.write_text(text.replace("release:\n", f"release:\n  keep: {KEEP}\n", 1))
        doit(root, "release")
        beside_peers(root, Path(folder))
        beside_tar(root, Path(folder))
        after_a_yes(root)


@contextlib.contextmanager
def project() -> Iterator[Path]:
    """A clone of this checkout, with a cloud of its own as long as it lasts."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        root = Path(folder) / "checkout"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(root)], check=True)
        os.environ |= {"XDG_STATE_HOME": f"{folder}/state", "PYTHONPATH": str(root)}
        try:
            yield root
        finally:
            doit(root, "cloud", "delete")


def report(root: Path) -> None:
    """Print the table of our own."""
    rows = [("release, new environment on a new cloud", once(root, "release"), "300")]
    rows.append((f"release, nothing to do (median of {TIMES})", median(root, "release"), "1.0"))
    page = root / "app" / "pub" / "index.php"
    changes, back = [], []
    for number in range(3):
        page.write_text(f"{page.read_text()}\n// change {number}\n")
        changes.append(once(root, "release"))
        back.append(once(root, "rollback"))
    page.write_text(f"{page.read_text()}\n// what was undone goes no further\n")
    rows.append(("release, a PHP file changed (median of 3)", statistics.median(changes), "-"))
    rows.append(("`doit rollback` (median of 3)", statistics.median(back), "2"))
    rows.append((f"`doit list` (median of {TIMES})", median(root, "list"), "-"))
    rows.append(("teardown", once(root, "teardown"), "-"))
    table("what | seconds | reference", [(what, f"{seconds:.2f}", most) for what, seconds, most in rows])


def beside_peers(root: Path, folder: Path) -> None:
    """Print how long `doit release` takes where only the release is due, beside the peers, on one host."""
    run = command_line.read(root, {})
    [host] = hosts.reachable(run, infrastructure.existing(run))
    told = server.variables(run)
    ours = peers.Peer(
        name="`doit release`",
        path=told["application_path"],
        command=(str(DOIT), "release"),
        cwd=root,
        restarts=False,
    )
    configured = [each["destination"] for each in told["shared_configuration"]]
    others = peers.ways(
        folder,
        host,
        host_name=run.host_name,
        health=f"http://127.0.0.1:{PUBLIC}{run.profile.release.health_path}",
        directories=list(told["shared_directories"]),
        files=[*dict.fromkeys([*told["shared_files"], *configured])],
        keep=run.environment.release.keep,
    )
    ways = [ours, *others]
    add_files(root)
    taken: dict[str, list[float]] = {each.name: [] for each in ways}
    files = 0
    for number, order in rounds(len(ways)):
        files = next_tarball(root, number, ways[1:])
        for way in (ways[each] for each in order):
            taken[way.name].append(timed(host, way, number))
    medians = {name: statistics.median(each[1:]) for name, each in taken.items()}
    rivals = [each.name for each in ways[1:]]
    reference = {ours.name: f"0.9 × {rivals[0]}" if len(rivals) > 1 else "-"}
    head = f"code only, {files} files, the tarball is stored (medians of {ROUNDS}) | seconds"
    table(
        " | ".join([head, *(f"× {name}" for name in rivals), "reference"]),
        compared(medians, rivals, reference),
    )


def rounds(ways: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The rounds, each with an order of so many ways. Round 0 is one more, as nobody's first release counts."""
    orders = itertools.cycle(itertools.permutations(range(ways)))
    return zip(range(ROUNDS + 1), orders, strict=False)


def compared(
    medians: Mapping[str, float], rivals: Sequence[str], reference: Mapping[str, str]
) -> list[tuple[str, ...]]:
    """Rows of a table: seconds, and how often they are those of each rival."""
    return [
        (
            name,
            f"{seconds:.2f}",
            *(f"{seconds / medians[each]:.2f}" for each in rivals),
            reference.get(name, "-"),
        )
        for name, seconds in medians.items()
    ]


def add_files(root: Path) -> None:
    """Add files to the example that no layer reads."""
    chosen = random.Random(FILES)  # noqa: S311
    for number in range(FILES):
        path = (root / "app" / MARK).with_name(f"part{number // 50}") / f"file{number}.php"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<?php // {chosen.randbytes(SIZE // 2).hex()}\n")


def next_tarball(root: Path, number: int, others: Sequence[peers.Peer]) -> int:
    """Commit a round's change and store its tarball, whose link the peers get; how many files it has."""
    (root / "app" / MARK).write_text(str(number))
    commit(root, f"round {number}")
    doit(root, "tarball")
    run = command_line.read(root, {})
    digest, kept = tarball(run), run.tarballs
    key = stored.stored_key(run, digest)
    for each in others:
        link = kept.cloud.presigned_url(kept.bucket, key, release.LINK_SECONDS)
        each.tell(url=link, release=f"{number}-{digest.id}")
    told = kept.store.read(layout.beside(key, stored.MANIFEST))
    return Manifest.of(told.value).files if told else 0


def commit(root: Path, words: str) -> None:
    """Commit all that was changed in the clone."""
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    subprocess.run(["git", "add", "--all"], cwd=root, check=True)
    subprocess.run(["git", *identity, "commit", "-qm", words], cwd=root, check=True)


def tarball(run: Run) -> Digest:
    """The tarball of the clone's last commit. A process asks git once, so `stored.existing` would know the first one only."""
    asked = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=run.root, check=True, capture_output=True, text=True
    )
    found = stored.pointer(run, Commit(asked.stdout.strip()))
    if not found:
        sys.exit("bench: the last commit has no tarball")
    return found.digest


def timed(host: Host, way: peers.Peer, number: int) -> float:
    """Seconds of a way's command. It must have released the round's tarball, and a peer must have restarted PHP-FPM."""
    unit, before, _ = peers.seen(host, way, MARK)
    if way.restarts:
        way.tell(unit=unit)
    os.sync()  # what one has written is not on the time of the next one
    begun = time.monotonic()
    call(way.command, way.cwd, way.environ)
    seconds = time.monotonic() - begun
    unit, after, mark = peers.seen(host, way, MARK)
    if mark != str(number):
        sys.exit(f"bench: {way.name} ended well, and {way.path}/current is not of round {number}")
    if way.restarts and after <= before:
        sys.exit(f"bench: {way.name} ended well, and has not restarted {unit}")
    return seconds


@dataclass(frozen=True, kw_only=True)
class LargeTarball:
    """A tarball of a real shop's size, in the bucket and on the host."""

    digest: str
    files: int
    url: str
    path: str


UNPACK = """
import pathlib, subprocess, time
target = pathlib.Path(told["target"])
target.mkdir(parents=True)
begun = time.monotonic()
# as a release does: root's tar would also ask for each file's owner
tar = ["tar", "--extract", "--zstd", "--no-same-owner", "--no-same-permissions"]
subprocess.run([*tar, "--file", told["path"]], check=True, cwd=target)
print(time.monotonic() - begun)
"""
"""On the host: what must be done at least; its seconds."""
FETCH = """
import subprocess
subprocess.run(["curl", "--fail", "--silent", "--show-error", "--output", told["path"], told["url"]], check=True)
"""


def beside_tar(root: Path, folder: Path) -> None:
    """Print how long a large tarball's phase `bring` takes, beside `tar` that unpacks it on the same host."""
    run = command_line.read(root, {})
    [host] = hosts.reachable(run, infrastructure.existing(run))
    one = large_tarball(run, host, folder)
    taken: dict[str, list[float]] = {}

    def by_bring(number: int) -> None:
        seconds, steps = bring(run, host, one, f"large-{number}")
        for name, each in {"ours": seconds, **steps}.items():
            taken.setdefault(name, []).append(each)

    def by_tar(number: int) -> None:
        said = peers.on_host(host, UNPACK, path=one.path, target=f"/srv/tar/{number}")
        taken.setdefault("tar", []).append(float(said))

    ways = (by_bring, by_tar)
    for number, order in rounds(len(ways)):
        for way in order:
            os.sync()
            ways[way](number)
    medians = {name: statistics.median(each[1:]) for name, each in taken.items()}
    ours, plain = "phase `bring`, from the controller", "`tar --extract --zstd`, on the host"
    steps = [each for each in medians if each not in ("ours", "tar")]
    shown = {
        ours: medians["ours"],
        **{f"of it: {each}": medians[each] for each in steps},
        plain: medians["tar"],
    }
    table(
        f"{one.files} files, the tarball is stored (medians of {ROUNDS}) | seconds | × tar | reference",
        compared(shown, [plain], {ours: "1.2"}),
    )


def large_tarball(run: Run, host: Host, folder: Path) -> LargeTarball:
    """Pack a large tarball, and put it into the bucket and on the host."""
    large.fill(folder / "packages")
    for each in sorted((folder / "packages").iterdir()):
        with tarfile.open(each) as package:
            package.extractall(folder / "tree" / "vendor" / each.stem, filter="data")
    packed = archive.pack(tar.of_folder(folder / "tree"), folder / "large")
    key = f"bench/{packed.digest}"
    run.store.upload(key, folder / "large")
    url = run.cloud.presigned_url(run.bucket, key, release.LINK_SECONDS)
    made = LargeTarball(digest=packed.digest, files=packed.files, url=url, path="/srv/large.tarball")
    peers.on_host(host, FETCH, url=url, path=made.path)
    return made


def bring(run: Run, host: Host, one: LargeTarball, name: str) -> tuple[float, Mapping[str, float]]:
    """Seconds until a host has the large tarball as a release, and those of each step."""
    found = infrastructure.existing(run)
    told = {
        **release.variables(run, tarball(run)),
        **release.here(run, found, found),
        "release_id": name,
        "release_sha256": one.digest,
        "release_url": one.url,
        "release_signature": "",
    }
    begun = time.monotonic()
    [answer] = Hosts().phases(
        release.PROGRAM,
        ["bring"],
        stage="release",
        hosts=[host],
        plan=release.plan(told),
        console=Console(io.StringIO()),
        log=None,
    )
    return time.monotonic() - begun, dict(answer.steps)


def after_a_yes(root: Path) -> None:
    """Print how long it takes from the yes of `doit continue` until production's visitors see a change of code."""
    subprocess.run(["git", "checkout", "-q", "-B", "main"], cwd=root, check=True)
    key = call([str(DOIT), "key"], root).partition("[")[2].partition("]")[0]
    for name, old, new in (
        ("pipeline.yml", "name:", f"public_keys: [{key}]\nname:"),
        ("environments/production.yml", "manage: plan", "manage: additive"),
    ):
        path = root / name
        path.write_text(path.read_text().replace(old, new, 1))
    commit(root, "production has a key, and a machine that the pipeline makes")
    doit(root, "start")
    doit(root, "continue", "--yes")
    run, page = command_line.read(root, {"environment": "production"}), root / PAGE
    shop, taken = outside.site(run, run.host_name, outside.visitor(run)), []
    for number in range(ANSWERS):
        mark = f"<p>yes {number}</p>"
        page.write_text(page.read_text().replace("</body>", f"{mark}\n</body>"))
        commit(root, mark)
        doit(root, "start")
        command = [str(DOIT), "continue"]
        taken.append(yes.seconds_to_visitors(command, root, partial(shop.get, "/"), mark))
    what = f"`doit continue`, from the yes to visitors, nothing to migrate (median of {ANSWERS})"
    table("what | seconds | reference", [(what, f"{statistics.median(taken):.2f}", "2")])


def table(head: str, rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    lines = [head.split(" | "), ["---"] * len(head.split(" | ")), *rows]
    print("".join(f"| {' | '.join(each)} |\n" for each in lines), flush=True)  # noqa: T201


def median(root: Path, command: str) -> float:
    """Seconds of a command, the median of several."""
    return statistics.median(once(root, command) for _ in range(TIMES))


def once(root: Path, *command: str) -> float:
    """Seconds of a command."""
    begun = time.monotonic()
    doit(root, *command)
    return time.monotonic() - begun


def doit(root: Path, *arguments: str) -> None:
    """Run doit; its output shows when it fails."""
    call([str(DOIT), *arguments], root)


def call(command: Sequence[str], cwd: Path, environ: Mapping[str, str] | None = None) -> str:
    """Run a command; what it prints. Its output shows when it fails."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(environ or {})}, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout


if __name__ == "__main__":
    main()
