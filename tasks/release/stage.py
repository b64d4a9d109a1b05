"""stage: the tarball goes live on every machine: fetched, verified, unpacked beside the old release, switched, checked."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import hooks
from tasks.digest import Digest
from tasks.graph.stage import Outcome
from tasks.hosts.hosts import Hosts
from tasks.hosts.phased import Answer, Program
from tasks.hosts.ssh import Host
from tasks.infrastructure import apply as ec2
from tasks.infrastructure import hosts, secrets
from tasks.infrastructure import stage as infrastructure
from tasks.process.children import Cancelled
from tasks.refusal import UNKNOWN, Refusal
from tasks.release import history, outside, probe, undone
from tasks.release import phases as on_host
from tasks.release.phases import Failure
from tasks.release.probe import Probe
from tasks.server import stage as server
from tasks.settings import plain
from tasks.tarball import signature, stored

if TYPE_CHECKING:
    from tasks.bucket.store import Document
    from tasks.infrastructure.hosts import MachineFacts
    from tasks.process.threads import Threads
    from tasks.run import Run
    from tasks.version import Version

LINK_SECONDS = 3600
"""Seconds in which a machine must begin its download."""
CERTIFICATE = "/etc/ssl/site.pem"
"""The file of the role `certificates`."""
JOB_SECONDS = 300
"""Seconds that a release which changes data waits for a job of cron."""


LIVE = """
from pathlib import Path

mark = Path("/srv/{name}/current/.complete")
print(mark.read_text() if mark.exists() else "")
"""
"""Prints the digest of the release that a host runs. Its mark is written when it is complete."""


PROGRAM = Program(
    path=Path(__file__).with_name("phases.py"),
    undone=("live", "open"),
)
"""What a release does on a host. Whoever plays playbooks/release.yml runs the same."""
UP, DOWN, END = ("bring", "live", "open"), ("undo",), ("settle",)
"""Its phases: what visitors get, the way back, and what comes once the site was seen from outside."""
PUBLIC = str(on_host.PUBLIC)
"""The port at which a release is checked where visitors get it; a machine that they do not reach has another one."""


class NotLive(Refusal):
    """All phases ended well, but a host runs another release. Nothing is recorded."""

    sentence = "{stage}: {host} runs {found}, not {wanted}"
    remedy = "doit {stage}"


class ScriptBroken(Refusal):
    """A script of the profile's section `release` cannot be rendered."""

    sentence = "release: {script}: {problem}"
    remedy = "doit release"
    exit_code = UNKNOWN


def parts(run: Run) -> dict[str, object]:
    """The settings that this stage reads, by name; without a stage `tarball`, the digest of the commit's tarball as well."""
    found: dict[str, object] = {
        "release.keep": run.environment.release.keep,
        "release.static_hours": run.environment.release.static_hours,
        "profile": plain(run.profile.release),
        "migrations": [*run.profile.migrations],
        "scripts": _scripts(run),
    }
    if not run.environment.has("tarball"):
        found["tarball"] = partial(_tarball_of_commit, run)
    return found


def _tarball_of_commit(run: Run) -> str | None:
    """The digest of the commit's tarball, or None."""
    pointer = stored.pointer(run, run.commit.commit)
    return str(pointer.digest) if pointer else None


def go_live(
    run: Run,
    tarball: dict[str, Any] | None = None,
    machines: Mapping[str, Any] | None = None,
    **_: Any,
) -> Outcome:
    """Run `phases.py` on the machines, with a link to the tarball that is valid for an hour."""
    digest = Digest(tarball["digest"]) if tarball else stored.existing(run)
    undone.accept(run, digest)
    found = hosts.parsed(machines) if machines else infrastructure.existing(run)
    released = server.released(run, found, "release")
    with run.hosts.connected(hosts.reachable(run, released)) as reached:
        before, begun = history.opened(run.store, run.identity), run.clock.monotonic()
        try:
            told = plan({**variables(run, digest), **here(run, found, released)})
            with watched(run, before) as watch:
                answers = put_live(run, reached, told, watch)
            read_back(run.threads, run.hosts, reached, run.pipeline.name, digest)
        except Refusal as refusal:
            if not isinstance(refusal, Cancelled):  # a person, or a run that has taken the lease
                history.note_failure(run, refusal, onto=before)
            raise
    tag(run, [each.id for each in found], run.commit)
    seconds = run.clock.monotonic() - begun
    history.add(run, digest, onto=before, seconds=seconds, measured=measured(answers, watch))
    tell(run, "release", answers, watch)
    accept_late(answers, "release")
    return Outcome(
        facts={"digest": str(digest), "machines": [each.id for each in found]},
        done=f"{digest.id} is live",
        unchanged=f"{digest.id} is live since {run.clock.stamp()}",
    )


