"""Whatever is around the pipeline, `doit` answers with a sentence and the right exit code: never a traceback, never a bug.

Each example is a project, a home, an environment, three streams and a command line. Hypothesis prints its seed with
a failure, and the test prints its own; `--hypothesis-seed=N` repeats it.
"""

from __future__ import annotations

import functools
import os
import random
import re
import secrets
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import event, given, seed
from hypothesis import strategies as st

from tasks.digest import Digest
from tasks.release import history
from tests.clouds import run_in
from tests.conftest import DOIT, ROOT, commit, git
from tests.hypothesis_settings import so_many
from tests.paper import cloud as paper_cloud
from tests.paper import copy_paper, users_cloud
from tests.zygote import ODD_STREAMS, Zygote

ANYONE = ("-c", "user.name=t", "-c", "user.email=t@example.com")
FILES = (
    "pipeline.yml",
    "environments/testing.yml",
    "environments/production.yml",
    "applications/magento2/profile.yml",
    "roles/php/meta/argument_specs.yml",
)
SCALARS = (
    *("!vault x", "2026-02-30", "!!timestamp x", '!!int ""', "!!bool x", "!!binary x", "010", "1:30", "-1", "0x1f"),
    *("''", "~", "=", '"\\0"', '"\\ud800"', "*x", "&a [*a]", "[[a]]", "{[a]: b}", "{a: b}", "? [a]", "1e999", "9" * 5000),
    *("10.0.0.0", "500", "../x", "a b", "<<: *a", "%", "@x", "`x`", "!", "- a", "|", "[" * 2000, "\u2028", "café"),
)  # fmt: skip
TESTING, PIPELINE = "environments/testing.yml", "pipeline.yml"
NUMBERS = ("-1", "010", "1:30", "1_0", "0x1f", "1.5", "true", "'1'")
"""None is a whole number as people write it, or none that may be that low."""
OUT_OF_BOUNDS = {
    (PIPELINE, "name: {}"): ("''", "Shop", "a_b", "-a", "010", "a" * 41, "2026-01-01"),
    (PIPELINE, "default_branch: {}"): ("''", "a b", "-x", "a..b", "x.lock"),
    (PIPELINE, "dns_zone: {}"): ("''", "a_b", "a..b", f"{'a' * 64}.b"),
    (PIPELINE, "cloud: {}"): ("moon",),
    (PIPELINE, "region: {}"): ("''", "EU"),
    (PIPELINE, "bucket: {}"): ("ab", "A-b", "a" * 64),
    (PIPELINE, "public_keys: [{}]"): ("x", "''"),
    (PIPELINE, "image: {}"): ("' '",),
    (PIPELINE, "instance_type: {}"): ("t3 medium",),
    (PIPELINE, "budget: {}"): ("0", *NUMBERS),
    (PIPELINE, "sweep: {{share: {}}}"): ("500", *NUMBERS),
    (PIPELINE, "sweep: {{grace_hours: {}}}"): ("-1",),
    (PIPELINE, "sweep: {{tarballs: {}}}"): ("0", "-1"),
    (PIPELINE, "sweep: {{tarball_days: {}}}"): ("0", "-1"),
    (PIPELINE, "sweep: {{layer_days: {}}}"): ("0", "-1"),
    (PIPELINE, "sweep: {{record_days: {}}}"): ("0", "-1"),
    (PIPELINE, "application: {{profile: {}}}"): ("''", "../magento2", "2026-01-01"),
    (PIPELINE, "application: {{path: {}, profile: magento2}}"): ("''",),
    (TESTING, "infrastructure: {{instances: {}}}"): ("0", *NUMBERS),
    (TESTING, "infrastructure: {{idle_hours: {}}}"): ("-1",),
    (TESTING, "infrastructure: {{ssh_from: [{}]}}"): ("10.0.0.0", "10.0.0.0/33", "x/8", "''"),
    (TESTING, "infrastructure: {{http_from: [{}]}}"): ("10.0.0.0", "10.0.0.0/33"),
    (TESTING, "infrastructure: {{owner: {}}}"): ("''", "!vault x", "2026-02-30", "!!timestamp x", '"\\a"', "a" * 257),
    (TESTING, "infrastructure: {{cost_centre: {}}}"): ("''", "=", "<<"),
    (TESTING, "infrastructure: {{instance_type: {}}}"): ("t3 medium",),
    (TESTING, "infrastructure: {{manage: {}}}"): ("some",),
    (TESTING, "infrastructure: {{{}: 1}}"): ("[a]", "{a: b}", "? [a]", "instances: 1, instances"),
    (TESTING, "release: {{keep: {}}}"): ("0", '!!int ""', *NUMBERS),
    (TESTING, "release: {{expires_after_days: {}}}"): ("-1",),
    (TESTING, "takes_from: {}"): ("moon", "testing", "../x"),
    (TESTING, "host_name: {}"): ("a_b", "-a", "!!timestamp x"),
    (TESTING, "per_branch: {}"): ("!!bool x", "maybe", "1"),
    (TESTING, "builders: [{}]"): ("''",),
    (TESTING, "freezes: [{}]"): (
        *("2026-02-30", "'2026-02-30/2026-03-01'", "'2026-03-01'", "'2026-03-02/2026-03-01'", "x"),
    ),
    (TESTING, "server: {{base: {{timezone: {}}}}}"): ("Mars/Olympus", "../../etc/passwd", "''"),
    (TESTING, "server: {{php: {{version: {}}}}}"): ("'8'", "8.2", "''"),
    (TESTING, "server: {{php: {{memory_limit: {}}}}}"): ("512MB", "'-1'", "512"),
    (TESTING, "server: {{php: {{max_children: {}}}}}"): ("0", *NUMBERS),
    (TESTING, "server: {{redis: {{maxmemory: {}}}}}"): ("lots", "128M"),
}  # fmt: skip
"""Settings, each with values that alone make the file one that is refused with 3, where they are."""
BROKEN = ("? [a]\n: b", "a: [", "\t- x", "{[a]: b}", "<<<<<<< HEAD", "%", "x: *y", "\0")
"""Lines that no settings file may have."""
VARIABLES = {
    "AWS_PROFILE": ("nosuch", ""),
    "AWS_CONFIG_FILE": ("/dev/null/x", "pyproject.toml"),
    "AWS_MAX_ATTEMPTS": ("x",),
    "AWS_RETRY_MODE": ("x",),
    "AWS_CA_BUNDLE": ("/nosuch",),
    "AWS_ENDPOINT_URL": ("localhost:1",),
    "AWS_WEB_IDENTITY_TOKEN_FILE": ("/nosuch",),
    "DOIT_FILE": ("nosuch",),
    "DOIT_SEEK_FILE": ("1",),
    "GITHUB_REF_NAME": ("caf\udce9", "", "a b"),
    "GITHUB_TRIGGERING_ACTOR": ("caf\udce9", "\x1b[2J"),
    "TMPDIR": ("/nosuch", "/dev/null"),
    "TERM": ("", "nosuch"),
    "COLUMNS": ("x", "-1"),
    "GITHUB_STEP_SUMMARY": ("/nosuch/x",),
    "LC_ALL": ("C", "nosuch"),
}
RIGHT = (
    *(
        ["list"],
        ["list", "--json"],
        ["list", "--deps", "release"],
        ["info", "--no-status", "release"],
        ["help"],
    ),
    *(["help", "start"], ["graph"], ["cloud", "status"], ["dumpdb"], ["history"], ["plan", "infrastructure"]),
)
WRONG = (
    *(["run", "--db-file", "x"], ["list", "--backend", "json"], ["run", "-n", "-1"], [""], ["relaese"], ["-f", "x"]),
    *(["sweep", "--share", "500"], ["environment=moon", "list"], ["colour=red"], ["logs", "--jsn"], ["run", "--wait", "nan"]),
)  # fmt: skip
"""Command lines that end with 3, whatever else there is."""
COMMANDS = (*RIGHT, *WRONG)
NOBODY = 54321
"""A uid without an entry in passwd."""
HOMELESS = (("TRUSTED", "True"), ("XDG_STATE_HOME", ""))
"""Variables of a user who has no folder."""
KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
AMAZON_ALONE = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
}
"""What keeps `cloud: aws` on this machine."""
AMAZON = (
    ({"AWS_ENDPOINT_URL": "localhost:1", **KEYS}, "localhost:1"),
    ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/nosuch", "AWS_ROLE_ARN": "arn:aws:iam::1:role/x"}, "/nosuch"),
    ({"AWS_PROFILE": "nosuch"}, "nosuch"),
)
"""Variables of a shell that do not work with `cloud: aws`, and what the sentence must name."""
SNAPSHOTS = (["list", "--deps", "release"], ["info", "--no-status", "release"])
"""Commands that ask git for the tree."""
ALONE = {tuple(each): 3 for each in WRONG} | {tuple(each): 0 for each in RIGHT}
"""What each command line ends with where nothing else is odd."""
WORDS = st.text(st.characters(blacklist_categories=(), blacklist_characters="\0"), max_size=8).map(
    lambda text: os.fsdecode(text.encode("utf-8", "surrogatepass"))
)


