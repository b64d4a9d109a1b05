"""refusal: everything that the pipeline declines to do, each said once: sentence, remedy, exit code.

`docs/errors.md` is generated from this file (`doit docs`), and a test fails when it is stale.
"""

from __future__ import annotations

import contextlib
import errno
import re
import string
from collections.abc import Iterator
from typing import ClassVar

FAILED = 1
"""Failed or refused."""
BUG = 2
"""A mistake of ours."""
UNKNOWN = 3
"""No such stage, environment or setting."""


class Refusal(Exception):
    """One sentence that says what and where, and one line that says what to type next."""

    sentence: ClassVar[str]
    remedy: ClassVar[str]
    exit_code: ClassVar[int] = FAILED
    variables: ClassVar[tuple[str, ...]] = ()
    """The command line's `name=value`: what is typed next is for the same environment and branch."""

    def __init__(self, **facts: object) -> None:
        self.facts = facts
        super().__init__(self.text)

    @property
    def text(self) -> str:
        """The sentence, then the remedy on an indented line of its own."""
        remedy = self.remedy.format(**self.facts)
        if "=" not in remedy:
            remedy = re.sub(r"\bdoit ", " ".join(["doit", *self.variables]) + " ", remedy)
        return self.sentence.format(**self.facts) + (f"\n    {remedy}" if remedy else "")

    @classmethod
    def fields(cls) -> set[str]:
        """Names of the facts that the sentence and the remedy are made of."""
        parts = string.Formatter().parse(cls.sentence + cls.remedy)
        return {name for _, name, _, _ in parts if name}


# --- the command line and the checkout ------------------------------------------------------------


class UnknownVariable(Refusal):
    """A `name=value` on the command line that no stage reads."""

    sentence = "command line: {name}={value}: no such variable (known: {known})"
    remedy = "doit environment=testing release"
    exit_code = UNKNOWN


class UnknownTask(Refusal):
    """A task or command that does not exist."""

    sentence = "command line: no task or command named {name} (known: {known})"
    remedy = "doit list"
    exit_code = UNKNOWN


class UnknownEnvironment(Refusal):
    """`environment=NAME` without a file of that name in `environments/`."""

    sentence = "command line: environment={name}: there is no environments/{name}.yml (known: {known})"
    remedy = "ls environments"
    exit_code = UNKNOWN


class TeardownAndMore(Refusal):
    """Teardown and another stage in one command: nothing says which comes first."""

    sentence = "command line: teardown goes alone, not together with {others}"
    remedy = "doit teardown && doit release"
    exit_code = UNKNOWN


class UnknownOption(Refusal):
    """An option that the command does not have."""

    sentence = "command line: {problem}"
    remedy = "doit help {command}"
    exit_code = UNKNOWN


class WordsNotTaken(Refusal):
    """A command with other words than it takes."""

    sentence = "command line: doit {typed}: the command is doit {usage}"
    remedy = "doit help {command}"
    exit_code = UNKNOWN


class NotAtTheTop(Refusal):
    """doit is called elsewhere than at the top of the repository."""

    sentence = "command line: there is no dodo.py in {path}"
    remedy = 'cd "$(git rev-parse --show-toplevel)"'
    exit_code = UNKNOWN


class StageForbidden(Refusal):
    """A stage that the environment's file does not allow."""

    sentence = "{stage}: does not exist in {environment} (environments/{environment}.yml: stages)"
    remedy = "doit environment={environment} list"
    exit_code = UNKNOWN


class NoRepository(Refusal):
    """The pipeline is called outside of a git repository."""

    sentence = "git: {path} is not in a git repository, so there is nothing to release"
    remedy = "git init && git add -A && git commit -m 'first'"


class NoCommit(Refusal):
    """The repository has no commit yet, or the named one does not exist."""

    sentence = "git: there is no commit {name} here"
    remedy = "git add -A && git commit"


