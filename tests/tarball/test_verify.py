"""verify: what two builds of a layer have in common by chance is found in one run, and so is what a layer's lists leave out."""

from __future__ import annotations

import contextlib
import json
import shutil
import time

import pytest

from tasks import source
from tasks.process import behind
from tasks.tarball import verify
from tasks.tarball.build import sandbox
from tasks.tarball.build.layers import Build
from tasks.tarball.build.overlay import BuildFailed
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (a fixture)
from tests.clouds import QuietCloud, run_in
from tests.conftest import EXAMPLE, SERVED, commit, copy_project, doit
from tests.tarball.test_stage import project, start  # noqa: F401  (fixtures)

PROFILE = (
    SERVED
    + """
layers:
  - name: page
    files: [shown, plain.txt, nothing-matches]
    present: [beside]
    commands: [[sh, -c, COMMAND]]
    outputs: [pub/out]
"""
)
FILES = (
    "plain.txt",
    "beside/a",
    "kept/a",
    "deep/er/b",
    "pub/index",
    *(f"shown/{each}" for each in "abcdefghij"),
)


@pytest.fixture
def found(project, start):  # noqa: F811
    """A function that verifies a layer of one command."""
    for name in FILES:
        path = project / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)

    def verified(command, more=""):
        profile = PROFILE.replace("COMMAND", json.dumps(f"mkdir -p pub/out; {command}"))
        (project / "applications" / "tiny" / "profile.yml").write_text(profile + more)
        commit(project, "again")
        build = Build(start(project))
        means = verify.means(build)
        assert means.lacks == ()
        return list(verify.verdicts(build, means))

    return verified


@pytest.mark.parametrize(
    "command",
    ["ls -U shown > pub/out/list", "date -u +%F > pub/out/day", "nproc > pub/out/cores"],
    ids=["order of a folder", "date", "number of cores"],
)
@pytest.mark.promise("verify-names-what-differs", "verify-changes-what-two-machines-differ-in")
def test_what_depends_on_the_machine_or_the_day_is_found_in_one_run(found, command):
    (page,) = found(command)
    assert [each.rpartition("/")[0] for each in page.differing] == ["pub/out"]


@pytest.mark.parametrize("command", ["ls shown > pub/out/list", "date -r plain.txt +%s > pub/out/changed"])
def test_what_is_sorted_or_a_file_s_own_is_the_same(found, command):
    (page,) = found(command)
    assert page.differing == ()


@pytest.mark.parametrize(
    ("command", "undeclared"),
    [
        ("cat kept/a || true", ("kept/a",)),
        ("[ -e kept/a ] || true", ("kept/a",)),
        ("[ -d deep ] || true", ("deep",)),
        ("cd shown && cat ../deep/er/b || true", ("deep/er/b",)),
        ("(cd pub && sh -c 'cat index') || true", ("pub/index",)),
        ("cat kept/unknown kept/../plain.txt shown/k || true", ()),
        ("cat pub/out/made || true", ()),
        ("find . > pub/out/list; [ -e list ] || true", ()),
    ],
)
@pytest.mark.promise("verify-names-what-is-not-declared")
def test_what_a_command_looks_for_in_vain_and_the_application_has_is_named(found, command, undeclared):
    (page,) = found(command)
    assert page.undeclared == undeclared


def test_it_is_named_too_where_the_build_fails_for_want_of_it(project, start, found):  # noqa: F811
    found("true")
    profile = project / "applications" / "tiny" / "profile.yml"
    profile.write_text(profile.read_text().replace("; true", "; cat kept/a; exit 1"))
    commit(project)
    build, seen = Build(start(project)), []
    with pytest.raises(BuildFailed, match="kept/a: No such file"):
        seen.extend(verify.verdicts(build, verify.means(build)))
    assert [each.undeclared for each in seen] == [("kept/a",)]


def test_what_is_kept_from_a_layer_on_purpose_is_not_named(found):
    (page,) = found("cat kept/a deep/er/b || true", more="    unseen: [kept]\n")
    assert page.undeclared == ("deep/er/b",)


@pytest.mark.parametrize(
    ("command", "unread"),
    [
        ("ls shown; stat plain.txt", {"shown", "plain.txt", "beside"}),
        ("cat shown/a plain.txt", {"beside"}),
        ("cat plain.txt beside/a; cd shown; exec cat b", set()),
    ],
)
@pytest.mark.promise("verify-names-what-is-never-read")
def test_a_pattern_of_whose_files_none_is_opened_is_a_remark(found, command, unread):
    (page,) = found(command)
    assert set(page.unread) == unread
    assert set(verify.never_read([page])["page"]) == unread


@pytest.mark.promise("verify-waits-for-its-storing")
def test_what_is_stored_behind_is_awaited_also_where_a_layer_fails(found):
    for command, ending in (("true", contextlib.nullcontext()), ("false", pytest.raises(BuildFailed))):
        done = []
        behind.begin("slow", lambda done=done: time.sleep(5) or done.append(0))
        with ending:
            found(command)
        assert done == [0]