def here(run: Run, found: Sequence[MachineFacts], released: Sequence[MachineFacts]) -> dict[str, Any]:
    """The variables of the server's roles on the machines that get releases: where what they need is, and where they are checked."""
    told = server.variables(run)
    if not run.placement.apart:
        return {**told, **server.reached_from(run, found, released[0])}
    told |= server.beside(run, found, released[0])
    services = told["server_services"].get("nginx", {})
    site = services.get("site") if services and not services["http"]["here"] else None
    return {**told, **({"release_ports": {PUBLIC: site["port"]}} if site else {})}


@contextlib.contextmanager
def watched(run: Run, known: Document) -> Iterator[Probe | None]:
    """Ask the site meanwhile, as visitors do; not before the first release, as nothing is there yet."""
    if not known.value["releases"]:
        yield None
        return
    said = run.profile.release
    site = outside.site(run, run.host_name, outside.visitor(run))
    watch = Probe(site, [said.health_path, *said.pages[:1]])
    try:
        yield watch
    finally:
        watch.stop()


def tell(run: Run, stage: str, answers: Sequence[Answer], watch: Probe | None) -> None:
    """Tell what visitors had, in the run's report too, where something has changed for them."""
    if watch and any(each.changed for each in answers):
        words = watch.seen.words if watch.seen else probe.NOT_MEASURED
        run.console.event(stage, f"visitors: {words}")
        run.console.note_fact("visitors", words)


def put_live(
    run: Run, reached: Sequence[Host], plan: Mapping[str, Any], watch: Probe | None = None
) -> list[Answer]:
    """Run the phases on all hosts, and look at the site from outside before the last one. Raises PhaseFailed, or a refusal of SSH."""

    answers = perform(run, "release", UP, reached, plan)
    looks = any(each.changed for each in answers) and not any(each.closed for each in answers)
    if looks and (wrong := seen_wrong(run, watch)):
        perform(run, "release", DOWN, reached, {**plan, "why": wrong})
    if watch:
        watch.stop()
    return [*answers, *perform(run, "release", END, reached, plan)]


def perform(
    run: Run, stage: str, phases: Sequence[str], reached: Sequence[Host], plan: Mapping[str, Any]
) -> list[Answer]:
    """Run phases on all hosts for a stage. Raises PhaseFailed, or a refusal of SSH."""
    log = run.log(stage)
    return run.hosts.phases(
        PROGRAM, phases, stage=stage, hosts=reached, plan=plan, console=run.console, log=log
    )


def accept_late(answers: Sequence[Answer], stage: str) -> None:
    """Raises HookFailed where a hook has failed once visitors had the release, which stays."""
    if late := [words for each in answers for words in each.late]:
        raise hooks.HookFailed(stage=stage, problem=f"{late[0]}; nothing was undone")


def measured(answers: Sequence[Answer], watch: Probe | None = None) -> history.Measured:
    """What the hosts have measured: of each step, and of the maintenance, the slowest one; and what visitors had."""
    seen = watch.seen if watch else None
    told: dict[str, list[bool | None]] = {}
    steps: dict[str, float] = {}
    for each in answers:
        told.setdefault(each.host, []).append(each.migrated)
        for name, seconds in each.steps:
            steps[name] = max(seconds, steps.get(name, 0.0))
    hosts = [True if True in said else False if False in said else None for said in told.values()]
    return history.Measured(
        migrated=True if True in hosts else None if None in hosts else False,
        online=all(each.online for each in answers if each.migrated) and True in hosts,
        notes=tuple(dict.fromkeys(note for each in answers for note in each.notes)),
        downtime=max([seen.downtime if seen else 0.0, *(each.downtime for each in answers)]),
        slowest=seen.slowest if seen else None,
        steps=tuple(steps.items()),
    )


def seen_wrong(run: Run, watch: Probe | None = None) -> str:
    """What is wrong with the site as visitors see it; empty if nothing is, or if it cannot be asked from here, which is said."""
    said = run.profile.release
    try:
        visitor = watch.site.visitor if watch else outside.visitor(run)
        for name in run.host_names:
            outside.site(run, name, visitor).check(said.health_path, said.pages)
    except Failure as failure:
        return f"from outside, {failure}"
    except OSError as error:
        run.console.once("release", f"{run.url} cannot be asked from here: {error}")
    return ""


def read_back(
    threads: Threads,
    ask: Hosts,
    reached: Sequence[Host],
    name: str,
    digest: Digest,
    *,
    stage: str = "release",
) -> None:
    """Ask every host which release it runs. Raises NotLive, or a refusal of SSH."""
    program = LIVE.format(name=name)
    with threads.pool(len(reached) or 1) as pool:
        answers = list(pool.map(lambda host: ask.python(host, stage, program).strip(), reached))
    for host, answer in zip(reached, answers, strict=True):
        if answer != digest:
            found = Digest(answer).id if answer else "no complete release"
            raise NotLive(stage=stage, host=host.name, found=found, wanted=digest.id)


