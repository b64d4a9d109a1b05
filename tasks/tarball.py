"""tarball: the application built once, in a clean export of its tree, and kept under its content's name."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import archive, member, process, sbom, signature, source
from tasks.graph import Outcome, now
from tasks.refusal import (
    ArchiveDamaged,
    BuildFailed,
    BuildIncomplete,
    CommandFailed,
    DiskFull,
    NoTarball,
    RecordTaken,
    full_disk,
)
from tasks.store import Store

if TYPE_CHECKING:
    from tasks.profile import Step
    from tasks.run import Run

NEAR_FULL = 1 << 20
"""A build that fails with less than this many bytes left has failed for want of space."""


def parts(run: Run) -> dict[str, object]:
    """What the tarball depends on beside files, by name: options and tool versions."""
    options = {f"application.options.{k}": list(v) for k, v in run.profile.options.items()}
    return {**options, **{f"{name} version": v for name, v in versions().items()}}


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the tools that make the bytes; within a run they are what they are."""
    import zstandard

    commands = {
        "php": ["php", "-r", "echo PHP_VERSION;"],
        "composer": ["dpkg-query", "-W", "-f=${Version}", "composer"],
    }
    with ThreadPoolExecutor() as pool:
        printed = list(pool.map(process.run, commands.values()))
    return {
        "zstd": ".".join(map(str, zstandard.ZSTD_VERSION)),
        **{tool: text.strip() for tool, text in zip(commands, printed, strict=True)},
    }


def differences(run: Run) -> list[str]:
    """Whether the commit points to a tarball that is there. Uncommitted files belong to no commit."""
    commit = source.snapshot(run.root).commit
    if not commit:
        return []
    pointer = run.store.read(pointer_key(commit))
    if not pointer:
        return [f"commit {commit[:7]} points to no tarball yet"]
    digest = pointer.value["digest"]
    if not run.store.exists(tarball_key(digest)):
        return [f"the tarball {digest[:12]} is gone"]
    unsigned = run.pipeline.public_keys and not run.store.exists(beside(digest, "minisig"))
    return [f"the tarball {digest[:12]} is not signed"] if unsigned and signature.possible(run) else []


def build(run: Run) -> Outcome:
    """Build, pack and store, unless a tarball of the same inputs is stored already."""
    run.accept_source("tarball")
    store, tree = run.store, _application_tree(run)
    key = f"tarballs/keys/{_key(run, tree)}.json"
    manifest = _stored(store, key)
    changed = manifest is None
    if manifest is None:
        with full_disk("tarball", ".run"), _scratch(run) as folder:
            manifest = _build(run, tree, Path(folder))
        with contextlib.suppress(RecordTaken):  # the same bytes, by another run: equal content is kept once
            store.write(key, manifest, seen=None)
    _sign(run, manifest["digest"])
    _point(run, store, manifest["digest"])
    size = f"{manifest['size'] / 1e6:.1f} MB, {manifest['files']} files"
    return Outcome(
        facts={"digest": manifest["digest"]},
        done=f"{manifest['digest']}, {size}",
        unchanged=f"{manifest['digest']}, tree {tree[:7]} is stored",
        changed=changed,
    )


def pointer(run: Run, commit: str) -> dict[str, Any] | None:
    """What a commit points to: the tarball's digest, who built it, when."""
    document = run.store.read(pointer_key(commit))
    return document.value if document else None


def existing(run: Run) -> dict[str, str]:
    """The tarball that the checked-out commit points to, for environments that build none. Raises NoTarball."""
    commit = source.commit(run.root)
    found = pointer(run, commit)
    if not found:
        raise NoTarball(commit=commit[:7], bucket=run.bucket)
    return {"digest": found["digest"]}


def tarball_key(digest: str) -> str:
    """Where a tarball lies in the bucket."""
    return f"tarballs/{digest}.tar.zst"


def beside(digest: str, kind: str) -> str:
    """Where what is told of a tarball lies: `manifest.json`, `sbom.json`, `minisig`."""
    return f"tarballs/{digest}.{kind}"


def named(run: Run, beginning: str) -> Iterator[str]:
    """Digests of the stored tarballs that begin so."""
    for key in run.store.keys(f"tarballs/{beginning}"):
        if key.endswith(".tar.zst"):
            yield key.removeprefix("tarballs/").removesuffix(".tar.zst")


def signature_of(run: Run, digest: str) -> str:
    """The tarball's signature, empty where there is none."""
    kept = run.store.open(beside(digest, "minisig")) if run.pipeline.public_keys else None
    return kept.read().decode() if kept else ""


def pointer_key(commit: str) -> str:
    """Where a commit's pointer lies in the bucket."""
    return f"commits/{commit}.json"


def _sign(run: Run, digest: str) -> None:
    """Vouch for what lies in the bucket, where that is asked for and was not done before."""
    if not run.pipeline.public_keys or run.store.exists(beside(digest, "minisig")):
        return
    try:
        made = signature.sign(run, digest, run.store.open(tarball_key(digest)))
    except member.Damaged as damaged:
        raise ArchiveDamaged(digest=digest[:12], problem=damaged) from None
    if made:
        run.store.put(beside(digest, "minisig"), made.encode())