@dataclass(frozen=True, kw_only=True)
class Example:
    """What is around one call. `wrong`: the exit code that it must have, None if several are right."""

    words: tuple[str, ...]
    checkout: str = "plain"
    file: str = ""
    content: bytes = b""
    added: str = ""
    branch: str = ""
    home: tuple[str, bytes] = ("", b"")
    environ: tuple[tuple[str, str], ...] = ()
    uid: int = 0
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    encoding: str = ""
    must: int | None = None
    says: str = ""


def mutated(file: str, base: str) -> st.SearchStrategy[bytes]:
    """The file's text, with one line changed, or bytes in it, or something else altogether."""
    lines = base.splitlines()
    keyed = [number for number, line in enumerate(lines) if ":" in line and not line.lstrip().startswith("#")]

    def value(number: int, scalar: str) -> bytes:
        key = lines[number].partition(":")[0]
        return "\n".join([*lines[:number], f"{key}: {scalar}", *lines[number + 1 :]]).encode(
            "utf-8", "surrogatepass"
        )

    def insert(number: int, raw: bytes) -> bytes:
        return b"\n".join(
            [*(each.encode() for each in lines[:number]), raw, *(each.encode() for each in lines[number:])]
        )

    numbers = st.integers(0, len(lines))
    return st.one_of(
        st.builds(value, st.sampled_from(keyed), st.sampled_from(SCALARS)),
        st.builds(value, st.sampled_from(keyed), WORDS),
        st.builds(insert, numbers, st.sampled_from([b"# caf\xe9", b"<<<<<<< HEAD", b"\t", b"? [a]\n: b", b"\0", b"x: *y", b"%"])),
        st.builds(insert, numbers, st.binary(max_size=12)),
        st.binary(max_size=40),
    )  # fmt: skip