def variables(run: Run, digest: Digest) -> dict[str, object]:
    """The variables of the role `release`. Raises TarballGone, ArchiveDamaged, Unsigned or NoPublicKey."""
    signed, kept = stored.signature_of(run, digest), run.tarballs
    signature.accept(run, digest, signed)
    return {
        **variables_here(run, digest),
        "release_url": kept.cloud.presigned_url(kept.bucket, stored.stored_key(run, digest), LINK_SECONDS),
        "release_signature": signed,
    }


def variables_here(run: Run, digest: Digest) -> dict[str, object]:
    """The same for a release that the machines have: nothing says where its tarball is."""
    return {
        "release_id": digest.id,
        "release_url": "",
        "release_sha256": digest,
        "release_signature": "",
        "release_keep": run.environment.release.keep,
        "release_static_hours": run.environment.release.static_hours,
        "release_job_seconds": JOB_SECONDS,
        "release_migrations": [*run.profile.migrations],
        **_administrator(run),
        "release_ports": {},
        "release_commit": run.commit,
        "release_environment": run.identity,
        "release_hooks": hooks.for_hosts(run.root),
        "release_profile": {name: each for name, each in _profile(run).items() if each is not None},
    }


def plan(told: Mapping[str, Any]) -> dict[str, Any]:
    """The plan of `phases.py`, made of the variables of the roles `application`, `shared` and `release`. Raises ScriptBroken.

    The role `release` makes the same plan of them (`roles/release/vars/main.yml`).
    """
    configured = [each["destination"] for each in told.get("shared_configuration", ())]
    shared = [*told.get("shared_directories", ()), *told.get("shared_files", ())]
    names = (
        "id",
        "url",
        "sha256",
        "signature",
        "keep",
        "static_hours",
        "job_seconds",
        "migrations",
        "commit",
        "environment",
        "hooks",
        "profile",
        "ports",
    )
    return {
        **{name: told[f"application_{name}"] for name in ("path", "user", "host_names")},
        "group": told["application_web_user"],
        "https": told["application_base_url"].startswith("https:"),
        "certificate": CERTIFICATE if told.get("nginx_tls") and not told["release_ports"] else "",
        **{name: told[f"release_{name}"] for name in names},
        "shared": [*dict.fromkeys([*shared, *configured])],
        "configured": configured,
        "scripts": {each: rendered(Path(each), told) for each in _templates(told["release_profile"])},
    }


def _templates(said: Mapping[str, Any]) -> list[str]:
    """The paths of the scripts of a profile's section `release`."""
    install, written = said.get("install"), said.get("written")
    return [
        *([install["due"], install["run"], *install["then"]] if install else []),
        *([written["names"]] if written else []),
    ]


def rendered(path: Path, told: Mapping[str, Any]) -> str:
    """A script, for these variables. Raises ScriptBroken."""
    import jinja2  # for a release alone

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,  # as Ansible reads templates
        autoescape=False,  # noqa: S701 (no script is HTML)
    )
    try:
        return environment.get_template(path.name).render(told)
    except jinja2.TemplateError as error:
        line = f":{error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
        raise ScriptBroken(script=f"{path.name}{line}", problem=error) from None


def _administrator(run: Run) -> dict[str, str]:
    """The secrets of the first administrator; empty where the profile installs none."""
    if run.profile.release.install is None:
        return {"release_administrator_password": "", "release_administrator_secret": ""}
    known = secrets.ensure(run.cloud.client("ssm"), run.secrets_folder, ["release"])
    return {
        "release_administrator_password": known.administrator_password,
        "release_administrator_secret": known.administrator_secret,
    }


def _profile(run: Run) -> dict[str, Any]:
    """The section `release` of the profile, with the full paths of its templates."""
    said = run.profile.release
    whole: dict[str, Any] = plain(said)
    for name in ("install", "written"):
        if section := getattr(said, name):
            whole[name] = server.with_templates(vars(section), run.profile.folder)
    return whole


def _scripts(run: Run) -> dict[str, str]:
    """The digests of the scripts of the section `release`, by name: a change of one is a change of the release."""
    paths = map(Path, _templates(_profile(run)))
    return {each.name: Digest.of_bytes(each.read_bytes()) for each in paths}


def tag(run: Run, ids: Sequence[str], commit: Version) -> None:
    """Tag the machines with the commit and its expiry; these tags are no input of `infrastructure`."""
    days = run.environment.release.expires_after_days
    today = run.clock.now().date()
    expiry = {"expires": (today + datetime.timedelta(days=days)).isoformat()} if days else {}
    ec2.tag(run, ids, {"commit": commit, **expiry})