class NoBranch(Refusal):
    """A detached HEAD, and no CI variable tells the branch."""

    sentence = "git: HEAD is detached and no CI variable names the branch"
    remedy = "doit branch=NAME {task}"
    exit_code = UNKNOWN


class GitRefused(Refusal):
    """git itself fails: a checkout of another user, a broken index, a full disk."""

    sentence = "git: {problem}"
    remedy = "git status"


class NotOurs(Refusal):
    """The checkout belongs to another user, as in a CI container; git asks for a word before it trusts it."""

    sentence = "git: {path} belongs to another user"
    remedy = "git config --global --add safe.directory {path}"


class UncommittedChanges(Refusal):
    """Only environments that say `uncommitted: allowed` take changes that no commit holds."""

    sentence = "{stage}: {environment} takes committed files only, these differ: {files}"
    remedy = "git commit"


# --- settings -------------------------------------------------------------------------------------


class SettingsMissing(Refusal):
    """A settings file that must exist does not."""

    sentence = "{path}: is missing"
    remedy = "git checkout -- {path}"
    exit_code = UNKNOWN


class SettingsBroken(Refusal):
    """A settings file that is no YAML, or no mapping."""

    sentence = "{path}:{line}: {problem}"
    remedy = "$EDITOR {path}"
    exit_code = UNKNOWN


class SettingUnknown(Refusal):
    """A key that no setting declares."""

    sentence = "{path}:{line}: {key}: unknown key (known: {known})"
    remedy = "$EDITOR {path}"
    exit_code = UNKNOWN


class SettingMissing(Refusal):
    """A setting without a default that the file does not give."""

    sentence = "{path}: {key}: is missing ({help})"
    remedy = "$EDITOR {path}"
    exit_code = UNKNOWN


class SettingWrong(Refusal):
    """A value of the wrong type, or not one of those known."""

    sentence = "{path}:{line}: {key}: should be {expected}, not {value}"
    remedy = "$EDITOR {path}"
    exit_code = UNKNOWN


class ProfileOptionUnknown(Refusal):
    """An option under `application.options` that the profile does not have."""

    sentence = "pipeline.yml: application.options.{option}: unknown option of {profile} (known: {known})"
    remedy = "$EDITOR pipeline.yml"
    exit_code = UNKNOWN


class ProfileLayerUnknown(Refusal):
    """A layer under `application.commands` that the profile does not have."""

    sentence = "pipeline.yml: application.commands.{layer}: unknown layer of {profile} (known: {known})"
    remedy = "$EDITOR pipeline.yml"
    exit_code = UNKNOWN


# --- running things -------------------------------------------------------------------------------


class Cancelled(Refusal):
    """Somebody pressed Ctrl-C, or the run was told to end."""

    sentence = "{stage}: interrupted"
    remedy = "doit {stage}"


class CommandFailed(Refusal):
    """A child process ended with an error; its last lines are shown."""

    sentence = "{command}: exit code {code}\n{tail}"
    remedy = ""


class CommandMissing(Refusal):
    """A program that a stage needs is not installed."""

    sentence = "{command}: is not installed"
    remedy = "rm -f .run/installed-* && build/ci/run list"


class DiskFull(Refusal):
    """No space left while writing; what was written in part is removed."""

    sentence = "{stage}: no space left at {path}"
    remedy = "df -h {path}"