def known(base: dict[str, str]) -> list[Example]:
    """The faults that were found in the field, and their siblings, one at a time."""
    git_states = {
        **dict.fromkeys(("a:b", "a$HOME", "a b", "{a}", "a\\b"), (0, "")),
        "conflict": (1, "conflicts that are not resolved"),
        "foreign": (1, "belongs to another user"),
        "empty": (1, "there is no commit HEAD"),
    }
    contents = (b"", b"{", b"[]", b"{}", b'{"pid": "x", "started": 1}', b"\xff")
    return [
        *(_refused(base, *where, value) for where, values in OUT_OF_BOUNDS.items() for value in values),
        *(_appended(base, file, line.encode(), file) for file in (PIPELINE, TESTING) for line in BROKEN),
        *(_appended(base, file, b"# caf\xe9", "is not UTF-8") for file in FILES if "production" not in file),
        *(
            Example(words=("history",), environ=((name, value),), must=0)
            for name, values in VARIABLES.items()
            for value in values
            if "AWS" in name
        ),
        *(
            Example(words=("history",), checkout="aws", environ=tuple(given.items()), must=1, says=named)
            for given, named in AMAZON
        ),
        *(
            Example(words=("cloud", "status"), home=(name, content))
            for name in ("server.json", "cloud.json")
            for content in contents
        ),
        *(
            Example(words=("plan",), added=name, must=1, says="the name is not UTF-8")
            for name in ("caf\udce9.php", "\udcff")
        ),
        *(Example(words=("history",), branch=name, must=3) for name in ("caf\udce9", "a\nb")),
        *(
            _of_nobody(words, trusted)
            for words in (("list",), ("history",), ("graph",), ("dumpdb",), *map(tuple, SNAPSHOTS))
            for trusted in (True, False)
        ),
        *(
            Example(words=tuple(SNAPSHOTS[0]), checkout=name, must=must, says=says)
            for name, (must, says) in git_states.items()
            if name != "foreign" or not os.geteuid()
        ),
        Example(words=("history",), checkout="dirty", must=0, says="-dirty"),
        *(
            Example(words=words, uid=NOBODY, environ=HOMELESS, must=1, says="has no entry in passwd")
            for words in (("cloud", "status"), ("history",))
            if not os.geteuid()
        ),
        *(Example(words=words, must=code) for words, code in ALONE.items()),
    ]


