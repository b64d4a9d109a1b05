"""Layers: named by their inputs, built once, taken from the cache, and built again if the cached one is damaged."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tasks.bucket import cache, layout
from tasks.process import behind
from tasks.profile import Inheritance, ProfileLayerUnknown
from tasks.tarball import stage as tarball
from tasks.tarball import stored, verify
from tasks.tarball.build import archive, keys, layers, overlay, sandbox, tar
from tasks.tarball.build.layers import Build
from tasks.tarball.build.overlay import BuildFailed
from tasks.tarball.build.sandbox import Allowed, Sandbox
from tests.cloud.embedded.conftest import server  # noqa: F401  (a fixture)
from tests.conftest import ROOT, SERVED, commit
from tests.tarball.test_stage import change_profile, content, project, start  # noqa: F401  (fixtures)

SITE = (
    SERVED
    + """
options: {themes: [plain, child]}
tools: {shell: [sh, -c, echo 1]}
inherits: {theme: {file: "themes/{theme}/parent", match: "(.+)"}}
layers:
  - name: library
    files: [library.txt]
    commands: [[sh, -c, "mkdir -p lib && cp library.txt lib/ && echo built >&2"]]
    outputs: [.]
    promises: [lib/library.txt]
  - name: style
    after: [library]
    for_each: {theme: themes}
    files: ["themes/{theme}", "code/**/*.css"]
    commands:
      - [sh, -c, "mkdir -p out/{theme} && cat lib/* themes/*/style code/*/*.css > out/{theme}/style; echo {key} > out/version"]
    outputs: [out]
    promises: ["out/{theme}/*"]
  - name: listing
    files: [.gitattributes]
    present: [code]
    commands: [[sh, -c, "find . -type f ! -name listing | sort > listing; rm -f code/a/one.php"]]
    outputs: [listing]