@contextlib.contextmanager
def full_disk(stage: str, path: object) -> Iterator[None]:
    """Turn "no space left" into DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(stage=stage, path=path) from None
        raise


# --- infrastructure -------------------------------------------------------------------------------


class ImageMissing(Refusal):
    """The image of the settings is not known to the cloud."""

    sentence = "infrastructure: no image named {image} in {region} (pipeline.yml: image)"
    remedy = "$EDITOR pipeline.yml"


class ZoneMissing(Refusal):
    """The DNS zone does not exist and is not ours to make."""

    sentence = "infrastructure: no hosted zone {zone} in this account (pipeline.yml: dns_zone)"
    remedy = "aws route53 create-hosted-zone --name {zone} --caller-reference first"


class CloudRefused(Refusal):
    """The cloud said no to a change."""

    sentence = "infrastructure: {change}: {problem}"
    remedy = "doit infrastructure"


class CloudSaysNo(Refusal):
    """The cloud refuses a request that nobody expected it to: rights, limits, expired credentials."""

    sentence = "cloud: {action}: {problem}"
    remedy = "doit plan"


class CloudUnreachable(Refusal):
    """The cloud does not answer, or its answer got lost. What was begun goes on where it was."""

    sentence = "cloud: {problem}"
    remedy = "doit plan"


class CloudTooSlow(Refusal):
    """The cloud did not do in time what it had accepted."""

    sentence = "infrastructure: {what} after {seconds} s"
    remedy = "doit infrastructure"


class BucketMissing(Refusal):
    """The bucket for tarballs and records does not exist."""

    sentence = "state: there is no bucket {bucket}"
    remedy = "doit infrastructure"


class BucketGone(Refusal):
    """The bucket is missing although machines of the project run: a new, empty one would forget what they are."""

    sentence = "state: the bucket {bucket} is gone, and {machines} of {project} are still there"
    remedy = "aws s3api head-bucket --bucket {bucket}"


class BucketForbidden(Refusal):
    """The bucket exists and does not let us read or write; nothing was changed by the request."""

    sentence = "state: the bucket {bucket} does not let us {verb} {key} ({problem})"
    remedy = "aws sts get-caller-identity"


class DocumentDamaged(Refusal):
    """What lies in the bucket in a record's place is none; earlier versions of it are kept."""

    sentence = "state: {key} in {bucket} is no record: somebody has overwritten it"
    remedy = "aws s3api list-object-versions --bucket {bucket} --prefix {key}"


class RecordTaken(Refusal):
    """Another run has written a record since this one has read it."""

    sentence = "state: {key} was changed by {by} in the meantime"
    remedy = "doit release"


class EnvironmentHeld(Refusal):
    """Another run changes the environment, and has not ended while this one waited."""

    sentence = "lease: {identity} is held by {holder}; last sign of life {age} s ago"
    remedy = "doit --wait 600 {task}"


class LeaseUnreadable(Refusal):
    """The lease says nothing that can be understood, so nobody can tell whether a run is under way."""

    sentence = "lease: {key} is damaged: held by nobody can tell whom, written {age} s ago"
    remedy = "doit unlock"


class LeaseLost(Refusal):
    """Another run has taken the environment, or this one could not show for too long that it lives."""

    sentence = "lease: {identity} is lost: {why}; this run has stopped, and records nothing more"
    remedy = "doit {task}"


class UnlockUnconfirmed(Refusal):
    """Taking a lease from its holder needs a yes."""

    sentence = "unlock: {identity} is held by {holder}: not taken without a yes"
    remedy = "doit unlock --yes"


class NoMachine(Refusal):
    """An environment that makes its machines has none that runs."""

    sentence = "{stage}: {identity} has no running machine"
    remedy = "doit infrastructure"


class NoMachineFound(Refusal):
    """An environment that makes no machines has none that carries its tags and runs."""

    sentence = "{stage}: no running machine carries the tags project={project} environment={identity}"
    remedy = "aws ec2 create-tags --resources ID --tags Key=project,Value={project} Key=environment,Value={identity}"


class OnlyAdditive(Refusal):
    """An environment that lets nothing be changed or removed has a plan that would; nothing of it is done."""

    sentence = "infrastructure: {environment} only lets things be added, and the plan says: {changes}"
    remedy = "doit plan infrastructure"


# --- the controls ---------------------------------------------------------------------------------


class ControlDecides(Refusal):
    """A control is told an environment, or stages: both follow from the branch."""

    sentence = "{control}: the branch decides what it does: it takes no {more}"
    remedy = "git switch BRANCH && build/ci/run {control}"
    exit_code = UNKNOWN