def examples(base: dict[str, str]) -> st.SearchStrategy[Example]:
    """One or two odd things at a time: more would only hide each other."""
    broken = st.sampled_from(FILES).flatmap(
        lambda file: st.builds(
            Example, words=st.just(("list",)), file=st.just(file), content=mutated(file, base[file])
        )
    )
    variables = st.builds(
        lambda words, pairs: Example(words=words, environ=tuple(pairs)),
        st.sampled_from([tuple(each) for each in COMMANDS]),
        st.lists(
            st.sampled_from([(name, value) for name, values in VARIABLES.items() for value in values]),
            max_size=3,
        ),
    )
    streams = st.builds(
        lambda words, stdin, stdout, stderr, encoding: Example(
            words=words, stdin=stdin, stdout=stdout, stderr=stderr, encoding=encoding
        ),
        st.sampled_from([("list",), ("graph",), ("help",), ("relaese",), ("caf\u00e9",), ("list", "--json")]),
        st.sampled_from(["", "closed"]),
        st.sampled_from(["", *ODD_STREAMS]),
        st.sampled_from(["", "", *ODD_STREAMS]),
        st.sampled_from(["", "ascii", "latin-1"]),
    )
    typed = st.lists(
        st.one_of(WORDS, st.sampled_from(["list", "branch=x", "--json", "-n", "help"])), max_size=3
    ).map(
        lambda words: (
            Example(words=("help", *words)) if {*words} & {"logs"} else Example(words=("list", *words))
        )
    )
    names = st.one_of(
        WORDS.map(lambda name: Example(words=tuple(SNAPSHOTS[0]), added=name.replace("/", "-"))),
        WORDS.map(lambda name: Example(words=("info", "--no-status", "moon"), branch=name)),
    )
    return st.one_of(broken, variables, streams, typed, names)


def _appended(base: dict[str, str], file: str, line: bytes, says: str) -> Example:
    """The file with one more line, for which it must be refused."""
    content = base[file].encode() + line + b"\n"
    return Example(words=("list",), file=file, content=content, must=3, says=says)


def _of_nobody(words: tuple[str, ...], trusted: bool) -> Example:
    """A call of a user without a name, in a checkout that is another's and read-only. `trusted`: git takes it nevertheless."""
    if os.geteuid():
        return Example(words=("list",))
    if trusted or words in (("list",), ("graph",)):
        return Example(words=words, uid=NOBODY, environ=(("TRUSTED", str(trusted)),), must=0)
    return Example(words=words, uid=NOBODY, must=1, says="belongs to another user")