stamps: {out/version: [style]}
"""
)


@pytest.fixture
def site(project):  # noqa: F811
    """A project that is no shop: only its profile says so."""
    (project / "applications" / "tiny" / "profile.yml").write_text(SITE)
    files = {
        "library.txt": "library\n",
        "themes/plain/style": "plain\n",
        "themes/child/style": "child\n",
        "themes/child/parent": "plain",
        "code/a/x.css": "css\n",
        "code/a/one.php": "php\n",
        "readme": "read\n",
    }
    for name, text in files.items():
        path = project / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    commit(project)
    return project


@pytest.fixture
def built(site, start, monkeypatch):  # noqa: F811
    """A function that packs in a new run and tells which layers were built."""
    seen = []
    real = layers.build_below

    def build_below(build, name, place, **how):
        seen.append(name)
        return real(build, name, place, **how)

    monkeypatch.setattr(layers, "build_below", build_below)

    def again(**variables):
        seen.clear()
        run = start(site, **variables)
        outcome = tarball.pack(Build(run))
        return run, outcome, sorted(seen)

    return again


def change(site, name, text="changed\n"):
    (site / "app" / name).write_text(text)
    commit(site)


@pytest.mark.parametrize(
    ("changed", "rebuilt"),
    [
        ("readme", []),
        ("code/a/one.php", []),
        ("code/a/x.css", ["style-child", "style-plain"]),
        ("themes/child/style", ["style-child"]),
        ("themes/plain/style", ["style-child", "style-plain"]),
        ("library.txt", ["library", "style-child", "style-plain"]),
    ],
)
@pytest.mark.promise("layer-key-names-all-inputs", "only-changed-layers-are-built")
def test_a_change_builds_the_layers_that_are_made_of_it_and_no_others(site, built, changed, rebuilt):
    _, first, _ = built()
    change(site, changed, f"{time.time_ns()}\n")  # content that no other test has stored
    run, outcome, seen = built()
    assert seen == rebuilt
    assert outcome.facts != first.facts
    assert content(run, outcome.facts["digest"])[changed].strip().isdigit()


@pytest.mark.promise("a-layer-sees-its-files-only", "removed-files-of-lower-layers-stay")
def test_a_layer_sees_what_it_names_and_no_more_and_what_it_removes_stays(built):
    run, outcome, _ = built()
    files = content(run, outcome.facts["digest"])
    assert files["listing"].split() == ["./code/a/one.php", "./code/a/x.css"]
    assert files["code/a/one.php"] == "php\n"
    assert files["out/plain/style"] == "library\nplain\ncss\n"
    assert files["out/child/style"] == "library\nchild\nplain\ncss\n"


@pytest.mark.promise("tarball-is-joined")
def test_a_stored_layer_is_in_the_tarball_as_it_is_compressed_though_it_had_a_stamp(site, built):
    run, outcome, _ = built()
    body = run.store.open(stored.stored_key(run, outcome.facts["digest"])).read()
    for name in ("library", "style-child", "style-plain"):
        _, key = objects(run, name)
        members, end, _ = run.store.open(key).read().partition(archive.end_frame())
        assert end
        assert members in body, name


def test_a_stamp_stands_for_the_layers_that_it_names(site, built):
    run, outcome, _ = built()
    before = content(run, outcome.facts["digest"])["out/version"]
    change(site, "readme", "other\n")
    run, outcome, _ = built()
    assert content(run, outcome.facts["digest"])["out/version"] == before
    change(site, "themes/child/style", "other\n")
    run, outcome, _ = built()
    assert content(run, outcome.facts["digest"])["out/version"] != before


@pytest.mark.promise("copies-give-the-same-bytes")
def test_without_overlays_a_copy_gives_the_same_bytes(site, built, start, monkeypatch, tmp_path):  # noqa: F811
    run, _, _ = built()
    build = Build(run)
    assert "library" in build.keys
    for apart in (Sandbox(as_root=os.geteuid() == 0, overlays=False), None):
        monkeypatch.setattr(sandbox, "of", lambda folder, answer=apart: answer)
        for name in build.keys:
            copied = layers.make(Build(start(site)), name, tmp_path / "layer")
            assert copied.digest == layers.ensure(build, name).digest, name


UNKIND = (
    SERVED
    + """
exclude: [var]
layers:
  - name: below
    files: [keep, library.txt]
    commands:
      - - sh
        - -c
        - |
          mkdir -p out/a out/var var other empty && echo 1 > out/a/x && echo 2 > out/var/y && echo 3 > var/z && echo 4 > other/file
          chmod 600 out/a/x && echo 5 > out/run && chmod 4700 out/run && chmod 1777 out/a && ln -s a out/link && ln out/run out/again
          rm -rf keep && mkdir keep && echo new > keep/new && rm library.txt && mv out/a out/b
    outputs: [out, keep, library.txt]
    promises: [out/b/x]
  - name: above
    after: [below]
    files: [keep, library.txt]
    commands: [[sh, -c, "find . -mindepth 1 ! -name seen -printf '%p %m %y %l\\n' | sort > seen; cat keep/* >> seen"]]
    outputs: [seen]
    promises: [seen]