class OtherBranch(Refusal):
    """An environment that all branches share is asked for another branch than the default one."""

    sentence = "{task}: {environment} takes the branch {default} only, and this is {branch}"
    remedy = "git switch {default}"


class NothingGoesOn(Refusal):
    """`doit continue`, and no environment takes tarballs from another one."""

    sentence = "continue: no environment takes a tarball from another one (environments/*.yml: takes_from)"
    remedy = "$EDITOR environments"
    exit_code = UNKNOWN


class OnlyByContinue(Refusal):
    """An environment that takes what another one has proved is asked for directly."""

    sentence = "{task}: {environment} takes what {upstream} has proved, and only by this"
    remedy = "doit continue"
    variables: ClassVar[tuple[str, ...]] = ()


class NotStaged(Refusal):
    """`doit continue` for a commit that no run has brought this far."""

    sentence = "continue: {commit} has not been on {upstream}{runs}"
    remedy = "doit start"
    variables: ClassVar[tuple[str, ...]] = ()


class NotWaiting(Refusal):
    """`doit continue` for a commit whose run has ended, or not come so far."""

    sentence = "continue: the run of {commit} does not wait: {state} since {at} by {by}{words}"
    remedy = "doit start"
    variables: ClassVar[tuple[str, ...]] = ()


class OtherTarball(Refusal):
    """What would go on is not what was proved, byte for byte."""

    sentence = "continue: {upstream} has not seen {digest}, {why}"
    remedy = "doit start"
    variables: ClassVar[tuple[str, ...]] = ()


class BuiltByOthers(Refusal):
    """The tarball was built by a role whose tarballs the environment does not take."""

    sentence = "continue: {environment} takes tarballs of {builders}, and {digest} was built by {role}"
    remedy = "$EDITOR environments/{environment}.yml"


class Downgrade(Refusal):
    """The commit does not have everything that already runs."""

    sentence = "{control}: {environment} runs {running}, which {commit} does not contain"
    remedy = "git merge {running}"


class UnknownRunning(Refusal):
    """The clone does not have the commit that runs, so nobody can tell which is older."""

    sentence = "{control}: {environment} runs {running}, which is not in this clone"
    remedy = "git fetch --unshallow origin || git fetch origin"


class Frozen(Refusal):
    """The environment takes no release at this time."""

    sentence = (
        "{control}: {environment} is frozen from {begin} to {end} (environments/{environment}.yml: freezes)"
    )
    remedy = "doit plan"


class FreezeUnreadable(Refusal):
    """A freeze that is no time span."""

    sentence = "environments/{environment}.yml: freezes: should be FROM/TO in ISO 8601, not {text}"
    remedy = "$EDITOR environments/{environment}.yml"
    exit_code = UNKNOWN


class SamePerson(Refusal):
    """Who started wants to continue where that takes another person."""

    sentence = "continue: {environment} wants another person's approval, and {who} has started this run"
    remedy = "aws sts get-caller-identity"


class NobodyInPerson(Refusal):
    """The cloud's name for who acts is one that a program made up, so nobody can tell people apart."""

    sentence = "continue: {environment} wants another person's approval, and {who} tells of no person"
    remedy = "export AWS_ROLE_SESSION_NAME=NAME"


class NotConfirmed(Refusal):
    """The question on the terminal was not answered with yes."""

    sentence = "continue: nothing was changed, without a yes"
    remedy = "doit continue --yes"


class RunUnderWay(Refusal):
    """`doit stop` on the default branch while the run is at work on an environment."""

    sentence = "stop: the run of {commit} does not wait, it is at work: {environment} is held by {holder}"
    remedy = "doit stop"


# --- tarball --------------------------------------------------------------------------------------


class NoTarball(Refusal):
    """An environment that builds nothing is asked for a commit that nobody has built."""

    sentence = "release: no tarball for {commit} in {bucket}"
    remedy = "doit tarball"


