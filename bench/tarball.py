"""bench: how long a tarball takes as a graph of layers, beside the same build one command after the other.

Prints Markdown: the example, then an application of a real shop's size (`large.py`); with the argument `large` that one alone.
Runs in a copy of the checkout and in a cloud of its own, which it deletes at the end.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import large
from bench.release import DOIT, doit, project
from tasks import profile
from tasks.bucket import cache
from tasks.commands import command_line
from tasks.process import children

TIMES, TIMES_LARGE = 5, 3
THEME = "app/app/design/frontend/Shop/spring/web/css/source/_variables.less"
PHP = "app/app/code/Shop/Catalog/Products.php"


def main() -> None:
    """Measure and print."""
    if sys.argv[1:] != ["large"]:
        example()
    real_size()


def example() -> None:
    """The table of the example."""
    with project() as root:
        doit(root, "tarball")  # the cloud and its bucket are made
        naive = [sequential(root) for _ in range(TIMES)]
        together = statistics.median(sum(each.values()) for each in naive)
        rows = [("one command after the other, then tar and zstd", naive_line(naive), together, "")]
        cold, cpu, inside = [], [], []
        for number in range(TIMES):
            change(
                root,
                "app/composer.json",
                partial(_renamed, number=number),
            )
            everything(root, number)
            before = cpu_of_children()
            cold.append(timed(root))
            cpu.append(cpu_of_children() - before)
            inside.append(took(root))
        idle = [timed(root)[0] for _ in range(TIMES * 2)]
        path, half = critical(inside), statistics.median(cpu) / 2
        bound = max(path, half) * 1.15
        nothing = statistics.median(idle)
        rows.append(("cold, the whole command", built(cold), median(cold), ""))
        rows.append(
            (
                "cold, the graph: less the command with nothing changed",
                "",
                median(cold) - nothing,
                f"{bound:.1f}",
            )
        )
        rows.append(("nothing changed", "", nothing, "0.8"))
        for what, name, comment in (
            ("a PHP file changed", PHP, "// {}\n"),
            ("a theme's stylesheet changed", THEME, "// {}\n"),
            ("a README changed", "README.md", "{}\n"),
        ):
            seen = []
            for number in range(TIMES):
                change(root, name, partial(_with, line=comment.format(number)))
                seen.append(timed(root))
            rows.append((what, built(seen), median(seen), ""))
    head = "| a tarball of the example | built | seconds | reference | × sequential |"
    print(f"{head}\n| --- | --- | --- | --- | --- |")  # noqa: T201
    for what, which, seconds, reference in rows:
        print(f"| {what} | {which} | {seconds:.2f} | {reference} | {seconds / together:.2f} |")  # noqa: T201
    print(  # noqa: T201
        f"\nCritical path {path:.1f} s, {critical(naive):.1f} s with each command alone; "
        f"half of the CPU seconds {half:.1f} s (medians of {TIMES})."
    )


def real_size() -> None:
    """The table of the large application: each row beside the same commands one after the other, in the same run."""
    with project() as root:
        large.make(root)
        subprocess.run(["git", "add", "-A"], cwd=root, check=True)
        change(root, "large/README.md", partial(_with, line="made\n"))
        doit(root, "infrastructure:shared")
        store = root / ".run" / "caches" / cache.of(command_line.read(root, {})).writes / "store"
        large.fill(store)
        naive, seen = [], dict[str, list[tuple[float, list[str]]]]()
        for number in range(TIMES_LARGE):
            naive.append(sequential(root, "large", {"STORE": str(store)}))
            for name in (
                "packages.lock",
                "code/Shop.php",
                *(f"themes/{each}/theme.less" for each in large.THEMES),
            ):
                change(root, f"large/{name}", partial(_with, line=f"// {number}\n"))
            seen.setdefault("cold", []).append(timed(root))
            seen.setdefault("nothing changed", []).append(timed(root))
            for what, name in (
                ("a theme's stylesheet changed", "themes/shop/theme.less"),
                ("a PHP file changed", "code/Shop.php"),
                ("a README changed", "README.md"),
            ):
                change(root, f"large/{name}", partial(_with, line=f"/* {number} */\n"))
                seen.setdefault(what, []).append(timed(root))
    parts = {name: statistics.median(each[name] for each in naive) for name in naive[0]}
    together = sum(parts.values())
    references = {
        "cold": (f"{0.85 * together:.1f}", "0.85 × one after the other"),
        "nothing changed": ("0.8", ""),
        "a theme's stylesheet changed": (f"{parts['static-shop'] + 8:.1f}", "the theme's command and 8 s"),
        "a PHP file changed": (f"{parts['generated'] + 10:.1f}", "the compiler and 10 s"),
        "a README changed": ("3", ""),
    }
    head = f"| {large.PACKAGES * large.FILES} files of others | built | seconds | reference |"
    print(f"\n{head}\n| --- | --- | --- | --- |")  # noqa: T201
    print(f"| one command after the other, then `tar --zstd` | {naive_line(naive)} | {together:.1f} | - |")  # noqa: T201
    for what, runs in seen.items():
        print(f"| {what} | {built(runs)} | {median(runs):.2f} | {' '.join(references[what]).strip()} |")  # noqa: T201


def sequential(root: Path, path: str = "app", caches: Mapping[str, str] | None = None) -> dict[str, float]:
    """Seconds of each of the profile's commands in one folder, and of tar and zstd at the end."""
    here = command_line.read(root, {})
    environ = {name: os.environ[name] for name in ("PATH",)} | {"LANG": "C.UTF-8", "TZ": "UTC"}
    seconds: dict[str, float] = {}
    # stays until the end: where thousands of files were just deleted, ext4 takes several times as long to make new ones
    folder = tempfile.mkdtemp(prefix="sequential-", dir=root.parent)
    tree = Path(folder) / "tree"
    subprocess.run(["cp", "-a", root / path, tree], check=True)
    for layer in here.profile.layers:
        values = {**layer.chosen, "key": "bench"}
        begun = time.monotonic()
        for command in layer.commands:
            words = [profile.filled(word, values) for word in command]
            children.run(
                words,
                cwd=tree,
                env={**environ, **(caches or {}), **layer.environment, "HOME": folder},
                seconds=None,
            )
        seconds[layer.name] = time.monotonic() - begun
    begun = time.monotonic()
    subprocess.run(["tar", "-C", tree, "-I", "zstd -3 -T0", "-cf", Path(folder) / "tarball", "."], check=True)
    seconds["pack"] = time.monotonic() - begun
    return seconds