"""
)


@pytest.mark.promise("a-made-layer-is-used-as-it-is", "copies-give-the-same-bytes")
def test_a_layer_sees_the_one_below_alike_as_it_was_made_as_it_was_kept_unpacked_and_copied(
    project,  # noqa: F811
    start,  # noqa: F811
    monkeypatch,
    tmp_path,
):
    (project / "applications" / "tiny" / "profile.yml").write_text(UNKIND)
    (project / "app" / "keep").mkdir()
    (project / "app" / "keep" / "old").write_text("old\n")
    (project / "app" / "library.txt").write_text(f"{time.time_ns()}\n")
    commit(project)
    build = Build(start(project))
    seen = {"made": layers.ensure(build, "above").digest}
    seal()
    for what in ("kept", "unpacked", "copied", "without a sandbox"):
        if what == "unpacked":
            shutil.rmtree(project / ".run" / "unpacked")
        if what == "copied":
            apart = Sandbox(as_root=os.geteuid() == 0, overlays=False)
            monkeypatch.setattr(sandbox, "of", lambda folder, answer=apart: answer)
        if what == "without a sandbox":
            monkeypatch.setattr(sandbox, "of", lambda folder: None)
        with monkeypatch.context() as patched:
            if what == "kept":
                patched.setattr(archive, "unpack", None)
            seen[what] = layers.make(Build(start(project)), "above", tmp_path / "layer").digest
    path = layers.ensure(build, "above").path
    with path.open("rb") as raw:
        (entry,) = ((e.name, b"".join(e.content).decode()) for e in tar.of_archive(raw))
    assert set(seen.values()) == {seen["made"]}, (seen, entry)
    assert entry[1].splitlines() == [
        "./keep 755 d ",
        "./keep/new 644 f ",
        "./keep/old 644 f ",
        "./library.txt 644 f ",
        "./out 755 d ",
        "./out/again 755 f ",
        "./out/b 755 d ",
        "./out/b/x 644 f ",
        "./out/link 777 l a",
        "./out/run 755 f ",
        "./out/var 755 d ",
        "./out/var/y 644 f ",
        "new",
        "old",
    ]


@pytest.mark.promise("unpacked-layers-stay", "unpacked-layers-are-sealed")
def test_a_layer_is_unpacked_once_for_all_runs_unless_somebody_has_touched_it(site, built, monkeypatch):
    unpacked = []
    real = archive.unpack
    monkeypatch.setattr(archive, "unpack", lambda *args, **named: unpacked.append(0) or real(*args, **named))
    change(site, "library.txt", f"{time.time_ns()}\n")
    built()
    seal()
    change(site, "themes/child/style", f"{time.time_ns()}\n")
    _, _, seen = built()
    assert (seen, unpacked) == (["style-child"], [])
    (kept,) = (site / ".run" / "unpacked").glob("library.*/lib/library.txt")
    kept.write_text("touched\n")
    change(site, "themes/child/style", f"{time.time_ns()}\n")
    run, outcome, seen = built()
    assert (seen, unpacked) == (["style-child"], [0])
    seal()
    assert content(run, outcome.facts["digest"])["out/child/style"].startswith(
        (site / "app" / "library.txt").read_text()
    )


def seal():
    """Wait for what nobody waits for."""
    behind.finish()
    for thread in threading.enumerate():
        if thread.daemon and thread.name in ("library", "below"):
            thread.join(30)


@pytest.mark.promise("packing-is-behind-the-work")
def test_a_layer_above_starts_while_the_one_below_is_still_packed(site, built, start, monkeypatch):  # noqa: F811
    change(site, "library.txt", f"{time.time_ns()}\n")
    go, real = threading.Event(), archive.pack

    def pack(layers, *args, **named):
        go.wait(30)
        return real(layers, *args, **named)

    monkeypatch.setattr(archive, "pack", pack)
    build = Build(start(site))
    tarball.layer(build, name="library")
    tarball.layer(build, name="style-child")
    assert not any(each.stored.done() for each in build.begun.values())
    assert not layers.known(build, "library")
    go.set()
    tarball.pack(build)
    assert layers.known(build, "library")


def run_in(tree, folder, command):
    """Run a command in an overlay of the folder."""
    overlay.run(
        tree,
        [["sh", "-c", command]],
        layer="links",
        reach=Allowed(network=False, caches=None, private=()),
        environment={"PATH": os.environ["PATH"]},
        hidden=(),
        say=lambda words: None,
        log_path=folder / "log",
        shown=folder / "log",
        minutes=1,
    )


@pytest.mark.promise("copies-give-the-same-bytes")
def test_without_overlays_links_to_folders_and_empty_folders_are_kept(tmp_path):
    (tmp_path / "lower" / "folder").mkdir(parents=True)
    made = []
    for apart in (sandbox.of(tmp_path / "build"), None):
        tree = overlay.new(tmp_path, [tmp_path / "lower"], apart)
        run_in(tree, tmp_path, "mkdir empty && ln -s folder link")
        made.append([(each.name, each.kind, each.target) for each in tar.of_folder(tree.upper)])
    assert made[0] == made[1] == [("empty", tar.FOLDER, ""), ("link", tar.LINK, "folder")]


def test_a_copy_keeps_what_was_made_and_nothing_of_what_is_below(tmp_path):
    lower = tmp_path / "lower"
    for name in ("same/a", "same/b", "some/kept", "some/changed", "turned/x"):
        (lower / name).parent.mkdir(parents=True, exist_ok=True)
        (lower / name).write_text("before")
    (lower / "empty").mkdir()
    tree = overlay.new(tmp_path, [lower], None)
    run_in(
        tree,
        tmp_path,
        "echo after > some/changed; echo new > some/new; rm -r turned; ln -s some turned; mkdir made",
    )
    found = {each.name: each.kind for each in tar.of_folder(tree.upper)}
    assert found == {
        "made": tar.FOLDER,
        "some": tar.FOLDER,
        "some/changed": tar.FILE,
        "some/new": tar.FILE,
        "turned": tar.LINK,
    }
    assert (lower / "some" / "kept").read_text() == "before"


@pytest.mark.promise("commands-replace-the-profiles")
def test_a_command_of_the_settings_replaces_the_profile_s_and_is_held_to_its_promises(site, built, start):  # noqa: F811
    built()
    settings = site / "pipeline.yml"
    told = "profile: tiny\n  commands: {style: [sh, -c, 'mkdir -p out/{theme} && echo fast > out/{theme}/style']}"
    settings.write_text(settings.read_text().replace("profile: tiny", told))
    run, outcome, seen = built()
    assert seen == ["style-child", "style-plain"]
    assert content(run, outcome.facts["digest"])["out/child/style"] == "fast\n"
    settings.write_text(settings.read_text().replace("{style:", "{stile:"))
    with pytest.raises(
        ProfileLayerUnknown,
        match=r"commands\.stile: unknown layer of tiny \(did you mean style\? known: library",
    ):
        _ = start(site).profile


def objects(run, name):
    found = cache.of(run).record("layers", Build(run).keys[name].key)
    return found, layout.blob(found.zone, "layers", found.value["digest"])


@pytest.mark.parametrize("damage", ["cut off", "replaced", "replaced, as long", "missing", "here as well"])
@pytest.mark.promise("layer-digest-is-checked", "damaged-layer-is-built-again")
def test_a_damaged_layer_is_a_warning_and_a_miss(site, built, start, damage, capfd):  # noqa: F811
    run, first, _ = built()
    _, key = objects(run, "library")
    whole = run.store.open(key).read()
    shelf = site / ".run" / "layers"
    here = shelf / key.rpartition("/")[2]
    bad = {"cut off": whole[:-9], "replaced, as long": whole[:-1] + b"x", "here as well": whole[:9]}
    run.store.delete(key)
    if damage != "missing":
        run.cloud.client("s3").put_object(Bucket=run.bucket, Key=key, Body=bad.get(damage, b"<html>"))
    here.write_bytes(b"damaged here")
    run.store.delete(stored.stored_key(run, first.facts["digest"]))
    run, outcome, seen = built()
    assert seen == ["library"]
    assert outcome.facts == first.facts
    assert "library: the stored layer" in capfd.readouterr().out
    assert run.store.open(key).read() == whole


@pytest.mark.promise("a-stored-layer-is-not-built")
def test_a_layer_of_another_machine_is_taken_and_nothing_is_built(site, built):
    run, first, _ = built()
    for path in (site / ".run" / "layers").iterdir():
        path.unlink()
    run.store.delete(stored.stored_key(run, first.facts["digest"]))
    _, outcome, seen = built()
    assert (seen, outcome.facts) == ([], first.facts)


@pytest.mark.promise("default-branch-takes-from-trusted-only")
def test_the_default_branch_builds_a_layer_that_only_another_branch_has(site, built):
    change(site, "library.txt", f"{time.time_ns()}\n")
    _, _, theirs = built(branch="feature")
    assert "library" in theirs
    run, _, ours = built(branch="main")
    assert "library" in ours
    assert objects(run, "library")[0].zone == "trusted"


@pytest.mark.promise("credentials-are-hidden")
def test_credentials_reach_the_command_and_neither_its_log_nor_the_refusal(site, start, monkeypatch):  # noqa: F811
    monkeypatch.setenv("LOGIN", '{"host": {"user": "someone", "password": "geheim-123"}}')
    change_profile(site, "after: [library]", "credentials: [LOGIN]\n    after: [library]")
    change_profile(site, "mkdir -p out/{theme} &&", "echo $LOGIN; exit 3;")
    with pytest.raises(BuildFailed, match="exit code 3") as caught:
        tarball.pack(Build(start(site)))
    assert "geheim-123" not in caught.value.text
    assert "***" in caught.value.text
    log = site / caught.value.text.split("whole output: ")[1].split(")")[0]
    assert "geheim-123" not in log.read_text()
    before = Build(start(site)).keys["style-child"].key
    monkeypatch.setenv("LOGIN", "another-one")
    assert Build(start(site)).keys["style-child"].key == before


@pytest.mark.promise("verify-names-what-differs")
def test_a_layer_that_differs_between_two_builds_is_named(site, start):  # noqa: F811
    change_profile(site, "mkdir -p lib &&", "mkdir -p lib && date +%N > lib/time &&")
    build = Build(start(site))
    found = {each.layer: each.differing for each in verify.verdicts(build, verify.means(build))}
    assert found.pop("library") == ("lib/time",)
    assert set(found.values()) == {()}


@pytest.mark.promise("killed-builds-folder-goes")
def test_what_a_killed_build_left_goes_with_the_next_one(site):
    code = "from pathlib import Path; from tasks.tarball.build import overlay; p = overlay.build_folder(Path('.'));"
    code += "(Path(p.name) / 'layer').mkdir(); print(p.name, flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=site,
        env={**os.environ, "PYTHONPATH": str(ROOT)},  # the site has a folder `tasks`
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        left = site / child.stdout.readline().strip()
        kept = overlay.build_folder(site)
        assert left.exists()  # its run is alive
    finally:
        child.kill()
        child.communicate()
    del kept
    overlay.build_folder(site)
    assert not left.exists()


@pytest.mark.promise("killed-build-leaves-nothing")
def test_a_run_that_dies_in_a_layer_an_upload_or_a_pack_leaves_nothing_that_is_used(site, built, monkeypatch):
    class Died(BaseException):
        pass

    def dies(*_, **__):
        raise Died

    for subject, name in (
        (overlay, "check"),
        (cache.Cache, "upload"),
        (cache.Cache, "keep"),
        (layers.archive, "pack"),
    ):
        change(site, "library.txt", f"{time.time_ns()}\n")
        with monkeypatch.context() as patched:
            patched.setattr(subject, name, dies)
            with pytest.raises(Died):
                built()
        run, outcome, seen = built()
        assert "library" in seen
        assert (
            content(run, outcome.facts["digest"])["lib/library.txt"]
            == (site / "app" / "library.txt").read_text()
        )


@pytest.mark.promise("layers-by-what-they-take")
def test_what_a_layer_took_is_remembered(site, built, start, tmp_path):  # noqa: F811
    change_profile(site, "name: library", "name: library\n    seconds: 7")
    assert {Build(start(site)).turns.costs[name].seconds for name in ("library", "style-child")} == {7, 60}
    if not sandbox.of(tmp_path / "build"):
        pytest.skip("only the program of the sandbox tells it")
    change_profile(
        site,
        "cp library.txt lib/",
        "cp library.txt lib/ && sha256sum /dev/zero & sleep 0.5; kill $!; mkdir -p lib && cp library.txt lib/",
    )
    change(site, "library.txt", f"{time.time_ns()}\n")
    built()
    took = Build(start(site)).turns.costs
    assert {"library", "style-child", "style-plain"} <= set(
        took
    )  # a clock of the processor may not see a shorter one
    assert took["library"].cpu > 0
    assert 0 < took["library"].seconds < 7
    assert took["library"].memory > 1 << 19


def test_values_inherit_as_the_files_say_and_a_circle_ends(site, start):  # noqa: F811
    change(site, "themes/plain/parent", "child")
    run = start(site)
    assert run.profile.inherits == {"theme": Inheritance(file="themes/{theme}/parent", match="(.+)")}
    assert keys._lineage(run, "theme", "child") == ["child", "plain"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("code", ["code/a/one.php", "code/a/x.css"]),
        ("cod", []),
        ("code/**/*.php", ["code/a/one.php"]),
        ("**/*.css", ["code/a/x.css", "top.css"]),
        ("*.css", ["top.css"]),
        ("code/*", ["code/a/one.php", "code/a/x.css"]),
        ("c.de", []),
    ],
)
@pytest.mark.promise("patterns-of-files")
def test_patterns(pattern, found):
    assert list(keys.matching(["code/a/one.php", "code/a/x.css", "top.css"], [pattern])) == found


def mounted_anywhere(folder):
    """The mounts below a folder that any process of this machine sees: an overlay is in its command's own namespace."""
    found = set()
    for mounts in Path("/proc").glob("[0-9]*/mounts"):
        with contextlib.suppress(OSError):  # it has ended
            found |= {line for line in mounts.read_text().splitlines() if str(folder) in line}
    return found


