"""template: this repository as a copier template: `new` brings the pipeline into another one, `update` brings later versions.

`build/ci/run` calls it without doit: it needs what requirements-new.lock lists and nothing of the pipeline's own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from tasks import source
from tasks.nearest import meant, nearest, retyped
from tasks.refusal import UNKNOWN, Refusal

ROOT = Path(__file__).resolve().parents[1]
ANSWERS = ".copier-answers.yml"
QUESTIONS = "copier.yml"
IGNORED = ".gitignore"
PACKAGES = "build/ci/packages"
CI = (".github/workflows/pipeline.yml", ".gitlab-ci.yml", "bitbucket-pipelines.yml")
"""What CI providers read at the top of a repository only."""
NAMED = {**dict.fromkeys(CI, ("default_branch",)), "build/ci/iam/": ("dns_zone", "name")}
"""Files that say settings of pipeline.yml once more, and which."""
SHARED = ("build", "docs", ".github")
"""Folders in which both may have files; of any other folder, everything is the pipeline's."""
SAYS_NOTHING = re.compile(r"(readme|license|copying|changelog)(\.\w+)?|\.git.*|\.editorconfig", re.IGNORECASE)
"""What a repository may have before it has an application."""
SHOWN = 8
"""Paths that a sentence names."""


class NewMisspelt(Refusal):
    """An option or a value that `new` or `update` does not take."""

    sentence = "{verb}: {problem}"
    remedy = "build/ci/run {typed}"
    exit_code = UNKNOWN


class ProfileUnknown(Refusal):
    """A profile that is no folder of applications/."""

    sentence = "new: profile {profile}: no such folder in applications/ ({meant}known: {known})"
    remedy = "build/ci/run {typed}"
    exit_code = UNKNOWN


class AnswerRefused(Refusal):
    """An answer that copier.yml does not allow."""

    sentence = "new: {problem}"
    remedy = "build/ci/run new --help"
    exit_code = UNKNOWN


class NoTemplate(Refusal):
    """`new` is called in a repository that only uses the pipeline."""

    sentence = "new: this repository has no {file}: it uses the pipeline, and the template is {source}"
    remedy = "git clone {source} pipeline && pipeline/build/ci/run new FOLDER --profile NAME"


class TemplateUncommitted(Refusal):
    """The pipeline's own repository has uncommitted changes: a version is a commit."""

    sentence = "new: the pipeline's own repository has uncommitted changes: {files}"
    remedy = "git -C {folder} commit -a"


class PipelineThere(Refusal):
    """The folder has the pipeline already, or came from another copier template."""

    sentence = "new: {folder} has a {file} already: it came from a template before"
    remedy = "{folder}/build/ci/run update"


class FolderInTemplate(Refusal):
    """The folder is in the pipeline's own repository."""

    sentence = "new: {folder} is in the pipeline's own repository; an application has one of its own"
    remedy = "build/ci/run {typed}"


class FolderUntracked(Refusal):
    """The folder has files and git does not know them: what `new` adds could not be told from them."""

    sentence = "new: {folder} has files and is in no git repository"
    remedy = "cd {folder} && git init && git add -A && git commit -m 'first'"


class FolderUncommitted(Refusal):
    """The repository has uncommitted changes: what `new` or `update` adds could not be told from them."""

    sentence = "{verb}: {folder} has uncommitted changes: {files}"
    remedy = "cd {folder} && git add -A && git commit"


class FilesCollide(Refusal):
    """The repository has files or folders of its own where the pipeline's would be; nothing is overwritten."""

    sentence = "new: {folder} has files of its own where the pipeline's would be, nothing is written: {files}"
    remedy = "build/ci/run {typed}"


class FilesIgnored(Refusal):
    """A .gitignore hides files of the pipeline, so that they would never be committed."""

    sentence = "new: {where} ignores files of the pipeline, git would not keep them: {files}"
    remedy = "$EDITOR {file}"


class NoStarter(Refusal):
    """There is no application, and the profile has no page to begin with."""

    sentence = (
        "new: {folder} has no application, and the profile {profile} no page to begin with ({known} have one)"
    )
    remedy = "build/ci/run {typed}"


class UpdateRefused(Refusal):
    """copier cannot update: the template or its version is not found, or would be an older one."""

    sentence = "update: {problem}"
    remedy = "build/ci/run update --to HEAD"


class UpdateConflicts(Refusal):
    """The team and the pipeline changed the same lines: both are in the file, between conflict markers."""

    sentence = "update: both sides changed the same lines, both are in the file: {files}"
    remedy = "$EDITOR {first} && git add -A && git commit"


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """A file that comes into the repository."""

    path: Path
    content: bytes
    mode: int