def _refused(base: dict[str, str], file: str, setting: str, value: str) -> Example:
    """The file with one setting that is wrong, in the place of the one that it has: the last line."""
    line = setting.format(value)
    key, *_ = names = re.findall(r"(\w+):", setting.partition("{}")[0])
    kept, skipped = [], False
    for each in base[file].splitlines():
        skipped = each.startswith(f"{key}:") or (skipped and each.startswith((" ", "\t")))
        if not skipped:
            kept.append(each)
    content = "\n".join([*kept, line, ""]).encode()
    return Example(
        words=("list",), file=file, content=content, must=3, says=f"{file}:{len(kept) + 1}: {'.'.join(names)}"
    )


class Field:
    """Where examples are tried: a released project, copies of it in odd states, and the user's cloud."""

    def __init__(self, folder: Path, released: Path, state: Path) -> None:
        self.folder, self.released, self.state = folder, released, state
        self.base = {file: (released / file).read_text() for file in FILES}
        self.zygote = Zygote(folder)
        self.environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.copy = functools.cache(self._copy)
        self.trusting = folder / "trusting"
        (self.trusting / "git").mkdir(parents=True)
        (self.trusting / "git" / "config").write_text("[safe]\n\tdirectory = *\n")

    def _copy(self, state: str) -> Path:
        if state == "plain":
            return self._copied(self.folder / "plain" / "shop")
        root = self._copied(self.folder / "states" / state / "shop")
        if state == "conflict":
            git(root, "checkout", "-qb", "other")
            (root / "app" / "marked.php").write_text("<?php echo 2;\n")
            commit(root)
            git(root, "checkout", "-q", "main")
            (root / "app" / "marked.php").write_text("<?php echo 3;\n")
            commit(root)
            subprocess.run(["git", *ANYONE, "merge", "other"], cwd=root, capture_output=True, check=False)
        if state == "foreign":
            os.chown(root, 54321, 54321)
            os.chown(root / ".git", 54321, 54321)
        if state == "aws":
            shutil.copy(ROOT / "dodo.py", root)
            pipeline = root / "pipeline.yml"
            text = pipeline.read_text().replace("cloud: embedded", "cloud: aws")
            pipeline.write_text(text.replace("shop.localhost", "shop.example.com"))
        if state == "empty":
            git(root, "update-ref", "-d", "HEAD")
        return root

    def _copied(self, root: Path) -> Path:
        shutil.copytree(self.released, root, symlinks=True, ignore=shutil.ignore_patterns(".run"))
        return root

    def call(self, example: Example) -> tuple[int, str]:
        """Make what is around it, call, and put it back."""
        root = self.copy("plain" if example.checkout == "dirty" else example.checkout)
        environ = {**self.environ, "XDG_STATE_HOME": str(self.state), **dict(example.environ)}
        if example.checkout == "aws":
            environ = AMAZON_ALONE | environ
        if example.uid:
            environ.pop("HOME", None)
            environ["XDG_CONFIG_HOME"] = str(self.trusting if "TRUSTED" in environ else self.folder)
        if example.home[0]:
            state = self.folder / "home"
            shutil.rmtree(state, ignore_errors=True)
            cloud = state / "release-pipeline" / "cloud"
            shutil.copytree(
                self.state / "release-pipeline" / "cloud",
                cloud,
                ignore=shutil.ignore_patterns("objects", "*.sqlite*"),
            )
            (cloud / example.home[0]).write_bytes(example.home[1])
            environ["XDG_STATE_HOME"] = str(state)
        words = [*([f"branch={example.branch}"] if example.branch else []), *example.words]
        streams = {name: getattr(example, name) for name in ("stdin", "stdout", "stderr", "encoding")}
        if example.file:
            (root / example.file).write_bytes(example.content)
        added = self._add(root, example.added)
        try:
            return self.zygote.call(words, root, environ, example.uid, **streams)
        finally:
            if example.file:
                (root / example.file).write_text(self.base[example.file])
            if added:
                added.unlink()

    def _add(self, root: Path, name: str) -> Path | None:
        path = root / "app" / name
        try:
            if not name or os.path.lexists(path):
                return None
            path.write_text("<?php\n")
        except (OSError, ValueError):  # no name of a file
            return None
        return path


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """A project whose history has a release of uncommitted files, and its cloud."""
    state = tmp_path_factory.mktemp("state")
    with users_cloud(state):
        root = copy_paper(tmp_path_factory.mktemp("released") / "shop")
        run = run_in(root, paper_cloud())
        region = {"LocationConstraint": run.pipeline.region}
        run.cloud.client("s3").create_bucket(Bucket=run.bucket, CreateBucketConfiguration=region)
        (root / "app" / "uncommitted.php").write_text("<?php\n")
        history.add(run, Digest.of_bytes(b""))
        (root / "app" / "uncommitted.php").unlink()
        made = Field(tmp_path_factory.mktemp("field"), root, state)
        yield made
        made.zygote.close()


