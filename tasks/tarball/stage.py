"""stage: build the application's tarball once from its layers, and store it under its digest."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tasks import application, source
from tasks.bucket import cache, layout
from tasks.bucket.store import NotADocument, RecordTaken
from tasks.digest import Digest
from tasks.full_disk import full_disk
from tasks.graph.stage import Foreseen, Outcome
from tasks.refusal import Refusal
from tasks.source import UncommittedChanges
from tasks.tarball import compatibility, sbom, signature, stored
from tasks.tarball.build import archive, join, keys, layers, tar
from tasks.tarball.build.archive import Share
from tasks.tarball.build.layers import Build, BuiltLayer
from tasks.tarball.manifest import Manifest
from tasks.tarball.stored import Pointer

if TYPE_CHECKING:
    from tasks.run import Run


class LockFileUnusable(Refusal):
    """The profile names a lock file, and without it the build would take what versions the day has."""

    sentence = "tarball: {path} {problem}, so that it would be built of other parts every day"
    remedy = "git log --diff-filter=AD --oneline -- {path}"


class CredentialsCommitted(Refusal):
    """A file that the profile lists under `forbidden` would be a part of the repository. Credentials come in variables."""

    sentence = (
        "tarball: {path} is not ignored by git: whoever reads the repository would have its credentials"
    )
    remedy = "git rm --cached --ignore-unmatch {path} && echo /{path} >> .gitignore"


def accept_source(run: Run) -> None:
    """Raises LockFileUnusable, CredentialsCommitted, VersionsDoNotFit, or UncommittedChanges if the environment refuses those; otherwise says that they are included."""
    _accept_lock_file(run)
    for name in keys.matching(application.files(run), run.profile.forbidden):
        raise CredentialsCommitted(path=_shown(run, name))
    compatibility.accept(run)
    changed, default = source.uncommitted(run.root), run.pipeline.default_branch
    if changed and run.environment.uncommitted == "refused":
        files = ", ".join(changed[:8]) + (" …" if len(changed) > 8 else "")
        raise UncommittedChanges(stage="tarball", environment=run.environment_name, files=files)
    if changed:
        run.console.once("tarball", f"takes {len(changed)} uncommitted files: {', '.join(changed[:3])}")
    elif run.branch == default and not run.on_default_branch:
        known = "not known to be one" if run.on_default_branch is None else "no commit"
        run.console.once("tarball", f"is stored apart from those of {default}: this is {known} of it")


def _accept_lock_file(run: Run) -> None:
    name = run.profile.sbom
    if not name:
        return
    path = _shown(run, name)
    if name not in application.files(run):
        raise LockFileUnusable(path=path, problem="is not in the repository")
    if not sbom.usable(application.content(run, name) or ""):
        raise LockFileUnusable(path=path, problem="does not list what it is built of")


def _shown(run: Run, name: str) -> str:
    """The path of one of the application's files, from the pipeline's folder."""
    return f"{application.place(run).path}/{name}".removeprefix("./")


def layer_parts(build: Build, name: str) -> dict[str, object]:
    """What a layer depends on, by name."""
    return {f"{name}: {part}": value for part, value in build.keys[name].inputs.items()}


def layer(build: Build, name: str) -> Outcome:
    """Build a layer, unless it or the whole tarball is stored. A stored layer is downloaded only when it is needed."""
    accept_source(build.run)
    if layers.known(build, name) or _stored(build.run, _key(build)):
        return Outcome(facts={}, done="", unchanged="", changed=False)
    if build.run.profile.sbom:
        sbom.load_ahead()
    with full_disk("tarball", ".run"):
        made = layers.begin(build, name)
    return Outcome(
        facts={},
        done=f"{name}: {made.files} files, {made.content_size / 1e6:.1f} MB",
        unchanged="",
    )


def foresee_layer(build: Build, name: str) -> Foreseen | None:
    """`unchanged` if the layer or the whole tarball is stored; None if the layer will be built."""
    if _refused(build.run) or not (layers.known(build, name) or _stored(build.run, _key(build))):
        return None
    return Foreseen(what="unchanged", facts={})


def foresee(build: Build) -> Foreseen | None:
    """The stored tarball of this tree, with what is still to be written about it; None if it will be packed."""
    run = build.run
    manifest = None if _refused(run) else _stored(run, _key(build))
    if not manifest:
        return None
    digest = manifest.digest
    missing = ", and ".join(_missing(run, digest))
    return Foreseen(
        what="point" if missing else "unchanged",
        words=(f"tarball {digest.short} of this tree is stored{'; ' if missing else ''}{missing}",),
        facts={"digest": str(digest)},
    )


def _refused(run: Run) -> bool:
    """Whether the environment refuses uncommitted files and there are some."""
    return run.environment.uncommitted == "refused" and not source.snapshot(run.root).commit


def _missing(run: Run, digest: Digest) -> list[str]:
    """What is still to be written about a stored tarball, in words."""
    commit = source.snapshot(run.root).commit
    known = stored.pointer(run, commit) if commit else None
    pointed = known and stored.key_of(run, known.digest)
    key = stored.stored_key(run, digest)
    return [
        *(["it gets a signature"] if _unsigned(run, key) else []),
        *(["the commit gets a pointer"] if commit and not pointed else []),
    ]


def parts(build: Build) -> dict[str, object]:
    """What the tarball depends on besides files, by name."""
    options = {f"application.options.{k}": list(v) for k, v in build.run.profile.options.items()}
    keys = {f"layer {name}": each.key.short for name, each in build.keys.items()}
    return {**options, **keys, "zstd version": archive.version()}


def differences(build: Build) -> list[str]:
    """Why the commit's pointer or its tarball is incomplete, in words. Empty for uncommitted files, which belong to no commit."""
    run = build.run
    commit = source.snapshot(run.root).commit
    if not commit:
        return []
    known = stored.pointer(run, commit)
    if not known:
        return [f"commit {commit.short} points to no tarball yet"]
    key = stored.key_of(run, known.digest)
    if not key:
        return [f"the tarball {known.digest.short} is gone or damaged"]
    return [f"the tarball {known.digest.short} is not signed"] if _unsigned(run, key) else []