BELOW = """
  - name: above
    after: [page]
    commands: [[sh, -c, "cat pub/out/made > above"]]
    outputs: [above]
"""


@pytest.mark.promise("verify-needs-no-bucket")
def test_a_cloud_without_a_bucket_is_no_obstacle_and_gets_none(project, server):  # noqa: F811
    profile = PROFILE.replace("COMMAND", '"mkdir -p pub/out; date -r plain.txt > pub/out/made"')
    (project / "applications" / "tiny" / "profile.yml").write_text(profile + BELOW)
    (project / "app" / "plain.txt").write_text("plain")
    settings = project / "pipeline.yml"
    settings.write_text(settings.read_text().replace("name: shop", "name: fresh"))
    commit(project)
    source._snapshot.cache_clear()
    build = Build(run_in(project, QuietCloud(REGION, server.home.load())))
    assert {each.layer: each.differing for each in verify.verdicts(build, verify.means(build))} == {
        "page": (),
        "above": (),
    }
    assert build.run.bucket not in [
        each["Name"] for each in build.run.cloud.client("s3").list_buckets()["Buckets"]
    ]


def test_a_pattern_counts_as_read_if_one_of_the_layers_that_a_layer_is_split_into_reads_it():
    about = {"declared": "style", "files": 1, "differing": (), "undeclared": ()}
    one = verify.Comparison(layer="style-a", unread=("words", "code"), **about)
    other = verify.Comparison(layer="style-b", unread=("code", "more"), **about)
    unknown = verify.Comparison(layer="style-c", unread=None, **about)
    assert verify.never_read([one, other, unknown]) == {"style": ["code"]}


LACKS = ("number of cores", "date: faketime", "order: disorderfs", "what is read is not known: strace")


@pytest.mark.parametrize(
    ("sandboxed", "lacks"),
    [(True, {LACKS[0], LACKS[1], LACKS[3]}), (False, {*LACKS})],
    ids=["tools", "sandbox"],
)
@pytest.mark.promise("verify-says-what-it-cannot")
def test_a_machine_without_the_tools_or_a_sandbox_says_what_is_not_looked_at(
    project,  # noqa: F811
    start,  # noqa: F811
    monkeypatch,
    tmp_path,
    sandboxed,
    lacks,
):
    (tmp_path / "bin").mkdir()
    for name in ("chown", "true"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    build = Build(start(project))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    if not sandboxed:
        monkeypatch.setattr(sandbox, "of", lambda folder: None)
    means = verify.means(build)
    assert {each for each in LACKS if any(each in lack for lack in means.lacks)} == lacks
    assert (means.traced, means.other.before, means.other.shuffled) == (False, (), sandboxed)


@pytest.mark.parametrize(
    ("profile", "code", "lines"),
    [
        (
            "date +%F; cat kept/a; cat plain.txt; true",
            1,
            [
                "page: looks for kept/a, and does not see it (applications/tiny/profile.yml: layers.page: files, present or unseen)",
                "page: the same, 1 files",
                "page: never reads shown (applications/tiny/profile.yml: layers.page)",
            ],
        ),
        ("date +%F > pub/out/day; cat plain.txt shown/a", 1, ["page: 1 paths differ: pub/out/day"]),
        ("cat plain.txt shown/a", 0, ["page: the same, 1 files"]),
    ],
)  # fmt: skip
def test_the_command_says_all_of_it_and_fails_where_a_tarball_may_be_wrong(tmp_path, profile, code, lines):
    root = copy_project(tmp_path / "copy")
    (root / "applications" / "tiny").mkdir()
    told = PROFILE.replace("COMMAND", json.dumps(f"mkdir -p pub/out; touch pub/out/made; {profile}"))
    told = told.replace("    present: [beside]\n", "")
    (root / "applications" / "tiny" / "profile.yml").write_text(told)
    settings = root / "pipeline.yml"
    settings.write_text(settings.read_text().replace(EXAMPLE, "profile: tiny"))
    shutil.rmtree(root / "app")
    for name in FILES:
        (root / "app" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "app" / name).write_text(name)
    commit(root)
    answered = doit(root, "verify")
    shown = [each for each in answered.stdout.splitlines() if each.startswith("page: ")]
    assert (answered.returncode, shown) == (code, lines), answered.stdout + answered.stderr


@pytest.mark.long(
    short="tests/tarball/test_verify.py::test_what_depends_on_the_machine_or_the_day_is_found_in_one_run"
)
def test_the_layers_of_the_example_have_the_same_bytes_and_read_what_they_declare(start, tmp_path):  # noqa: F811
    copy_project(tmp_path / "copy")
    build = Build(start(tmp_path / "copy"))
    found = list(verify.verdicts(build, verify.means(build)))
    assert {each.layer: (each.differing, each.undeclared) for each in found} == {
        each.layer: ((), ()) for each in found
    }
    assert len(found) == len(build.keys)
    unread = {name: patterns for name, patterns in verify.never_read(found).items() if patterns}
    assert unread == {"static": ["app/code/*/*/etc/**/module.xml", "app/design/{area}/{theme}/*.*"]}, (
        "Magento reads them, for the order of modules and the parents of themes"
    )
