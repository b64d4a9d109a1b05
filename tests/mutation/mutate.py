"""mutate: plant every small fault that mutmut knows in a module, and see whether its tests notice.

`build/ci/run mutate FOLDER` calls it. What a run has tried is kept in `.run/mutate/`, so that the next one goes on from there.
`modules.yml` lists the folders, their modules and the tests of each; `survivors.yml` says why a fault may go unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
HERE = Path("tests") / "mutation"
DRIVER = ROOT / HERE / "mutmut_driver.py"
PAGE = Path("docs") / "mutation.md"
MOST = 5.0
"""Percent of a module's faults that may go unnoticed."""
ROW = re.compile(r"^\| `(tasks/\S+)` \|.*$", re.MULTILINE)

SETTINGS = """
[tool.mutmut]
source_paths = ["tasks"]
only_mutate = ["{module}"]
also_copy = {also}
pytest_add_cli_args = ["-p", "no:cacheprovider"]
pytest_add_cli_args_test_selection = {tests}
process_isolation = "forkserver"
on_dependency_change = "ignore"
track_dependencies = false
timeout_multiplier = 4.0
timeout_constant = 15.0
"""


class Failed(Exception):
    """mutmut itself came to no end: one sentence, and where to look."""


@dataclass(frozen=True, kw_only=True)
class Survivor:
    """A fault that no test notices: the lines of a function, and what stands there instead."""

    function: str
    line: str
    becomes: str


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What became of a module's faults."""

    module: str
    planted: int
    survivors: tuple[Survivor, ...]

    @property
    def percent(self) -> float:
        """How many of a hundred went unnoticed."""
        return 100 * len(self.survivors) / max(self.planted, 1)


def main(arguments: Sequence[str]) -> int:
    """Plant faults in the modules that are named, or in those of the folders that are; without a name, in all of them."""
    known = modules(ROOT)
    wanted = [name.removeprefix("tasks/").rstrip("/") for name in arguments] or list(known)
    chosen: dict[str, list[str]] = {}
    for name in wanted:
        found = known.get(name) or {
            module: tests
            for folder in known.values()
            for module, tests in folder.items()
            if module == f"tasks/{name}"
        }
        if not found:
            sys.stderr.write(
                f"mutate: no folder {name} (known: {', '.join(known)})\n    build/ci/run mutate {next(iter(known))}\n"
            )
            return 3
        chosen |= found
    good = True
    for module, tests in chosen.items():
        print(f"mutate {module}", flush=True)
        try:
            outcome = planted(ROOT, module, tests)
        except Failed as failed:
            sys.stderr.write(f"{failed}\n")
            return 1
        found_out = figures(module, outcome)
        (ROOT / PAGE).write_text(page((ROOT / PAGE).read_text(), found_out))
        good &= judge(found_out, reasons(ROOT, module))
    return 0 if good else 1


def modules(root: Path) -> dict[str, dict[str, list[str]]]:
    """Each folder's modules, and the tests that concern them."""
    found: dict[str, dict[str, list[str]]] = yaml.safe_load((root / HERE / "modules.yml").read_text())
    return found


def reasons(root: Path, module: str) -> dict[Survivor, str]:
    """Why a fault may go unnoticed, as it is written down."""
    written = yaml.safe_load((root / HERE / "survivors.yml").read_text()) or {}
    kinds = written.get("kinds", {})
    return {
        Survivor(function=each["function"], line=each["line"], becomes=each["becomes"]): kinds.get(
            each["why"], each["why"]
        )
        for each in written.get("modules", {}).get(module, [])
    }


def planted(root: Path, module: str, tests: Sequence[str], driver: Path = DRIVER) -> list[dict[str, str]]:
    """Run mutmut over a module, in its own folder below `.run/mutate/`; what became of each fault."""
    folder = root / ".run" / "mutate" / module.removeprefix("tasks/").removesuffix(".py").replace("/", ".")
    (folder / "mutants").mkdir(
        parents=True, exist_ok=True
    )  # what is not there when Python starts, it never looks at again
    also = place(root, folder)
    settings = SETTINGS.format(module=module, also=json.dumps(also), tests=json.dumps(list(tests)))
    (folder / "pyproject.toml").write_text((root / "pyproject.toml").read_text() + settings)
    digest = digest_of(root, tests)
    mark = folder / "tests-digest"
    changed = "same" if mark.exists() and mark.read_text() == digest else "changed"
    command = [sys.executable, "-P", str(driver), module, changed]
    mark.unlink(missing_ok=True)
    environ = {**os.environ, "PYTHONPATH": str(folder / "mutants")}
    with (folder / "log").open("w") as log:
        code = subprocess.run(
            command, cwd=folder, env=environ, stdout=log, stderr=log, check=False
        ).returncode
    if code:
        raise Failed(
            f"mutate: {module}: mutmut ended with exit code {code}\n    less -R {(folder / 'log').relative_to(root)}"
        )
    mark.write_text(digest)
    found: list[dict[str, str]] = json.loads((folder / "outcome.json").read_text())
    return found


def place(root: Path, folder: Path) -> list[str]:
    """Show the project's files in the folder, for mutmut to copy; their names, without the code and the settings."""
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout
    names = sorted({line.partition("/")[0] for line in listed.splitlines()})
    for name in names:
        if name != "pyproject.toml" and not (folder / name).is_symlink():
            (folder / name).symlink_to(root / name)
    return [name for name in names if name not in ("pyproject.toml", "tasks", "tests")]


def digest_of(root: Path, tests: Sequence[str]) -> str:
    """A digest of the tests and of what all tests share."""
    files = sorted({*(root / name.partition("::")[0] for name in tests), *(root / "tests").glob("*.py")})
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def figures(module: str, outcome: Sequence[Mapping[str, Any]]) -> Figures:
    """Count what became of the faults; one that makes a test wait for ever is noticed."""
    unnoticed = [each for each in outcome if each["status"] not in ("killed", "timeout", "segfault")]
    survivors = [
        Survivor(function=each["function"], line=each["line"], becomes=each["becomes"]) for each in unnoticed
    ]
    return Figures(module=module, planted=len(outcome), survivors=tuple(survivors))


def page(text: str, found: Figures) -> str:
    """The page, with the module's row as it is now."""
    left = len(found.survivors)
    row = f"| `{found.module}` | {found.planted} | {found.planted - left} | {left} | {found.percent:.1f} % |"
    rows = {match[1]: match[0] for match in ROW.finditer(text)} | {found.module: row}
    first = ROW.search(text)
    return (
        text[: first.start() if first else None] + "\n".join(rows[module] for module in sorted(rows)) + "\n"
    )


def judge(found: Figures, known: Mapping[Survivor, str]) -> bool:
    """Print a module's figures, and what is left to do: a survivor without a reason, a reason without a survivor."""
    left = len(found.survivors)
    print(f"{found.module}: {found.planted} faults, {left} unnoticed, {found.percent:.1f} %")
    new = [each for each in dict.fromkeys(found.survivors) if each not in known]
    for each in new:
        print(f"  no test notices, and {HERE}/survivors.yml has no reason:")
        print(
            f"    - function: {each.function}\n      line: {json.dumps(each.line)}\n      becomes: {json.dumps(each.becomes)}"
        )
    stale = [each for each in known if each not in found.survivors]
    for each in stale:
        print(f"  {HERE}/survivors.yml has a reason for what a test notices: {each.function}: {each.becomes}")
    if found.percent > MOST:
        print(f"  more than {MOST:g} % go unnoticed")
    return not new and not stale and found.percent <= MOST


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