def pack(build: Build) -> Outcome:
    """Pack the layers and the application into a tarball and store it, unless a tarball of the same inputs is stored already."""
    run = build.run
    accept_source(run)
    tree, key = application.tree(run), _key(build)
    manifest = _stored(run, key)
    changed = manifest is None
    if manifest is None:
        with full_disk("tarball", ".run"):
            manifest = _pack(build, tree)
        cache.of(run).keep("keys", key, manifest.as_dict())
    _sign(run, manifest.digest)
    _point(run, manifest.digest)
    size = f"{manifest.size / 1e6:.1f} MB, {manifest.files} files"
    return Outcome(
        facts={"digest": str(manifest.digest)},
        done=f"{manifest.digest}, {size}",
        unchanged=f"{manifest.digest}, tree {tree[:7]} is stored",
        changed=changed,
    )


def _unsigned(run: Run, key: str) -> bool:
    """Whether a key that may sign the tarball has not done so."""
    return bool(run.pipeline.public_keys) and signature.due(run, stored.signatures(run, key))


def _sign(run: Run, digest: Digest) -> None:
    """Sign the stored tarball, if there are public keys and the private key has not signed it yet."""
    if not run.pipeline.public_keys:
        return
    key = stored.stored_key(run, digest)
    if not _unsigned(run, key):
        return
    try:
        made = signature.sign(run, digest, run.store.open(key))
    except tar.Damaged as damaged:
        raise stored.damaged(run, digest, damaged) from None
    if made:
        run.store.put(stored.signature_key(key, signature.signer(made)), made.encode())


def _pack(build: Build, tree: str) -> Manifest:
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        found = pool.map(partial(layers.ensure, build), build.keys)
        made = dict(zip(build.keys, found, strict=True))
    layers.clear(build)
    run, packed, exported = build.run, build.folder / "tarball", layers.exported(build)
    say = run.console.say("tarball")
    say("packs")
    files = tar.of_folder(exported, exclude=[*run.profile.exclude, *_hidden(build)])
    profile = (run.profile.folder / "profile.yml").relative_to(run.root)
    # what is over another comes first: a layer is over those below it, and over the application's own files
    result, shares = join.join(
        [
            *([_part(build, "stamps", _stamps(build), over=made)] if run.profile.stamps else []),
            *(_layer_part(build, name, made[name]) for name in reversed(made)),
            _part(build, "application", files),
        ],
        packed,
        str(profile),
    )
    manifest = Manifest(
        tree=tree,
        digest=result.digest,
        size=result.size,
        files=result.files,
        content_size=result.content_size,
        layers=shares,
        keys={name: each.key for name, each in build.keys.items()},
        tools=keys.tools(run.profile),
        options=run.profile.options,
    )
    sent: list[int] = []  # several threads send parts

    def heard(size: int) -> None:
        sent.append(size)
        say(f"uploads {sum(sent) / 1e6:.1f} of {result.size / 1e6:.1f} MB")

    key = _store(run, manifest, packed, heard)
    _list_parts(run, result.digest, exported, key)
    layers.prune(build, (each.digest for each in made.values()))
    return manifest