def judge(example: Example, code: int, said: str) -> None:
    """No traceback, no bug, a sentence with each failure, and the exit code that is right."""
    told = f"exit code {code} of {example}\n{said}"
    assert "Traceback" not in said, told
    assert "Exception ignored" not in said, told
    assert "this is a bug of the pipeline" not in said, told
    assert code in (0, 1, 3, 141), told
    if code in (1, 3) and not example.stderr:
        assert said.strip(), told
    if example.must is not None and not (example.stdout or example.stderr):
        assert code == example.must, told
        assert example.says in said, told
    if example.stdout == "full" and example.words in (("list",), ("graph",), ("help",)):
        assert code == 1, told
    if example.stdout == "closed" and example.words in (("list",), ("graph",), ("help",)):
        assert code == 0, told


def trial(field: Field, number: int, chosen: int | None) -> None:
    """Try so many examples: of the known ones all or half of the number, each once, and drawn ones.

    `chosen`: the seed of `--hypothesis-seed`; it is printed, with the number of the first example that failed.
    """
    drawn, tried, faults = secrets.randbits(32) if chosen is None else chosen, 0, []
    table = known(field.base)
    first = random.Random(drawn).sample(table, min(len(table), number // 2))

    def attempt(example: Example) -> None:
        nonlocal tried
        tried += 1
        try:
            judge(example, *field.call(example))
        except AssertionError:
            faults.append(tried)
            raise

    @seed(drawn)
    @so_many(number - len(first))
    @given(examples(field.base))
    def answered(example: Example) -> None:
        event(f"{example.words[:1]}")
        attempt(example)

    begun = time.monotonic()
    try:
        for each in first:
            attempt(each)
        answered()
    finally:
        fault = f"the first that failed was number {faults[0]}" if faults else "none failed"
        seconds = time.monotonic() - begun
        sys.stdout.write(f"--hypothesis-seed={drawn}: {tried} examples in {seconds:.0f} s, {fault}\n")


@pytest.fixture
def chosen(request) -> int | None:
    """The seed that was typed, None without one."""
    typed = request.config.getoption("--hypothesis-seed")
    return int(typed) if typed else None


def test_two_hundred_odd_surroundings_get_a_sentence(field, chosen):
    trial(field, 200, chosen)


@pytest.mark.long(short="tests/test_fuzz.py::test_two_hundred_odd_surroundings_get_a_sentence")
def test_two_thousand_odd_surroundings_get_a_sentence(field, chosen):
    trial(field, 2000, chosen)


def test_an_example_is_answered_as_by_a_process_of_its_own(field):
    """The zygote's answers are those of the program."""
    for words, more in (
        (["list"], {}),
        (["relaese"], {}),
        (["history"], {}),
        (["list"], {"DOIT_FILE": "x"}),
        ([""], {}),
    ):
        root = field.copy("plain")
        environ = {**field.environ, "XDG_STATE_HOME": str(field.state), **more}
        real = subprocess.run([DOIT, *words], cwd=root, env={**environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, check=False)  # fmt: skip
        assert field.zygote.call(words, root, environ) == (real.returncode, real.stdout + real.stderr)
