"""The application stands where people have it: in a folder, around the pipeline, beside it; and the pipeline in a folder."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from types import SimpleNamespace

import pytest
import zstandard

from tasks import application, source
from tasks.application import OWN
from tasks.bucket import layout
from tasks.graph import stage
from tasks.settings import Application
from tasks.source import NoFolder
from tasks.tarball import stage as tarball
from tasks.tarball import stored
from tasks.tarball.build.layers import Build
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (a fixture)
from tests.clouds import QuietCloud, run_in
from tests.conftest import DOIT, ROOT, commit, copy_project, git
from tests.tarball.test_reproducible import cloud  # noqa: F401  (a fixture)
from tests.tarball.test_stage import content, project, start  # noqa: F401  (fixtures)


def settings(root, text):
    """Put lines of settings in place of the application's path."""
    path = root / "pipeline.yml"
    assert "  path: app\n" in path.read_text()
    path.write_text(path.read_text().replace("  path: app\n", text))


def as_it_is(root):
    return root


def at_the_top(root):
    (root / "app").rename(root / "moved")
    ignored = (root / "moved" / ".gitignore").read_text() + (root / ".gitignore").read_text()
    for each in (root / "moved").iterdir():
        each.rename(root / each.name)
    (root / "moved").rmdir()
    (root / ".gitignore").write_text(ignored)
    settings(root, "  path: .\n")
    return root


def below(root):
    (root / "shop").mkdir()
    (root / "app").rename(root / "shop" / "src")
    settings(root, "  path: shop/src/\n")
    return root


def pipeline_in_a_folder(root):
    (root / "deploy").mkdir()
    for each in list(root.iterdir()):
        if each.name not in (".git", "deploy"):
            each.rename(root / "deploy" / each.name)
    (root / "deploy" / "app").rename(root / "shop")
    settings(root / "deploy", "  path: ../shop\n")
    return root / "deploy"


def pipeline_in_the_application(root):
    home = pipeline_in_a_folder(root)
    for each in (root / "shop").iterdir():
        each.rename(root / each.name)
    (root / "shop").rmdir()
    (home / "pipeline.yml").write_text(
        (home / "pipeline.yml").read_text().replace("path: ../shop", 'path: ".."')
    )
    return home


def members(packed):
    """Path, kind, mode, link and bytes of each member: all but the dates."""
    raw = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed), read_across_frames=True).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        return {
            each.name: (
                each.type,
                each.mode,
                each.linkname,
                archive.extractfile(each).read() if each.isfile() else b"",
            )
            for each in archive
        }


@pytest.mark.long(
    short="tests/tarball/test_places.py::test_at_the_top_the_tarball_has_the_application_s_files_and_none_of_the_pipeline"
)
@pytest.mark.promise("wherever-it-stands")
def test_the_example_gives_the_same_files_wherever_it_and_the_pipeline_stand(tmp_path, cloud):  # noqa: F811
    state, started = cloud()
    found, keys = {}, {}
    # the first one builds; the others must have the same keys, and take its layers
    for move in (at_the_top, as_it_is, below, pipeline_in_a_folder, pipeline_in_the_application):
        home = move(copy_project(tmp_path / move.__name__))
        commit(home, "moved") if git(home, "status", "--porcelain") else None
        answered = subprocess.run(
            [DOIT, "tarball"],
            cwd=home,
            env={**os.environ, "PYTHONPATH": str(home), "XDG_STATE_HOME": str(state)},
            capture_output=True,
            text=True,
        )
        assert answered.returncode == 0, answered.stdout + answered.stderr
        (digest,) = re.findall(r"\b[0-9a-f]{64}\b", answered.stdout)
        run = run_in(home, QuietCloud(REGION, started.home.load()))
        key = stored.stored_key(run, digest)
        manifest = run.store.read(layout.beside(key, "manifest.json")).value
        keys[move] = {name: each["key"] for name, each in manifest["layers"].items() if "key" in each}
        found[move] = members(run.store.open(key).read())
    expected = found.pop(as_it_is)
    assert {"pub/index.php", "vendor/autoload.php", "bin/magento"} <= expected.keys()
    assert len(keys[as_it_is]) > 3
    assert all(each == keys[as_it_is] for each in keys.values())
    assert {
        move.__name__: sorted(set(each.items()) ^ set(expected.items())) for move, each in found.items()
    } == {move.__name__: [] for move in found}


