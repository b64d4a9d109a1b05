"""bench: a tarball of 50,000 files from its stored layers, beside tar and zstd on the same tree, in one run.

Prints Markdown. Runs in a copy of the checkout and in a cloud of its own, which it deletes at the end.
"""

from __future__ import annotations

import contextlib
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.release import doit, project
from tasks.bucket.store import Store
from tasks.commands import command_line
from tasks.infrastructure import stage as infrastructure
from tasks.tarball.build import archive, join, tar

TIMES = 5
FILES, BYTES = 50_000, 12_000
LAYERS = {"vendor": 0.7, "generated": 0.1, "pub/static": 0.2}
"""The folder of a layer, and its share of the files."""


def main() -> None:
    """Measure and print."""
    with project() as root, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        doit(root, "cloud", "start")
        infrastructure.share(command_line.read(root, {}))
        small, large = (store(root, Path(folder) / str(files), files) for files in (FILES // 10, FILES))
        ours, plain, peaks = [], [], []
        for _ in range(TIMES):
            plain.append(tar_and_zstd(large))
            seconds, peak = apart(root, large)
            ours.append(seconds)
            peaks.append(peak)
        _, small_peak = apart(root, small)
        table(statistics.median(ours), statistics.median(plain), max(peaks), small_peak)


def table(ours: float, plain: float, peak: int, small_peak: int) -> None:
    """Print the figures."""
    rows = [
        (f"`tar` and `zstd -3 -T0` (median of {TIMES})", f"{plain:.2f}", "1.0", "-"),
        (
            f"layers from the bucket, pack, upload (median of {TIMES})",
            f"{ours:.2f}",
            f"{ours / plain:.2f}",
            "1.5",
        ),
        (
            f"peak memory, MB; a tenth of the tree: {small_peak}",
            str(peak),
            f"{peak / small_peak:.2f}",
            "the same",
        ),
    ]
    print(f"| {FILES} files, {FILES * BYTES // 10**6} MB | | ratio | reference |\n| --- | --- | --- | --- |")  # noqa: T201
    for row in rows:
        print(f"| {' | '.join(row)} |")  # noqa: T201


def store(root: Path, tree: Path, files: int) -> Path:
    """Make a tree of text that compresses as code does, and store its layers in the bucket."""
    chosen = random.Random(files)  # noqa: S311
    words = [f"{chosen.randrange(1 << 28):x}" for _ in range(600)]
    for layer, share in LAYERS.items():
        for number in range(int(files * share)):
            path = (
                tree / layer / f"module{number // 500}" / f"folder{number // 20 % 25}" / f"{number % 20}.php"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(" ".join(chosen.choices(words, k=BYTES // 7))[:BYTES].ljust(BYTES))
        packed = archive.pack(tar.of_folder(tree, only=[layer]), tree.with_suffix(".zst"))
        command_line.read(root, {}).store.upload(_key(tree, layer), tree.with_suffix(".zst"))
        print(f"{tree.name}: {layer}, {packed.size / 1e6:.0f} MB", file=sys.stderr)  # noqa: T201
    return tree


def tar_and_zstd(tree: Path) -> float:
    """Seconds of `tar` and `zstd` themselves."""
    begun = time.monotonic()
    with (
        tree.with_suffix(".tar.zst").open("wb") as target,
        subprocess.Popen(["tar", "-C", tree, "-cf", "-", "."], stdout=subprocess.PIPE) as tar,
    ):
        subprocess.run(["zstd", "-q", "-3", "-T0"], stdin=tar.stdout, stdout=target, check=True)
    return time.monotonic() - begun


def apart(root: Path, tree: Path) -> tuple[float, int]:
    """Seconds and peak memory in MB of `whole`, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, root, tree], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    seconds, peak = done.stdout.split()
    return float(seconds), int(peak)


def whole(root: Path, tree: Path) -> None:
    """Layers from the bucket become one tarball in the bucket."""
    bucket = command_line.read(root, {}).store
    bucket.exists("connect")
    begun = time.monotonic()
    target = tree.with_suffix(".packed")
    parts = [_fetched(bucket, tree, layer) for layer in LAYERS]
    packed, _ = join.join(parts, target, "")
    bucket.upload(f"bench/{packed.digest}", target)
    seconds = time.monotonic() - begun
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)  # noqa: T201


def _fetched(bucket: Store, tree: Path, layer: str) -> join.TarballPart:
    path = tree / f"{layer.replace('/', '-')}.zst"
    with contextlib.closing(bucket.open(_key(tree, layer))) as content, path.open("wb") as target:
        read = tar.HashingReader(content)
        while chunk := read.read(tar.CHUNK):
            target.write(chunk)
    return join.TarballPart(name=layer, path=path, digest=read.digest, share=archive.Share())


def _key(tree: Path, layer: str) -> str:
    return f"bench/{tree.name}/{layer}"


if __name__ == "__main__":
    whole(Path(sys.argv[1]), Path(sys.argv[2])) if sys.argv[1:] else main()