@dataclass(frozen=True, kw_only=True)
class Destination:
    """The folder that the pipeline comes into. `top`: of its git repository, None where there is none yet."""

    folder: Path
    top: Path | None

    @property
    def prefix(self) -> str:
        """The folder from the top of the repository, `.` at the top."""
        return self.folder.relative_to(self.top).as_posix() if self.top else "."

    def shown(self, path: Path) -> str:
        """A path as a person names it: from the folder."""
        return Path(os.path.relpath(path, self.folder)).as_posix()


def main(arguments: Sequence[str]) -> int:
    """`new ...` or `update ...`; the exit code."""
    verb, *words = arguments
    try:
        said = new(words) if verb == "new" else update(words)
    except Refusal as refusal:
        sys.stderr.write(f"{refusal.text}\n")
        return refusal.exit_code
    except KeyboardInterrupt:  # copier's own, too
        sys.stderr.write(f"\n{verb}: interrupted, nothing is written\n")
        return 130
    sys.stdout.write(f"{said}\n")
    return 0


# --- new ------------------------------------------------------------------------------------------


def new(words: Sequence[str]) -> str:
    """Bring the pipeline into a folder; what to tell. Raises the refusals above, before anything is written."""
    if not (ROOT / QUESTIONS).exists():
        where = str(_answers(ROOT).get("_src_path", "elsewhere")).removeprefix("git+")
        raise NoTemplate(file=QUESTIONS, source=where)
    folder, data = _read_new(words)
    profiles = _profiles()
    profile = str(data.get("profile", ""))
    if profile not in profiles:
        right = nearest(profile, profiles)
        again = (
            retyped(profile, right, ["new", *words])
            or f"new {shlex.quote(folder)} --profile {right or 'NAME'}"
        )
        known = {"meant": meant(profile, profiles), "known": ", ".join(profiles)}
        raise ProfileUnknown(profile=profile or "(none)", typed=again, **known)
    if changed := source.uncommitted(ROOT):
        raise TemplateUncommitted(files=_some(changed), folder=ROOT)
    if Path(folder).resolve().is_relative_to(ROOT):
        outside = str(ROOT.parent / Path(folder).resolve().name)
        raise FolderInTemplate(folder=folder, typed=retyped(folder, outside, ["new", *words]))
    to = _destination(folder)
    defaults = _defaults(to)
    incoming = list(_rendered(to, data, defaults))
    answers = next(yaml.safe_load(each.content) for each in incoming if each.path.name == ANSWERS)
    application = Path(os.path.normpath(to.folder / answers["path"]))
    if _empty(application):
        incoming += _starter(application, profile, words)
    if found := dict.fromkeys(_collisions(to, incoming)):
        beside = retyped(folder, f"{folder.rstrip('/')}/deploy", ["new", *words])
        raise FilesCollide(folder=folder, files=_some(found), typed=beside)
    _check_ignored(to, incoming)
    _write(incoming)
    first = "" if to.top else "git init -b main && "
    return (
        f"new: {len(incoming)} files in {folder}: profile {profile}, application in {to.shown(application)}\n"
        f"    cd {shlex.quote(folder)} && {first}git add -A && git commit -m 'release pipeline' && build/ci/run release"
    )


class _Parser(argparse.ArgumentParser):
    """argparse, whose errors are refusals."""

    def error(self, message: str) -> NoReturn:
        raise NewMisspelt(
            verb=self.prog.split()[-1], problem=message, typed=f"{self.prog.split()[-1]} --help"
        )


def _parse(parser: _Parser, words: Sequence[str]) -> argparse.Namespace:
    """The options. Raises NewMisspelt, with the nearest known one."""
    found, unknown = parser.parse_known_args(list(words))
    if unknown:
        known = [name for each in parser._actions for name in each.option_strings if name.startswith("--")]
        name, verb = unknown[0].partition("=")[0], parser.prog.split()[-1]
        problem = f"{name} is not taken ({meant(name, known)}known: {', '.join(known)})"
        again = retyped(name, nearest(name, known), [verb, *words])
        raise NewMisspelt(verb=verb, problem=problem, typed=again or f"{verb} --help")
    return found


