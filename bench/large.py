"""bench: an application of a real shop's size: 70,000 files of others, made anew and always the same.

Its build does what a shop's does: an installer unpacks packages from a store, a compiler reads all code, themes read a part of it.
"""

from __future__ import annotations

import io
import math
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

PACKAGES, FILES = 540, 130
"""Packages, and files of each: 70,200 files in 33,000 folders, 550 MB."""
TYPICAL, SPREAD, LARGEST = 1800, 1.7, 2_000_000
"""Sizes are log-normal: half of the files are smaller than `TYPICAL`, a few are large."""
KINDS = ("php", "php", "php", "xml", "js", "less", "html")
THEMES = ("shop", "admin")
PROFILE = """
options: {themes: [THEMES]}
layers:
  - name: vendor
    seconds: 20
    files: [bin, packages.lock]
    caches: [STORE]
    commands: [[python3, bin/work.py, install]]
    outputs: [.]
    promises: [vendor/package0]
  - name: generated
    seconds: 25
    after: [vendor]
    files: [bin, code]
    commands: [[python3, bin/work.py, compile]]
    outputs: [generated]
    promises: [generated]
  - name: static
    seconds: 12
    after: [vendor]
    for_each: {theme: themes}
    files: [bin, "themes/{theme}"]
    commands: [[python3, bin/work.py, theme, "{theme}"]]
    outputs: [pub/static]
    promises: ["pub/static/{theme}"]
server: {roles: {}}
""".replace("THEMES", ", ".join(THEMES))
WORK = '''"""Stands for a shop's tools: each reads and writes as many files, and works as long as a Magento 2.4's did: 16, 22, 10 and 4 s."""
import hashlib, os, pathlib, sys, tarfile

ROUNDS = {"install": 64_000_000, "compile": 113_000_000, "shop": 49_000_000, "admin": 16_000_000}
KINDS = {"compile": (".php", ".xml"), "theme": (".js", ".less", ".html")}

def read(kinds):
    seen = hashlib.sha256()
    for parent, folders, names in os.walk("vendor"):
        folders.sort()
        for name in sorted(names):
            if name.endswith(kinds):
                with open(os.path.join(parent, name), "rb") as file:
                    seen.update(file.read())
    return seen.digest()

def write(folder, count, size, seed):
    for number in range(count):
        path = pathlib.Path(folder, f"part{number % 97}", f"file{number}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(hashlib.sha256(seed + b"%d" % number).hexdigest() * (size // 64))

what = sys.argv[1]
hashlib.pbkdf2_hmac("sha256", what.encode(), b"", ROUNDS[sys.argv[-1]])
if what == "install":
    for each in sorted(pathlib.Path(os.environ["STORE"]).glob("*.tar")):
        with tarfile.open(each) as package:
            package.extractall(f"vendor/{each.stem}")
elif what == "compile":
    write("generated", 4300, 22_000, read(KINDS[what]))
else:
    seed = read(KINDS[what]) + b"".join(each.read_bytes() for each in sorted(pathlib.Path("themes", sys.argv[2]).glob("*")))
    write(f"pub/static/{sys.argv[2]}", 4000, 6_000, seed)
'''


def make(root: Path) -> None:
    """Let the project in this folder be the large application."""
    folder = root / "applications" / "large"
    folder.mkdir()
    (folder / "profile.yml").write_text(PROFILE)
    files = {"bin/work.py": WORK, "packages.lock": "0\n", "code/Shop.php": "<?php\n", "README.md": "large\n"}
    files |= {f"themes/{each}/theme.less": f"{each}\n" for each in THEMES}
    for name, text in files.items():
        path = root / "large" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    settings = root / "pipeline.yml"
    told = (
        settings.read_text()
        .replace("path: app", "path: large")
        .replace("profile: magento2", "profile: large")
        .replace("  options:", "  # options:")
    )
    settings.write_text(told)


def fill(store: Path) -> None:
    """Make the packages that the lock file names."""
    chosen = random.Random(7)  # noqa: S311
    words = [f"{chosen.randrange(1 << 28):x}" for _ in range(600)]
    text = " ".join(chosen.choices(words, k=1 << 21)).encode()
    store.mkdir(parents=True, exist_ok=True)
    for number in range(PACKAGES):
        with tarfile.open(store / f"package{number}.tar", "w", format=tarfile.GNU_FORMAT) as package:
            for name in _names(chosen):
                size = min(int(chosen.lognormvariate(math.log(TYPICAL), SPREAD)), LARGEST)
                start = chosen.randrange(len(text) - size)
                file = tarfile.TarInfo(name)
                file.size, file.mtime = size, 1_000_000_000
                package.addfile(file, io.BytesIO(text[start : start + size]))


def _names(chosen: random.Random) -> Iterator[str]:
    """Names of a package's files: a few in each folder, a few folders deep."""
    left = FILES
    while left:
        folder = "/".join(f"Folder{chosen.randrange(6)}" for _ in range(chosen.randrange(1, 5)))
        for _ in range(min(left, chosen.randrange(1, 6))):
            yield f"{folder}/File{left}.{chosen.choice(KINDS)}"
            left -= 1