# --- with a tiny profile --------------------------------------------------------------------------


@pytest.fixture
def around(project):  # noqa: F811
    """The tiny application at the top, with names that Magento has there."""
    (project / "app" / "index.php").rename(project / "index.php")
    for name in (
        "app/etc/di.xml",
        "bin/magento",
        "lib/x.php",
        "pub/index.php",
        "setup/x.php",
        "dev/x",
        "build/x",
    ):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("<?php\n")
    (project / "composer.json").write_text("{}\n")
    settings(project, "  path: .\n")
    commit(project)
    return project


def state_of(run):
    """What decides whether something is built, and what a record of doit would say."""
    build = Build(run)
    return application.tree(run), {name: each.key for name, each in build.keys.items()}, tarball._key(build)


@pytest.mark.promise("the-pipelines-files-build-nothing", "everything-else-is-the-applications")
def test_at_the_top_the_tarball_has_the_application_s_files_and_none_of_the_pipeline(around, start):  # noqa: F811
    run = start(around)
    files = content(run, tarball.pack(Build(run)).facts["digest"])
    assert {each for each in files if not each.startswith("out/")} == {
        *("app/etc/di.xml", "bin/magento", "build/x", "composer.json", "dev/x"),
        *("index.php", "lib/x.php", "pub/index.php", "setup/x.php"),
    }


@pytest.mark.promise("the-pipelines-files-build-nothing")
def test_at_the_top_a_change_of_the_pipeline_s_own_files_builds_nothing(around, start):  # noqa: F811
    first = tarball.pack(Build(start(around)))
    before = state_of(start(around))
    for name in OWN:
        path = around / name
        folder = path.is_dir() or not ("." in name[1:] or name.startswith(".git"))
        if name == "pipeline.yml" or name.startswith(".run"):
            continue
        path = path / "changed.txt" if folder else path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.read_text() + "\n# changed\n" if path.exists() else "# changed\n")
    with (around / "pipeline.yml").open("a") as file:
        file.write("# changed\n")
    commit(around)
    again = start(around)
    assert state_of(again) == before
    outcome = tarball.pack(Build(again))
    assert (outcome.changed, outcome.facts) == (False, first.facts)


@pytest.mark.promise("everything-else-is-the-applications")
def test_at_the_top_a_change_of_the_application_builds_what_has_it_as_an_input(around, start):  # noqa: F811
    tree, layers, key = state_of(start(around))
    (around / "pub" / "index.php").write_text("<?php // changed\n")
    commit(around)
    pub = state_of(start(around))
    assert pub[0] != tree
    assert pub[1] == layers
    assert pub[2] != key
    (around / "index.php").write_text("<?php // changed\n")
    assert state_of(start(around))[1] != layers  # uncommitted ones count as well


def test_doit_compares_the_application_without_the_pipeline(around, start):  # noqa: F811
    def compared():
        run = start(around)
        made = {
            f"task_{each}": lambda: stage.stage(run, print, inputs=["."]) for each in run.environment.also
        }
        names = {"DOIT_CONFIG": {}, **made}
        stage.declare(names, run)
        return names["DOIT_CONFIG"]["check_file_uptodate"]().id(".")

    before = compared()
    (around / "docs").mkdir()
    (around / "docs" / "tour.md").write_text("changed\n")
    assert compared() == before
    (around / "index.php").write_text("changed\n")
    assert compared() != before