class TarballGone(Refusal):
    """A tarball that is to go live is not in the bucket, or lies where this branch takes nothing from."""

    sentence = "release: there is no tarball {digest} in {bucket} that this branch may take"
    remedy = "doit tarball"


class BuildIncomplete(Refusal):
    """A build command ended well and left out what it promises."""

    sentence = "tarball: {step} ended with exit code 0 and left no {output}"
    remedy = "doit tarball"


class BuildFailed(Refusal):
    """A build command failed; its last lines are shown, the whole output lies in the log."""

    sentence = "tarball: {step}: {command}: exit code {code} (whole output: {log})\n{tail}"
    remedy = "doit tarball"


class UnsafeFile(Refusal):
    """The application tree holds a file that must not be unpacked on a server."""

    sentence = "tarball: {path}: {problem}"
    remedy = "git rm --cached '{path}'"


class ArchiveDamaged(Refusal):
    """A stored tarball is not what was packed."""

    sentence = "tarball: {digest} is damaged: {problem}"
    remedy = "doit forget tarball && doit tarball"


class Unsigned(Refusal):
    """The environment's file says `signatures: required`, and nobody vouches for the tarball."""

    sentence = "release: {environment} takes signed tarballs only, and for {digest} {problem}"
    remedy = "doit key | tail -n 1 >> pipeline.yml"


class SigningKeyMissing(Refusal):
    """`signatures: required`, and there is no private key, or this role may not read it."""

    sentence = "tarball: there is no key to sign with at {parameter}, or you may not read it"
    remedy = "doit key | tail -n 1 >> pipeline.yml"


class SigningKeyExists(Refusal):
    """`doit key` would replace the private key, and nobody could vouch for older tarballs again."""

    sentence = "key: there is a key at {parameter} (public: {public})"
    remedy = "doit key --replace"


class SigningKeyUnknown(Refusal):
    """The private key's public half is not among `public_keys`: no host would believe it."""

    sentence = "tarball: the key at {parameter} is {public}, which pipeline.yml does not name (public_keys)"
    remedy = "doit key --replace"


class NoSuchTarball(Refusal):
    """`doit diff` is asked for something that is no digest, commit or environment with a tarball."""

    sentence = (
        "diff: {name} is no tarball's digest, no commit with a tarball and no environment with a release"
    )
    remedy = "doit tarball"
    exit_code = UNKNOWN


# --- the cloud ------------------------------------------------------------------------------------


class CredentialsMissing(Refusal):
    """`cloud: aws`, and no credentials in the environment, the AWS files or the instance's role."""

    sentence = "cloud: no credentials for AWS ({problem})"
    remedy = "aws configure"


class PodmanMissing(Refusal):
    """The embedded cloud's hosts are podman's containers, and podman is not installed."""

    sentence = "cloud: podman is not installed"
    remedy = "apt-get install podman runc crun netavark iptables mmdebstrap"


class PodmanRefused(Refusal):
    """podman does not do what the embedded cloud asks of it."""

    sentence = "cloud: podman {command}: {problem}"
    remedy = "podman info"


class NoAddressRange(Refusal):
    """Every private /24 is taken: no range is left for a cloud of its own."""

    sentence = "cloud: no private address range is free on this machine"
    remedy = "podman network ls"


class PortWrong(Refusal):
    """The variable CLOUD_PORT is no port."""

    sentence = "cloud: CLOUD_PORT={value}: should be a number from 1 to 65535"
    remedy = "unset CLOUD_PORT"


class PortTaken(Refusal):
    """Somebody else listens on a port that the embedded cloud has had, or was told to have."""

    sentence = "cloud: port {port} ({what}) is in use by another program"
    remedy = "ss -ltnp 'sport = :{port}'"


class ServerFailed(Refusal):
    """The embedded cloud's server ended, or did not come up; the last lines of its log are shown."""

    sentence = "cloud: the server {problem} (whole log: {log})\n{tail}"
    remedy = "doit cloud status"