def _layer_part(build: Build, name: str, made: BuiltLayer) -> join.TarballPart:
    share = Share(files=made.files, content_size=made.content_size)
    over = frozenset([*layers.upstream(build, name), "application"])
    return join.TarballPart(name=name, path=made.path, digest=made.digest, share=share, over=over)


def _part(
    build: Build, name: str, entries: Iterable[tar.TarEntry], over: Iterable[str] = ()
) -> join.TarballPart:
    """Entries that are no layer's, packed."""
    path = build.folder / name
    made = archive.pack(entries, path.with_suffix(".packed"))
    share = Share(files=made.files, content_size=made.content_size)
    over = frozenset([*over, "application"])
    return join.TarballPart(
        name=name, path=path.with_suffix(".packed"), digest=made.digest, share=share, over=over
    )


def _store(run: Run, manifest: Manifest, packed: Path, heard: Callable[[int], None]) -> str:
    """Store the tarball, and beside it its manifest with the version that the bucket gave it; the tarball's key.

    What is stored already stays, unless it is not what its manifest describes.
    """
    kept = cache.of(run)
    key = kept.key("tarballs", manifest.digest)
    damaged = not stored.as_packed(run.store, key)
    kept.upload("tarballs", manifest.digest, packed, heard, damaged=damaged)
    packed.unlink()
    found, beside = run.store.look(key), layout.beside(key, stored.MANIFEST)
    told = {**manifest.as_dict(), "etag": found.etag if found else ""}
    try:
        before = run.store.read(beside)
    except NotADocument as unreadable:
        run.store.write(beside, told, seen=unreadable.etag)
        return key
    if damaged or not before:
        with contextlib.suppress(RecordTaken):
            run.store.write(beside, told, seen=before.etag if before else None)
    return key


def _hidden(build: Build) -> list[str]:
    """The application's files that lie where a layer puts its outputs, and which the layer was not built from.

    They are outputs of another build, which somebody has committed: among new ones they would be live as well.
    """
    made = [(layers.outputs(each), set(each.files)) for each in build.keys.values()]
    found = [
        name
        for name in application.files(build.run)
        if (given := [files for paths, files in made if source.within(name, paths)])
        and not any(name in files for files in given)
    ]
    if found:
        shown = ", ".join(found[:3]) + (" …" if len(found) > 3 else "")
        build.run.console.once(
            "tarball", f"leaves out {len(found)} committed files where layers are: {shown}"
        )
    return found


def _stamps(build: Build) -> list[tar.TarEntry]:
    """The profile's stamp files: each holds a digest of the keys of some layers."""
    found = []
    for path, names in sorted(build.run.profile.stamps.items()):
        known = [each.key for each in build.keys.values() if each.layer.declared in names]
        text = Digest.of_bytes("".join(known).encode()).short.encode()
        found.append(tar.TarEntry(name=path, kind=tar.FILE, size=len(text), content=iter([text])))
    return found


def _list_parts(run: Run, digest: Digest, folder: Path, key: str) -> None:
    """Store the software bill of materials beside the tarball, if the profile names a lock file."""
    lock = folder / run.profile.sbom
    if run.profile.sbom and lock.exists():
        made = sbom.of_composer(lock.read_bytes(), application=run.pipeline.name, tarball=digest)
        run.store.put(layout.beside(key, "sbom.json"), made.encode())


def _key(build: Build) -> Digest:
    """The digest of everything that determines the tarball's bytes."""
    run = build.run
    recipe: Mapping[str, object] = {
        "tree": application.tree(run),
        "parts": {name: each.key for name, each in build.keys.items()},
        "zstd": archive.version(),
        "exclude": run.profile.exclude,
        "stamps": {path: list(names) for path, names in run.profile.stamps.items()},
        "code": source.snapshot(run.root).ids(keys.CODE),
    }
    return Digest.of_value(recipe)


def _stored(run: Run, key: Digest) -> Manifest | None:
    """The manifest of the tarball with these inputs, if both are stored."""
    for found in cache.of(run).records("keys", key):
        manifest = Manifest.of(found.value)
        if stored.key_of(run, manifest.digest, manifest.size):
            return manifest
    return None


def _point(run: Run, digest: Digest) -> None:
    """Write the commit's pointer, once: the tarball that was staged is the one that goes live."""
    if run.commit.dirty:
        return
    kept, commit = cache.of(run), run.commit.commit
    before = kept.record("commits", commit)
    if before and stored.key_of(run, Pointer.of(before.value).digest):
        return
    new = Pointer(
        digest=digest, branch=run.branch, by=run.who, role=run.cloud.caller().role, at=run.clock.stamp()
    )
    kept.keep("commits", commit, new.as_dict(), instead=before)