def _read_new(words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The folder and the answers that were typed: each question of copier.yml is an option."""
    parser = _Parser(
        prog="build/ci/run new", description="Bring the pipeline into a folder.", allow_abbrev=False
    )
    parser.add_argument("folder", help="a new or empty folder, or a folder of a git repository")
    questions = yaml.safe_load((ROOT / QUESTIONS).read_text())
    for name, question in questions.items():
        if not name.startswith("_"):
            options = {"help": question["help"], "choices": question.get("choices"), "dest": name}
            parser.add_argument(f"--{name.replace('_', '-')}", default=None, **options)
    answers = vars(_parse(parser, words))
    folder = answers.pop("folder")
    return folder, {name: value for name, value in answers.items() if value is not None}


def _profiles() -> list[str]:
    return sorted(each.parent.name for each in ROOT.glob("applications/*/profile.yml"))


def _destination(asked: str) -> Destination:
    """The folder and its repository. Raises PipelineThere, FolderUntracked or FolderUncommitted."""
    folder = Path(os.path.abspath(asked))  # noqa: PTH100  absolute() leaves `..` in
    if (folder / ANSWERS).exists():
        raise PipelineThere(folder=asked, file=ANSWERS)
    existing = next(each for each in (folder, *folder.parents) if each.is_dir())
    try:
        top = source.repository(existing).top
    except source.NoRepository:
        if folder.is_dir() and any(folder.iterdir()):
            raise FolderUntracked(folder=asked) from None
        return Destination(folder=folder, top=None)
    if changed := source.uncommitted(existing):
        raise FolderUncommitted(verb="new", folder=asked, files=_some(changed))
    return Destination(folder=existing.resolve() / folder.relative_to(existing), top=top.resolve())


def _defaults(to: Destination) -> dict[str, Any]:
    """Answers that the repository gives itself."""
    found: dict[str, Any] = {"path": "app"}
    if to.top:
        found["default_branch"] = source.default_branch(to.top)
        at_top = to.folder == to.top
        if not at_top or not _empty(to.folder):
            found["path"] = "." if at_top else Path(os.path.relpath(to.top, to.folder)).as_posix()
        found["docs"] = not (to.folder / "docs").exists()
    return found


def _empty(folder: Path) -> bool:
    """Whether there is nothing of an application yet."""
    return not folder.is_dir() or all(SAYS_NOTHING.fullmatch(each.name) for each in folder.iterdir())


def _rendered(to: Destination, data: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[Incoming]:
    """What copier makes of the template. It asks in a terminal; elsewhere what is not given has its default."""
    import copier  # 300 ms to import; `--help` and most refusals do without
    from copier.errors import CopierError

    with tempfile.TemporaryDirectory(prefix="new-") as held:
        template, made = Path(held) / "template", Path(held) / "made" / to.folder.name
        source.clone(ROOT, template)
        try:
            copier.run_copy(
                str(template),
                made,
                data=dict(data),
                user_defaults=dict(defaults),
                defaults=not sys.stdin.isatty(),
                vcs_ref="HEAD",
                quiet=True,
            )
        except (CopierError, ValueError) as error:
            raise AnswerRefused(problem=_sentence(error)) from None
        answers = made / ANSWERS
        text = answers.read_text().replace(f"_src_path: {template}", f"_src_path: {source.address(ROOT)}")
        answers.write_text(text)
        names = yaml.safe_load((ROOT / "pipeline.yml").read_text()), _answers(made)
        for path in sorted(each for each in made.rglob("*") if not each.is_dir()):
            yield _placed(to, path.relative_to(made).as_posix(), path, *names)


def _placed(
    to: Destination, name: str, made: Path, ours: Mapping[str, str], theirs: Mapping[str, str]
) -> Incoming:
    """Where a file goes, and what is different about it there: names, CI files, the build's packages, a .gitignore that is there already."""
    path, content = to.folder / name, made.read_bytes()
    keys = [key for files, keys in NAMED.items() if name.startswith(files) for key in keys]
    if keys:
        words = {ours[key]: theirs[key] for key in keys}
        known = "|".join(map(re.escape, words))  # in the order of NAMED: a name may be in a zone
        content = re.sub(rf"\b({known})\b", lambda found: words[found[1]], content.decode()).encode()
    if name == PACKAGES:
        profile = yaml.safe_load((ROOT / "applications" / theirs["profile"] / "profile.yml").read_text())
        content = _with_lines(content.decode(), profile.get("packages", ())).encode()
    if name in CI and to.top and to.prefix != ".":
        text = re.sub(r"build/ci/run|\.run/|docs/ci\.md", rf"{to.prefix}/\g<0>", content.decode())
        path, content = to.top / name, text.encode()
    elif name == IGNORED and path.exists():
        content = _with_lines(path.read_text(), content.decode().splitlines()).encode()
    return Incoming(path=path, content=content, mode=stat.S_IMODE(made.stat().st_mode))


def _with_lines(text: str, lines: Iterable[str]) -> str:
    """A text with the lines at its end that it lacks."""
    missing = [line for line in lines if line not in text.splitlines()]
    end = "" if text.endswith("\n") or not text else "\n"
    return text + end + "".join(f"{line}\n" for line in missing)


def _starter(application: Path, profile: str, words: Sequence[str]) -> Iterator[Incoming]:
    """The profile's page to begin with. Raises NoStarter."""
    folder = ROOT / "applications" / profile / "starter"
    if not folder.is_dir():
        known = [each for each in _profiles() if (ROOT / "applications" / each / "starter").is_dir()]
        again = retyped(profile, known[0] if known else None, ["new", *words]) or "new --help"
        raise NoStarter(folder=application, profile=profile, known=", ".join(known) or "none", typed=again)
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        mode = stat.S_IMODE(path.stat().st_mode)
        yield Incoming(path=application / path.relative_to(folder), content=path.read_bytes(), mode=mode)


def _collisions(to: Destination, incoming: Iterable[Incoming]) -> Iterator[str]:
    """Files of theirs that would change, and folders that would be of both."""
    for each in incoming:
        above = next((up for up in each.path.parents if up.exists() and not up.is_dir()), None)
        name = to.shown(each.path)
        top = name.partition("/")[0]
        if above or each.path.is_dir():
            yield to.shown(above or each.path)
        elif each.path.exists():
            if each.path.name != IGNORED and each.path.read_bytes() != each.content:
                yield name
        elif "/" in name and top not in (*SHARED, "..") and (to.folder / top).exists():
            yield f"{top}/"


def _check_ignored(to: Destination, incoming: Iterable[Incoming]) -> None:
    """Raises FilesIgnored where git would leave out what comes."""
    if not to.top:
        return
    ignored = source.ignored(to.top, [each.path.relative_to(to.top).as_posix() for each in incoming])
    if ignored:
        where = next(iter(ignored.values()))
        raise FilesIgnored(where=where, files=_some(ignored), file=to.top / where.partition(":")[0])


def _write(incoming: Iterable[Incoming]) -> None:
    for each in incoming:
        each.path.parent.mkdir(parents=True, exist_ok=True)
        each.path.write_bytes(each.content)
        each.path.chmod(each.mode)


# --- update ---------------------------------------------------------------------------------------


def update(words: Sequence[str]) -> str:
    """Bring a later version of the pipeline into this repository; what to tell. Raises the refusals above."""
    import copier  # 300 ms to import; `--help` and most refusals do without
    from copier.errors import CopierError
    from plumbum import ProcessExecutionError

    parser = _Parser(prog="build/ci/run update", description="Bring a later version.", allow_abbrev=False)
    parser.add_argument("--to", help="a tag, branch or commit of the template; without: its newest tag")
    asked = _parse(parser, words)
    if not (ROOT / ANSWERS).exists():
        raise UpdateRefused(problem=f"{ANSWERS} is missing: this repository did not come from a template")
    if changed := source.uncommitted(ROOT):
        raise FolderUncommitted(verb="update", folder=ROOT, files=_some(changed))
    before = _answers(ROOT)["_commit"]
    theirs = source.changed_since(ROOT, ANSWERS)
    with contextlib.redirect_stderr(io.StringIO()):  # what copier says there is for its developers
        try:
            copier.run_update(
                ROOT,
                vcs_ref=asked.to,
                defaults=not sys.stdin.isatty(),
                skip_answered=True,
                overwrite=True,
                quiet=True,
            )
        except (CopierError, ValueError, ProcessExecutionError) as error:
            raise UpdateRefused(problem=_sentence(error)) from None
    # copier deletes them without a word
    kept = [each for each in source.changed(ROOT) if each in theirs and not (ROOT / each).exists()]
    source.restore(ROOT, kept)
    if conflicts := source.unmerged(ROOT):
        raise UpdateConflicts(files=_some(conflicts), first=conflicts[0])
    changed = source.changed(ROOT)
    if not changed:
        return f"update: {before} is the newest version, nothing has changed"
    deleted = [each for each in changed if not (ROOT / each).exists()]
    facts = [f"update: {before} -> {_answers(ROOT)['_commit']}", f"{len(changed)} files differ"]
    facts += [f"deleted: {_some(deleted)}"] if deleted else []
    facts += (
        [f"kept, because you changed them, although the pipeline has them no more: {_some(kept)}"]
        if kept
        else []
    )
    return "; ".join(facts) + "\n    git diff && git add -A && git commit"


def _answers(folder: Path) -> dict[str, Any]:
    """What copier has recorded."""
    path = folder / ANSWERS
    return yaml.safe_load(path.read_text()) if path.exists() else {}


def _sentence(error: Exception) -> str:
    """The last line of what copier or git says."""
    said = str(getattr(error, "stderr", "") or error)
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), type(error).__name__)


def _some(paths: Iterable[str]) -> str:
    """The first few of them."""
    found = list(paths)
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