class BaseImageFailed(Refusal):
    """The machine image of the embedded cloud cannot be made."""

    sentence = "cloud: debian-12 cannot be made: {tail}"
    remedy = "apt-get update"


class HostDown(Refusal):
    """A host is not running, so its address may be anybody's."""

    sentence = "cloud: {host} is {state}, not running"
    remedy = "doit cloud status"


class HostKeysMissing(Refusal):
    """A host's console does not show its SSH keys, so nobody can tell it from another."""

    sentence = "cloud: the console of {host} shows no SSH host keys after {seconds} s"
    remedy = "doit cloud status"


# --- servers and releases -------------------------------------------------------------------------


class HostUnreachable(Refusal):
    """A host does not answer on its SSH port."""

    sentence = "{stage}: {host} ({address}) does not answer on port {port}"
    remedy = "doit plan infrastructure"


class HostUnknown(Refusal):
    """A host is named that the environment does not have."""

    sentence = "command line: {host} is no host of this environment (known: {known})"
    remedy = "doit status"
    exit_code = UNKNOWN


class HostKeyChanged(Refusal):
    """A host shows other SSH keys than the ones that its console told when it first started."""

    sentence = "{stage}: {host} ({address}) shows an SSH host key that is not its own"
    remedy = "doit teardown && doit release"


class LoginRefused(Refusal):
    """A host answers, and does not accept our key."""

    sentence = "{stage}: {host} ({address}) refuses the key of the user {user}"
    remedy = "doit teardown && doit release"


class PlaybookFailed(Refusal):
    """A task of a playbook failed on a host."""

    sentence = "{stage}: {host}: {role}: {task}: {message}"
    remedy = "doit {stage}"


class PlaybookBroken(Refusal):
    """Ansible could not even begin a playbook."""

    sentence = "{stage}: playbooks/{stage}.yml cannot be played: {message}"
    remedy = "ansible-lint --offline playbooks/{stage}.yml"


class NoLedger(Refusal):
    """`doit compare` is asked for an environment that was never provisioned, or is gone."""

    sentence = "compare: {identity} has no ledger"
    remedy = "doit {named} server"


# --- clearing up ----------------------------------------------------------------------------------


class BranchesUnknown(Refusal):
    """Nobody can tell what is orphaned: an empty list of branches is no reason to take everything away."""

    sentence = "sweep: the remote origin does not say which branches there are ({problem})"
    remedy = "git ls-remote --heads origin"


class SweepTooMuch(Refusal):
    """One sweep would take more of everything than the settings let it."""

    sentence = "sweep: would take {share} % of everything, more than {most} % (pipeline.yml: sweep.share)"
    remedy = "doit sweep --yes --share {share}"


class SweepBlind(Refusal):
    """A document that tells what is needed cannot be read, so nothing may be taken away."""

    sentence = "sweep: {key} is no JSON, so nobody can tell what it refers to"
    remedy = "doit sweep"


class SweepIncomplete(Refusal):
    """The cloud, or a run that holds an environment, kept some of it."""

    sentence = "sweep: {number} of {all} could not be taken: {why}"
    remedy = "doit sweep --yes"


class NoExpiry(Refusal):
    """An environment that stays anyway needs nobody to keep it."""

    sentence = (
        "keep: {environment} never expires (environments/{environment}.yml: release.expires_after_days)"
    )
    remedy = "doit environment={environment} list"


class SleepForbidden(Refusal):
    """Only environments that may be torn down may be put to sleep."""

    sentence = "{verb}: {environment} may not sleep (environments/{environment}.yml: stages has no teardown)"
    remedy = "doit environment={environment} list"


class NothingToWake(Refusal):
    """No machine is where the command would take it from: asleep, or awake."""

    sentence = "{verb}: {identity} has no machine that is {state}"
    remedy = "doit plan infrastructure"