def took(root: Path) -> dict[str, float]:
    """Seconds of each part of the last run, as it has recorded them."""
    last = max((root / ".run" / "logs").glob("*/*/run.json"), key=lambda path: path.parent.name)
    stages = json.loads(last.read_text())["stages"]
    return {name.partition(":")[2]: each["seconds"] for name, each in stages.items()}


def critical(runs: list[dict[str, float]]) -> float:
    """Seconds of the longest way through the graph, by the seconds that its parts take."""
    parts = {name: statistics.median(each[name] for each in runs) for name in runs[0]}
    last = parts.get("hashes", 0)  # of all static layers
    ways = [
        s + last * name.startswith("static") for name, s in parts.items() if name not in ("vendor", "pack")
    ]
    return parts["vendor"] + max(ways) + parts["pack"]


def everything(root: Path, number: int) -> None:
    """Change an input of every layer."""
    for name in (PHP, THEME, "app/app/design/frontend/Shop/base/web/css/source/_variables.less"):
        change(root, name, lambda text: f"{text}// cold {number}\n")


def _renamed(text: str, *, number: int) -> str:
    return text.replace("The example", f"{number} The example")


def _with(text: str, *, line: str) -> str:
    return text + line


def change(root: Path, name: str, how: Callable[[str], str]) -> None:
    """Change a file and commit it."""
    path = root / name
    path.write_text(how(path.read_text()))
    identity = ["-c", "user.name=b", "-c", "user.email=b@example.com"]
    subprocess.run(["git", *identity, "commit", "-qam", "bench"], cwd=root, check=True)


def timed(root: Path) -> tuple[float, list[str]]:
    """Seconds of `doit tarball`, and the layers that it built."""
    begun = time.monotonic()
    done = subprocess.run([DOIT, "tarball"], cwd=root, capture_output=True, text=True)
    seconds = time.monotonic() - begun
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("tarball")]
    return seconds, [words[2].rstrip(":,") for words in lines if words[1] == "done"]


def built(seen: list[tuple[float, list[str]]]) -> str:
    """The layers that the last of these built."""
    names = [name for name in seen[-1][1] if len(name) != 64]
    return ", ".join(sorted(names)) or "none"


def median(seen: list[tuple[float, list[str]]]) -> float:
    """Seconds."""
    return statistics.median(seconds for seconds, _ in seen)


def naive_line(naive: list[dict[str, float]]) -> str:
    """Seconds of each part."""
    return ", ".join(f"{name} {statistics.median(each[name] for each in naive):.1f}" for name in naive[0])


def cpu_of_children() -> float:
    """CPU seconds of all that this process has started and that has ended."""
    spent = os.times()
    return spent.children_user + spent.children_system


if __name__ == "__main__":
    main()