def _build(run: Run, tree: str, folder: Path) -> dict[str, Any]:
    exported, packed = folder / "application", folder / "tarball"
    exported.mkdir()
    say = run.say("tarball")
    say(f"exports tree {tree[:7]}")
    source.snapshot(run.root).export(run.pipeline.application.path, exported)
    for step in run.profile.build:
        _run_step(run, step, exported, tree)
    say("packs")
    files = member.of_folder(exported, exclude=run.profile.exclude)
    result = archive.pack({"application": files}, packed, date=archive.date_of(tree))
    manifest = {
        "tree": tree,
        "digest": result.digest,
        "size": result.size,
        "files": result.files,
        "content_size": result.content_size,
        "layers": {name: dataclasses.asdict(share) for name, share in result.layers.items()},
        "tools": versions(),
        "options": {name: list(values) for name, values in run.profile.options.items()},
    }
    store = run.store
    if store.size(tarball_key(result.digest)) != result.size:
        sent: list[int] = []  # parts are sent by several threads

        def heard(size: int) -> None:
            sent.append(size)
            say(f"uploads {sum(sent) / 1e6:.1f} of {result.size / 1e6:.1f} MB")

        store.upload(tarball_key(result.digest), packed, heard)
    with contextlib.suppress(RecordTaken):
        store.write(beside(result.digest, "manifest.json"), manifest, seen=None)
    _list_parts(run, tree, exported, result.digest)
    return manifest


def _list_parts(run: Run, tree: str, folder: Path, digest: str) -> None:
    """Keep the software bill of materials beside the tarball, where the profile names a lock file."""
    lock = folder / run.profile.sbom
    if run.profile.sbom and lock.exists():
        made = sbom.of_composer(
            lock.read_bytes(),
            application=run.pipeline.name,
            version=tree[:12],
            date=archive.date_of(tree),
        )
        run.store.put(beside(digest, "sbom.json"), made.encode())


def _run_step(run: Run, step: Step, folder: Path, tree: str) -> None:
    log_path = run.log("tarball")
    with log_path.open("ab") as log:
        for command in step.lines(run.profile.options, version=tree[:12]):
            run.say("tarball")(f"{step.name}: {' '.join(command)}".replace("\n", " "))
            log.write(f"\n$ {' '.join(command)}\n".encode())
            try:
                process.run(
                    command, cwd=folder, env={**_environment(run, folder), **step.environment}, log=log
                )
            except CommandFailed as failed:
                if shutil.disk_usage(folder).free < NEAR_FULL:
                    raise DiskFull(stage="tarball", path=".run") from None
                raise BuildFailed(
                    step=step.name,
                    log=log_path.relative_to(run.root),
                    **{name: failed.facts[name] for name in ("command", "code", "tail")},
                ) from None
    for output in step.outputs:
        if not (folder / output).exists():
            raise BuildIncomplete(step=step.name, output=output)


def _environment(run: Run, folder: Path) -> dict[str, str]:
    """What a build command sees: nothing of the caller but what the profile names."""
    kept = ("PATH", *run.profile.environment)
    passed = {name: os.environ[name] for name in kept if name in os.environ}
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    return {**passed, "HOME": str(home), "LANG": "C.UTF-8", "TZ": "UTC"}


def _application_tree(run: Run) -> str:
    path = run.pipeline.application.path
    return str(source.snapshot(run.root).ids([path])[path])


def _key(run: Run, tree: str) -> str:
    """The digest of everything that the tarball's bytes come from."""
    recipe: Mapping[str, object] = {
        "tree": tree,
        "parts": parts(run),
        "build": [dataclasses.asdict(step) for step in run.profile.build],
        "exclude": run.profile.exclude,
        "code": source.snapshot(run.root).ids(["tasks/archive.py", "tasks/member.py", "tasks/tarball.py"]),
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def _stored(store: Store, key: str) -> dict[str, Any] | None:
    """The manifest of the tarball made of these inputs, if both are there."""
    document = store.read(key)
    if document and store.size(tarball_key(document.value["digest"])) == document.value["size"]:
        return document.value
    return None


def _point(run: Run, store: Store, digest: str) -> None:
    """Let the commit point to the tarball of its tree, once: what was staged stays what goes live."""
    commit = source.snapshot(run.root).commit
    if not commit:
        return
    before = store.read(pointer_key(commit))
    if before and store.exists(tarball_key(before.value["digest"])):
        return
    pointer = {"digest": digest, "branch": run.branch, "by": run.who, "at": now()}
    store.write(pointer_key(commit), pointer, seen=before.etag if before else None)


def _scratch(run: Run) -> tempfile.TemporaryDirectory[str]:
    folder = run.root / ".run" / "build"
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="build-", dir=folder)