@pytest.mark.promise("keep-and-exclude")
def test_a_team_says_what_else_is_whose(around, start):  # noqa: F811
    (around / "docs" / "api").mkdir(parents=True)
    for name in ("docs/ours.md", "docs/api/theirs.md", "terraform/main.tf"):
        (around / name).parent.mkdir(exist_ok=True)
        (around / name).write_text("x\n")
    pipeline = (around / "pipeline.yml").read_text()
    said = "  path: .\n  keep: [README.md, docs/api]\n  exclude: [terraform]\n"
    (around / "pipeline.yml").write_text(pipeline.replace("  path: .\n", said))
    commit(around)
    files = application.files(start(around))
    assert {"README.md", "docs/api/theirs.md"} <= files.keys()
    assert not {"docs/ours.md", "terraform/main.tf"} & files.keys()


def test_an_application_in_a_folder_keeps_the_tree_that_git_has(project, start):  # noqa: F811
    assert application.tree(start(project)) == git(project, "rev-parse", "HEAD:app")
    for name in ("README.md", "docs", "tasks"):  # a folder has nothing of the pipeline
        (project / "app" / name).mkdir()
        (project / "app" / name / "x").write_text("x\n")
    commit(project)
    run = start(project)
    assert application.tree(run) == git(project, "rev-parse", "HEAD:app")
    assert "docs/x" in content(run, tarball.pack(Build(run)).facts["digest"])


def test_a_pipeline_in_a_folder_builds_a_branch_s_uncommitted_files_from_beside_it(project, start):  # noqa: F811
    home = pipeline_in_a_folder(project)
    commit(project)
    run = start(home)
    assert application.tree(run) == git(project, "rev-parse", "HEAD:shop")
    assert tarball.pack(Build(run)).changed
    assert tarball.differences(Build(run)) == []  # its commit points to it
    (project / "shop" / "index.php").write_text("<?php // not committed\n")
    (project / "shop" / "new.php").write_text("<?php // not committed\n")
    changed = start(home)
    files = content(changed, tarball.pack(Build(changed)).facts["digest"])
    assert files["index.php"] == files["new.php"] == files["out/en"] == "<?php // not committed\n"


@pytest.mark.parametrize("path", ["../..", "../nothing", "../shop/index.php", "nothing"])
@pytest.mark.promise("wherever-it-stands")
def test_a_path_that_is_no_folder_of_the_repository_is_refused(project, start, path):  # noqa: F811
    home = pipeline_in_a_folder(project)
    pipeline = (home / "pipeline.yml").read_text()
    (home / "pipeline.yml").write_text(pipeline.replace("path: ../shop", f"path: {path}"))
    with pytest.raises(NoFolder, match=rf"{re.escape(path)} is no folder of this repository"):
        application.tree(start(home))


@pytest.mark.parametrize(
    ("path", "keep", "theirs", "not_theirs"),
    [
        ("app", (), ["app/pub/index.php", "app/docs/x"], ["apps/x", "docs/x", "../app/x"]),
        (".", (), ["app/x", "build/x", "docsy"], ["docs/x", "build/ci/run", "dodo.py", "../app/x"]),
        (".", ("docs",), ["docs/x", "pub/x"], ["tasks/x"]),
        ("../shop", (), ["../shop/pub/x", "../shop/docs/x"], ["shop/x", "../shops/x", "dodo.py"]),
        ("..", (), ["../pub/x", "../docs/x"], ["dodo.py", "pub/x", "../../x"]),
        ("..", ("deploy/pub",), ["../pub/x", "pub/x"], ["docs/x"]),
    ],
)
def test_the_approver_s_list_knows_whose_a_path_is(tmp_path, path, keep, theirs, not_theirs):
    run = SimpleNamespace(
        root=tmp_path / "deploy",
        pipeline=SimpleNamespace(application=Application(path=path, profile="tiny", keep=keep)),
    )
    place = application.place(run)
    assert [each for each in (*theirs, *not_theirs) if place.has(each)] == theirs


def test_everything_at_the_top_of_this_repository_is_declared_as_the_pipeline_s_own():
    listed = git(ROOT, "ls-files", "-co", "--exclude-standard").splitlines()
    assert [each for each in listed if not source.within(each, [*OWN, "app"])] == []
