"""keys: what changes a layer's key, and what does not; nothing is built here."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tasks import source
from tasks.digest import Digest
from tasks.profile import Inheritance
from tasks.tarball.build import archive, keys
from tests.clouds import run_in
from tests.conftest import EXAMPLE, SERVED, commit
from tests.plain import Plain

PROFILE = (
    SERVED
    + """
options: {themes: [plain, child]}
tools: {shell: [sh, -c, "echo ' one '"], other: [sh, -c, echo two]}
inherits: {theme: {file: "themes/{theme}/parent", match: "(.+)"}}
layers:
  - name: library
    files: [library.txt, "more/*.txt"]
    commands: [[sh, -c, "cp library.txt lib"]]
    outputs: [lib]
    promises: [lib]
    variables: [SECRET]
    tools: [shell]
  - name: style
    after: [library]
    for_each: {theme: themes}
    files: ["themes/{theme}"]
    present: [code]
    commands: [[sh, -c, "echo {theme}"]]
    outputs: [out]
    promises: ["out/{theme}"]
    tools: [other]
"""
)
FILES = {
    "library.txt": "library\n",
    "more/b.txt": "b\n",
    "more/a.txt": "a\n",
    "themes/plain/style": "plain\n",
    "themes/child/style": "child\n",
    "themes/child/parent": "plain",
    "code/x.php": "php\n",
    "readme": "read\n",
}
ALL = {"library", "style-plain", "style-child"}


@pytest.fixture
def root(checkout):
    """A project whose profile has three layers."""
    (checkout / "applications" / "tiny").mkdir()
    (checkout / "applications" / "tiny" / "profile.yml").write_text(PROFILE)
    pipeline = checkout / "pipeline.yml"
    pipeline.write_text(pipeline.read_text().replace(EXAMPLE, "profile: tiny"))
    (checkout / ".gitignore").write_text("/.run/\n")
    for name, text in {
        **{f"app/{name}": text for name, text in FILES.items()},
        "tasks/digest.py": "code\n",
    }.items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(text)
    commit(checkout)
    yield checkout
    source._snapshot.cache_clear()


def keyed(root):
    source._snapshot.cache_clear()
    keys._versions.cache_clear()
    return keys.keyed(run_in(root, Plain("eu-central-1")))


def changed(before, after):
    return {name for name in after if before[name].key != after[name].key}


def edit(root, before, after):
    path = root / "applications" / "tiny" / "profile.yml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


@pytest.mark.promise("layer-key-names-all-inputs", "versions-and-variables-are-in-the-key")
def test_each_input_has_a_name_and_a_digest(root, monkeypatch):
    monkeypatch.setenv("SECRET", "s3cret")
    found = keyed(root)
    assert found.keys() == ALL
    zstd = {"zstd version": archive.version()}
    library, child = found["library"], found["style-child"]
    assert library.inputs.keys() == {
        "library.txt", "more/*.txt", "variable SECRET", "its definition", "the pipeline's code", "zstd version",
        "shell version",
    }  # fmt: skip
    assert library.inputs["shell version"] == "one"
    assert zstd.items() <= library.inputs.items()
    assert library.inputs["variable SECRET"] == Digest.of_value("s3cret").short
    assert child.inputs.keys() == {
        "themes/{theme}", "layer library", "its definition", "the pipeline's code", "zstd version", "other version",
    }  # fmt: skip
    assert child.inputs["layer library"] == library.key.short
    assert library.files == ("library.txt", "more/a.txt", "more/b.txt")
    assert child.files == ("code/x.php", "themes/child/parent", "themes/child/style", "themes/plain/style")
    assert found["style-plain"].files == ("code/x.php", "themes/plain/style")
    assert library.layer.name == "library"
    assert "s3cret" not in repr(found)


@pytest.mark.promise("layer-key-names-all-inputs")
def test_a_changed_file_changes_the_keys_of_the_layers_that_are_made_of_it(root):
    before = keyed(root)
    for path, which in {
        "app/readme": set(),
        "app/code/x.php": set(),
        "app/library.txt": ALL,
        "app/more/b.txt": ALL,
        "app/themes/plain/style": {"style-plain", "style-child"},
        "app/themes/child/style": {"style-child"},
        "tasks/digest.py": ALL,
    }.items():
        was = (root / path).read_text()
        (root / path).write_text("other\n")
        assert changed(before, keyed(root)) == which, path
        (root / path).write_text(was)
    assert changed(before, keyed(root)) == set()


@pytest.mark.parametrize("folder", ["code", "definition"])
@pytest.mark.promise("layer-key-names-all-inputs")
def test_a_folder_is_an_input_whatever_its_name(root, folder):
    edit(root, "files: [library.txt,", f"files: [{folder}, library.txt,")
    path = root / "app" / folder / "x.php"
    path.parent.mkdir(exist_ok=True)
    path.write_text("one\n")
    before = keyed(root)
    path.write_text("two\n")
    assert changed(before, keyed(root)) == ALL


CHANGES = [
    ("cp library.txt lib", "cat library.txt > lib", ALL),
    ("outputs: [out]", "outputs: [out, more]", {"style-plain", "style-child"}),
    ('promises: ["out/{theme}"]', 'promises: ["out/{theme}/x"]', {"style-plain", "style-child"}),
    ("promises: [lib]\n", "promises: [lib]\n    network: true\n", ALL),
    ("promises: [lib]\n", "promises: [lib]\n    environment: {A: b}\n", ALL),
    ("themes: [plain, child]", "themes: [plain, child, third]", set()),
    ("options:", "exclude: [readme]\noptions:", ALL),
    ("echo ' one '", "echo three", ALL),
    ("echo two", "echo four", {"style-plain", "style-child"}),
    ("variables: [SECRET]", "variables: [SECRETS]", ALL),
    ('files: [library.txt, "more/*.txt"]', "files: [library.txt]", ALL),
    ("after: [library]", "after: []", {"style-plain", "style-child"}),
]
"""What is changed in the profile, and the layers whose keys change by that."""


@pytest.mark.promise("layer-key-names-all-inputs", "versions-and-variables-are-in-the-key")
def test_a_changed_profile_changes_the_keys_of_the_layers_that_it_describes(root):
    before = keyed(root)
    for old, new, which in CHANGES:
        edit(root, old, new)
        after = keyed(root)
        assert changed(before, {name: after[name] for name in before}) == which, new
        (root / "applications" / "tiny" / "profile.yml").write_text(PROFILE)


def test_a_variable_counts_where_a_layer_names_it(root, monkeypatch):
    monkeypatch.delenv("SECRET", raising=False)
    monkeypatch.setenv("OTHER", "1")
    before = keyed(root)
    monkeypatch.setenv("OTHER", "2")
    assert changed(before, keyed(root)) == set()
    monkeypatch.setenv("SECRET", "")
    assert changed(before, keyed(root)) == ALL


def test_another_zstd_makes_other_keys(root, monkeypatch):
    before = keyed(root)
    monkeypatch.setattr(archive, "version", lambda: "0.0.0")
    after = keyed(root)
    assert changed(before, after) == ALL
    assert after["style-plain"].inputs["zstd version"] == "0.0.0"


def test_the_tools_are_asked_once(tmp_path):
    count = tmp_path / "count"
    command = ("sh", "-c", f"echo x >> {count}; echo ' 1.2 '")
    tools = {"tool": command, "true": ("echo", "yes"), "unused": ("no-such-program",)}
    profile = SimpleNamespace(layers=[SimpleNamespace(tools=("tool", "true"))], tools=tools)
    for _ in range(2):
        assert keys.tools(profile) == {"zstd": archive.version(), "tool": "1.2", "true": "yes"}
    assert count.read_text() == "x\n"


# --- patterns and parents -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "lines", "spread"),
    [
        ("a", {"theme": ["x", "y"]}, ["a"]),
        ("a/{theme}", {"theme": ["x", "y"]}, ["a/x", "a/y"]),
        ("{area}/{theme}", {"theme": ["x", "y"], "area": ["1", "2"]}, ["1/x", "2/x", "1/y", "2/y"]),
        ("{theme}/{theme}", {"theme": ["x"]}, ["x/x"]),
        ("a", {}, ["a"]),
    ],
)
def test_a_pattern_is_spread_over_the_values_of_its_placeholders(pattern, lines, spread):
    assert keys._spread(pattern, lines) == spread


TREE = ["code/a/one.php", "code/a/x.css", "code/x.css", "top.css", "a.b/c", "aXb/c", "codes"]


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["code"], TREE[:3]),
        (["cod"], []),
        (["code/*"], TREE[:3]),
        (["code/*.css"], ["code/x.css"]),
        (["code/**/*.css"], ["code/a/x.css", "code/x.css"]),
        (["**/*.css"], ["code/a/x.css", "code/x.css", "top.css"]),
        (["a.b"], ["a.b/c"]),
        (["top.css", "codes"], ["top.css", "codes"]),
        (["op.css"], []),
    ],
)
@pytest.mark.promise("patterns-of-files")
def test_a_pattern_matches_a_file_or_all_of_a_folder(patterns, found):
    assert list(keys.matching(TREE, patterns)) == found


PARENTS = [
    ({}, ["child"]),
    ({"child": "<parent>plain</parent>"}, ["child", "plain"]),
    ({"child": "<parent>plain</parent>", "plain": "<parent>base</parent>"}, ["child", "plain", "base"]),
    ({"child": "<parent>plain</parent>", "plain": "<parent>child</parent>"}, ["child", "plain"]),
    ({"child": "<parent>child</parent>"}, ["child"]),
    ({"child": "no parent"}, ["child"]),
]
"""The files of some themes, and the line of one of them."""


def test_a_theme_s_parents_are_read_from_the_application(root):
    inherits = {"theme": Inheritance(file="themes/{theme}/theme.xml", match="<parent>(.*)</parent>")}
    for parents, line in PARENTS:
        for name in ("child", "plain", "base"):
            file = root / "app" / "themes" / name / "theme.xml"
            file.parent.mkdir(exist_ok=True)
            file.write_text(parents.get(name, ""))
        source._snapshot.cache_clear()
        run = run_in(root, Plain("eu-central-1"))
        of = SimpleNamespace(root=root, pipeline=run.pipeline, profile=SimpleNamespace(inherits=inherits))
        assert keys._lineage(of, "theme", "child") == line
        assert keys._lineage(of, "locale", "child") == ["child"]
        assert keys._lineage(of, "theme", "none") == ["none"], "a file that is not there names no parent"
    inherits["theme"] = Inheritance(file="themes/{theme}/parent", match="(.+)")
    assert keys._lineage(of, "theme", "plain") == ["plain"], "nor does it where anything would"
