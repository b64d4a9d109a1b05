"""The pipeline comes into somebody's repository, and later versions of it do: nothing of theirs is lost."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml

from tasks import source
from tasks.application import OWN
from tests.conftest import DOIT, ROOT, commit, copy_project, git
from tests.paper import users_cloud, without_layers, without_machines
from tests.runners import FILES, lines

PAGE = "<p>It works.</p>\n"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """The pipeline's own repository, with a profile whose application is a page that nothing builds."""
    root = copy_project(tmp_path_factory.mktemp("template") / "pipeline")
    profile = root / "applications" / "page"
    shutil.copytree(root / "applications" / "magento2", profile)
    without_layers(profile)
    (profile / "profile.yml").write_text(
        (profile / "profile.yml")
        .read_text()
        .replace("- composer\n", "- nodejs\n")
        .replace("sbom: composer.lock\n", "")
    )
    (profile / "starter" / "pub").mkdir(parents=True)
    (profile / "starter" / "pub" / "index.html").write_text(PAGE)
    for each in (
        "app",
        "bench",
        "tests",
    ):  # copier takes its time for each file, also for those that it leaves out
        shutil.rmtree(root / each)
    commit(root, "a page")
    git(root, "gc", "--quiet")
    return root


@pytest.fixture
def theirs(tmp_path):
    """A repository with an application at its top."""
    root = tmp_path / "My Shop"
    for name, text in {
        ".gitignore": "/vendor/\n/build/*\n!/build/ci/\n*.pyc",
        "README.md": "ours\n",
        "composer.json": "{}\n",
        "pub/index.php": "<?php\n",
        "build/x.sh": "true\n",
        ".github/dependabot.yml": "version: 2\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "pub" / "logo.png").write_bytes(bytes(range(256)))
    git(root, "init", "-qb", "trunk")
    commit(root, "first")
    return root


def call(of, verb, *words, cwd=None, **environ):
    """`build/ci/run new` and `update`, without what installs copier."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "tasks.template", verb, *map(str, words)],
        cwd=cwd or of.parent,
        env={**os.environ, "PYTHONPATH": str(of), "GIT_CONFIG_GLOBAL": os.devnull, **environ},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=400,
    )


def new(template, folder, *words, code=0, said=""):
    answered = call(template, "new", folder, *words)
    assert answered.returncode == code, answered.stdout + answered.stderr
    assert re.search(said, answered.stdout + answered.stderr), answered.stdout + answered.stderr
    return folder


def update(project, *words, code=0, said=""):
    answered = call(project, "update", *words)
    assert answered.returncode == code, answered.stdout + answered.stderr
    assert re.search(said, answered.stdout + answered.stderr), answered.stdout + answered.stderr


def change(root, name, line, text):
    path = root / name
    assert line in path.read_text()
    path.write_text(path.read_text().replace(line, text, 1))


def doit(root, *arguments):
    answered = subprocess.run(
        [DOIT, *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root}:{ROOT}"},  # the project's tasks, and our tests
        capture_output=True,
        text=True,
        timeout=400,
        stdin=subprocess.DEVNULL,
    )
    assert answered.returncode == 0, answered.stdout + answered.stderr
    return answered.stdout


def files(root):
    """Every file, with its content."""
    found = (
        each for each in root.rglob("*") if each.is_file() and ".git" not in each.relative_to(root).parts
    )
    return {each.relative_to(root).as_posix(): each.read_bytes() for each in found}


# --- new ------------------------------------------------------------------------------------------


@pytest.mark.promise("packages-come-along", "tests-stay")
def test_a_new_folder_has_the_pipeline_one_profile_and_a_page_and_releases_it(template, tmp_path):
    root = new(template, tmp_path / "shop", "--profile", "page", said="application in app\n")
    assert {each.name for each in root.iterdir()} == {
        *(".copier-answers.yml", ".github", ".gitignore", ".gitlab-ci.yml", "app", "applications"),
        *("bitbucket-pipelines.yml", "build", "docs", "dodo.py", "environments", "pipeline.yml", "playbooks"),
        *(
            "pyproject.toml",
            "requirements-new.lock",
            "requirements.lock",
            "requirements.yml",
            "roles",
            "tasks",
        ),
    }
    came = files(root)
    assert came.pop("app/pub/index.html").decode() == PAGE
    assert {name for name in came if name.startswith("applications/") and "page" not in name} == set()
    ours = files(template)
    assert {name for name in came if came[name] != ours.get(name)} == {
        *(".copier-answers.yml", "build/ci/packages", "pipeline.yml")
    }
    assert came["build/ci/packages"] == ours["build/ci/packages"] + b"nodejs\n"
    assert [name for name in came if not source.within(name, OWN)] == []
    assert os.access(root / "build" / "ci" / "run", os.X_OK)
    assert yaml.safe_load((root / "pipeline.yml").read_text()) == {
        "name": "shop",
        "default_branch": "main",
        "application": {"path": "app", "profile": "page"},
        "dns_zone": "shop.localhost",
        "cloud": "embedded",
        "region": "eu-central-1",
    }
    git(root, "init", "-qb", "main")
    without_machines(root)
    commit(root, "the first")
    with users_cloud(tmp_path):
        assert "released in" in doit(root, "release")
        assert "nothing to do in" in doit(root, "release")
    assert git(root, "status", "--porcelain") == ""
    tested = subprocess.run([root / "build" / "ci" / "run", "test"], capture_output=True, text=True)
    assert (tested.returncode, tested.stdout) == (1, "")
    assert tested.stderr.startswith("setup: the pipeline's tests and figures stay in its own repository")


def locked(name):
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


def test_what_new_installs_beside_the_pipeline_changes_no_package_of_it():
    new, release = locked("requirements-new.lock"), locked("requirements.lock")
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["new"]
    named = {each.partition("==")[0].lower() for each in extra}
    assert named == {"copier", "gitpython", "pyyaml"}, "what `tasks/template.py` and `tasks/source.py` import"
    assert named <= new.keys(), "build/ci/lock makes the lock of these alone"
    assert "copier" not in release
    assert {name: version for name, version in new.items() if release.get(name, version) != version} == {}


@pytest.mark.promise("policies-name-this-project", "nothing-is-overwritten", "gitignore-stays")
def test_a_repository_with_an_application_at_its_top_keeps_every_file_of_its_own(template, theirs):
    before = files(theirs)
    zone = ("--dns-zone", "web-shop.example.com")
    new(template, theirs, "--profile", "page", *zone, said="application in \\.\n")
    came = files(theirs)
    assert {name for name in before if came[name] != before[name]} == {".gitignore"}
    assert came[".gitignore"].decode().startswith("/vendor/\n/build/*\n!/build/ci/\n*.pyc\n/.run/\n")
    assert came[".gitignore"].count(b"*.pyc") == 1
    settings = yaml.safe_load(came["pipeline.yml"])
    assert (settings["name"], settings["default_branch"]) == ("my-shop", "trunk")
    assert settings["application"] == {"path": ".", "profile": "page"}
    github, bitbucket = (yaml.load(came[FILES[each]], yaml.BaseLoader) for each in ("github", "bitbucket"))
    assert github["on"]["push"]["branches"] == list(bitbucket["pipelines"]["branches"]) == ["trunk"]
    assert not re.search(rb"\bmain\b", came[FILES["github"]] + came[FILES["bitbucket"]])
    policy = came["build/ci/iam/builder.json"] + came["build/ci/iam/releaser.json"]
    assert set(re.findall(rb"s3:::([\w-]+)", policy)) == {b"my-shop-releases"}
    assert set(re.findall(rb'"\*\.(.+)"', policy)) == {b"web-shop.example.com"}
    assert not re.search(rb"(?<![\w-])shop\b", policy)
    commit(theirs, "the pipeline")
    doit(theirs, "list")
    assert git(theirs, "status", "--porcelain") == ""
    assert git(theirs, "ls-files", "build/ci/run", "build/x.sh") == "build/ci/run"


@pytest.mark.promise("ci-files-at-the-top")
def test_in_a_folder_of_a_monorepo_ci_reads_its_files_at_the_top(template, theirs):
    new(template, theirs / "deploy", "--profile", "page", "--ci", "gitlab", said="application in \\.\\.\n")
    assert {each.name for each in theirs.iterdir()} == {
        *(
            ".git",
            ".github",
            ".gitignore",
            ".gitlab-ci.yml",
            "README.md",
            "build",
            "composer.json",
            "deploy",
            "pub",
        )
    }
    assert not (theirs / "deploy" / ".gitlab-ci.yml").exists()
    typed = lines(yaml.load((theirs / ".gitlab-ci.yml").read_text(), yaml.BaseLoader))
    assert "deploy/build/ci/run start" in typed
    assert all((theirs / "deploy/build/ci/run").exists() for each in typed if "build/ci/run" in each)
    assert "[deploy/.run/logs/, deploy/.run/report.md]" in (theirs / ".gitlab-ci.yml").read_text()
    commit(theirs, "the pipeline")
    doit(theirs / "deploy", "list")
    update(theirs / "deploy", said="nothing has changed")


@pytest.mark.promise("docs-stay")
def test_the_docs_stay_away_where_the_team_has_its_own(template, theirs):
    (theirs / "docs").mkdir()
    (theirs / "docs" / "shop.md").write_text("ours\n")
    commit(theirs)
    new(template, theirs, "--profile", "page", "--ci", "none")
    assert [each.name for each in (theirs / "docs").iterdir()] == ["shop.md"]
    assert not any((theirs / each).exists() for each in FILES.values())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["shop", "--profile", "pag"],
            3,
            r"did you mean page\?[^\n]*\n    build/ci/run new shop --profile page$",
        ),
        (["shop"], 3, r"profile \(none\): .*known: magento2, page"),
        (
            ["shop", "--profle", "page"],
            3,
            r"--profle is not taken.*\n    build/ci/run new shop --profile page$",
        ),
        (["--profile", "page"], 3, r"required: folder\n    build/ci/run new --help$"),
        (["shop", "--profile", "page", "--cloud", "asw"], 3, "invalid choice: 'asw'"),
        (["shop", "--profile", "page", "--cloud", "aws"], 3, r"dns_zone.*must be given for the cloud aws"),
        (["shop", "--profile", "page", "--name", "Shop_1"], 3, "name.*2 to 40 lower case letters"),
        (["shop", "--profile", "magento2"], 1, r"no page to begin with \(.*\bpage\b.* have one\)"),
        (["pipeline/shop", "--profile", "page"], 1, "is in the pipeline's own repository"),
    ],
)
def test_a_refusal_says_what_to_type_and_writes_nothing(template, words, code, said):
    answered = call(template, "new", *words)
    assert (answered.returncode, answered.stdout) == (code, "")
    assert re.search(said, answered.stderr.strip(), re.DOTALL), answered.stderr
    assert not (template.parent / "shop").exists()


def files_in_the_way(root):
    (root / "pyproject.toml").write_text("[project]\n")
    (root / "roles").write_text("admin\n")
    (root / "tasks").mkdir()
    (root / "tasks" / "cron.php").write_text("<?php\n")
    shutil.copytree(ROOT / "playbooks", root / "docs")
    return r"nothing is written: pyproject.toml, roles, tasks/\n    build/ci/run new .*My Shop/deploy. --profile page$"


def an_ignored_folder(root):
    (root / ".gitignore").write_text("build/\n")
    return r"new: \.gitignore:1:build/ ignores files of the pipeline.*build/ci/iam/branch.json"


def a_template_before(root):
    (root / ".copier-answers.yml").write_text("_src_path: elsewhere\n")
    return r"has a \.copier-answers\.yml already"


@pytest.mark.parametrize("given", [files_in_the_way, an_ignored_folder, a_template_before])
@pytest.mark.promise("nothing-is-overwritten")
def test_nothing_of_theirs_is_overwritten_or_hidden(template, theirs, given):
    said = given(theirs)
    git(theirs, "rm", "-rq", "--cached", ".")
    commit(theirs)
    before = files(theirs)
    new(template, theirs, "--profile", "page", code=1, said=said)
    assert files(theirs) == before


@pytest.mark.promise("new-refuses-uncommitted")
def test_what_git_cannot_undo_is_not_touched(template, theirs):
    (theirs / "pub" / "new.php").write_text("<?php\n")
    new(template, theirs, "--profile", "page", code=1, said="uncommitted changes: pub/new.php\n")
    shutil.rmtree(theirs / ".git")
    new(template, theirs, "--profile", "page", code=1, said=r"is in no git repository\n    cd .*git init")


def test_a_version_is_a_commit_of_the_pipeline(template, tmp_path):
    (template / "roles" / "NEW").write_text("not committed\n")
    new(template, tmp_path / "shop", "--profile", "page", code=1, said=r"uncommitted changes: roles/NEW\n")
    (template / "roles" / "NEW").unlink()


def test_the_source_is_where_others_find_it_and_has_no_password(tmp_path):
    root = copied(tmp_path / "pipeline")
    assert source.address(root) == str(root)
    git(root, "remote", "add", "origin", "https://kim:secret@example.com/pipeline")
    assert source.address(root) == str(root)  # it has not been pushed
    git(root, "update-ref", "refs/remotes/origin/main", "HEAD")
    assert source.address(root) == "git+https://example.com/pipeline"


def copied(root):
    root.mkdir()
    (root / "x").write_text("x\n")
    git(root, "init", "-qb", "main")
    commit(root)
    return root


# --- update ---------------------------------------------------------------------------------------


@pytest.fixture
def used(template, theirs):
    """A repository with the pipeline in it."""
    new(template, theirs, "--profile", "page")
    commit(theirs, "the pipeline")
    return theirs


@pytest.fixture(scope="module")
def later(template):
    """A later version: one more line, one more file, two files less."""
    git(template, "checkout", "-qb", "later")
    change(template, "playbooks/server.yml", "---\n", "---\n# a later version\n")
    (template / "roles" / "base" / "README").write_text("new\n")
    git(template, "rm", "-q", "docs/speed.md", "docs/image.md")
    made = commit(template, "later")
    git(template, "checkout", "-q", "main")
    return made


@pytest.mark.promise(
    "both-changes-are-merged", "deleted-stays-deleted", "changed-files-stay", "updates-keep-changes"
)
def test_an_update_has_both_changes_and_loses_none(used, later):
    playbook = used / "playbooks" / "server.yml"
    playbook.write_text(playbook.read_text() + "# ours\n")
    change(used, "pipeline.yml", "eu-central-1", "eu-west-1")
    (used / "docs" / "image.md").write_text("we bake in another way\n")
    (used / "environments" / "staging.yml").unlink()
    commit(used, "ours")
    update(
        used, "--to", later, said=r"deleted: docs/speed.md; kept, because you changed them.*: docs/image.md\n"
    )
    assert "# a later version\n" in playbook.read_text()
    assert playbook.read_text().endswith("# ours\n")
    assert "eu-west-1" in (used / "pipeline.yml").read_text()
    assert (used / "roles" / "base" / "README").exists()
    assert (used / "docs" / "image.md").read_text() == "we bake in another way\n"
    assert not (used / "environments" / "staging.yml").exists()
    assert (used / "pub" / "logo.png").read_bytes() == bytes(range(256))
    assert "branches: [trunk]" in (used / FILES["github"]).read_text()
    commit(used, "a later version")
    update(used, "--to", later, said="nothing has changed")


@pytest.mark.promise("a-conflict-keeps-both")
def test_a_conflict_is_shown_and_both_sides_are_in_the_file(used, later):
    change(used, "playbooks/server.yml", "---\n", "---\n# ours\n")
    commit(used, "ours")
    update(
        used,
        "--to",
        later,
        code=1,
        said=r"both are in the file: playbooks/server.yml\n    \$EDITOR playbooks",
    )
    text = (used / "playbooks" / "server.yml").read_text()
    assert re.search(r"<<<<<<<.*# ours\n=======\n# a later version\n>>>>>>>", text, re.DOTALL)
    assert "UU playbooks/server.yml" in git(used, "status", "--porcelain")
    update(used, code=1, said="has conflicts that are not resolved")


def test_an_update_is_refused_where_there_is_nothing_to_compare(template, used):
    update(used, "--to", "v9", code=1, said=r"update: .*v9.*\n    build/ci/run update")
    update(template, code=1, said="this repository did not come from a template")
    answered = call(used, "new", "other", "--profile", "page")
    assert answered.returncode == 1
    assert f"the template is {template}\n" in answered.stderr