@pytest.mark.parametrize(
    ("ending", "fails"), [("true", False), ("exit 3", True), ("kill -9 $$", True), ("sleep 5 & true", False)]
)
def test_nothing_stays_mounted_however_a_command_ends(tmp_path, ending, fails):
    apart = sandbox.of(tmp_path / "build")
    if not (apart and apart.overlays):
        pytest.skip("this machine does not allow overlays")
    (tmp_path / "lower").mkdir()
    tree = overlay.new(tmp_path, [tmp_path / "lower"], apart)
    with pytest.raises(BuildFailed) if fails else contextlib.nullcontext():
        run_in(tree, tmp_path, f"cat /proc/self/mounts > seen; {ending}")
    assert f"overlay {sandbox.TREE} " in (tree.upper / "seen").read_text()
    assert mounted_anywhere(tmp_path) == set()


def printed(project, version):  # noqa: F811
    """Let the profile's tool print another version."""
    path = project / "applications" / "tiny" / "profile.yml"
    path.write_text(path.read_text().replace("echo 1", f"echo {version}"))


@pytest.mark.parametrize("what", ["a tool", "zstd", "a variable"])
@pytest.mark.promise("versions-and-variables-are-in-the-key")
def test_another_version_or_variable_makes_another_key(project, start, monkeypatch, what):  # noqa: F811
    def keys_now():
        return {name: each.key for name, each in Build(start(project)).keys.items()}

    monkeypatch.setenv("ALLOWED", "1")
    before = keys_now()
    assert keys_now() == before
    if what == "a tool":
        printed(project, 2)
    elif what == "zstd":
        monkeypatch.setattr(archive, "version", lambda: "0.0.0")
    else:
        monkeypatch.setenv("ALLOWED", "2")
    after = keys_now()
    assert [name for name in before if before[name] == after[name]] == []
    monkeypatch.setenv("UNNAMED", "x")
    assert keys_now() == after
