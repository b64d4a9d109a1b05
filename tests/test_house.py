"""The axes of the house, and that what is made from the code is fresh."""

from __future__ import annotations

import ast
import collections
import fnmatch
import itertools
import re
import subprocess
import sys

import pytest
import yaml

from tasks import docs
from tasks.boundary import PipelineBug
from tasks.process.children import CommandFailed
from tests.conftest import ROOT

TRACKED = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.splitlines()
MODULES = [path for path in TRACKED if path.endswith(".py") and (ROOT / path).exists()]
CODE = [path for path in MODULES if path.startswith("tasks/") and not path.endswith("/__init__.py")]


def test_pytest_passes_over_no_file_of_tests(request):
    # once it passed over all below tests/tarball/build, as its own list of folders has that name
    found = {
        path for path in MODULES if path.startswith("tests/") and path.rpartition("/")[2].startswith("test_")
    }
    passed_over = request.config.getini("norecursedirs")
    assert found
    assert not [
        path
        for path in found
        if any(fnmatch.fnmatch(name, pattern) for name in path.split("/") for pattern in passed_over)
    ]


def imported(path):
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize(
    ("outside", "door"),
    [
        ("boto3", "tasks/cloud/"),
        ("botocore", "tasks/cloud/"),
        ("moto", "tasks/cloud/"),
        ("ansible_runner", "tasks/hosts/ansible.py"),
        ("minisign", "tasks/tarball/signature.py"),
        ("cyclonedx", "tasks/tarball/sbom.py"),
        ("zstandard", ("tasks/tarball/build/archive.py", "tasks/tarball/build/tar.py")),
    ],
)
@pytest.mark.promise("three-places")
def test_an_outside_thing_has_one_door(outside, door):
    assert [path for path in CODE if outside in imported(path) and not path.startswith(door)] == []
    assert any(outside in imported(path) for path in CODE)


def test_git_is_started_in_one_place():
    assert [path for path in CODE if '["git"' in (ROOT / path).read_text()] == ["tasks/source.py"]


@pytest.mark.promise("nothing-slow-is-imported")
def test_the_graph_and_the_commands_load_nothing_that_is_slow_to_load():
    commands = [
        path.removesuffix(".py").replace("/", ".") for path in CODE if path.startswith("tasks/commands/")
    ]
    slow = {"boto3", "botocore", "git", "ansible_runner", "cryptography", "opentelemetry"}
    code = f"import sys, dodo, {', '.join(commands)}; print(sorted({slow} & set(sys.modules)))"
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert printed.stdout == "[]\n"


SLOW = {
    "boto3": "1.4 s to import",
    "botocore": "1.5 s to import, with its sessions",
    "cryptography": "55 ms to import; only a new deploy key needs it",
    "cyclonedx": "400 ms to import; loaded beside a build",
    "git": "650 ms to import; `doit list` works without git",
    "minisign": "330 ms to import; only signing needs it",
    "opentelemetry": "200 ms to import; only a run that is traced needs it",
    "packageurl": "35 ms to import; only the bill of materials needs it",
    "pygraphviz": "300 ms to import; only `doit graph --svg` needs it",
    "zstandard": "40 ms to import; only reading and writing archives needs it",
}
"""Libraries that a function may import, each with the reason. Another import in a function has its reason in a comment."""


def imports_in_functions(text):
    """The line and the libraries of every import in a function that has no comment; a comment counts for a block."""
    commented = {
        number for number, line in enumerate(text.splitlines(), 1) if re.search(r"#(?!\s*(noqa|type:))", line)
    }
    lines = {
        (node.lineno, node.end_lineno): [each.name for each in node.names]
        if isinstance(node, ast.Import)
        else [node.module or ""]
        for function in ast.walk(ast.parse(text))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    for (first, last), names in sorted(lines.items()):
        if commented & set(range(first - 1, last + 1)):
            commented.add(last)  # for the next line of the block
        else:
            yield first, {each.partition(".")[0] for each in names}


def test_an_import_in_a_function_is_of_a_slow_library_or_has_a_reason():
    found = [
        f"{path}:{line}: {', '.join(sorted(names - SLOW.keys()))}"
        for path in CODE
        for line, names in imports_in_functions((ROOT / path).read_text())
        if not names <= SLOW.keys()
    ]
    assert found == []


def test_a_class_name_stands_once():
    places = collections.defaultdict(list)
    for path in CODE:
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(path)
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


@pytest.mark.promise("roles-know-no-application", "only-four-places-know-the-application", "three-places")
def test_only_the_profile_and_the_application_know_what_is_released():
    knows = (
        "app/",
        "applications/",
        "tests/app/",
        "docs/",
        "README.md",
        "CHANGELOG.md",
        "pipeline.yml",
        "bench/",
        "tests/",
    )
    found = [
        path
        for path in TRACKED
        if not path.startswith(knows)
        and (ROOT / path).is_file()
        and re.search("magento", (ROOT / path).read_text(errors="replace"), re.IGNORECASE)
    ]
    assert found == []


def test_only_roles_and_profiles_know_the_services_of_an_application():
    knows = ("tasks/cloud/embedded/",)
    held = (
        "tasks/",
        "playbooks/",
        "roles/release/",
        "roles/provisioning_",
        "roles/packages/",
        "roles/image/",
        "dodo.py",
    )
    found = [
        path
        for path in TRACKED
        if path.startswith(held)
        and not path.startswith(knows)
        and (ROOT / path).is_file()
        and re.search("php|varnish|magento|redis|mariadb", (ROOT / path).read_text(), re.IGNORECASE)
    ]
    assert found == []


@pytest.mark.promise("no-code-knows-an-environment", "three-places")
def test_only_its_file_knows_an_environment_s_name():
    names = {"staging", "production"}
    found = [
        (path, node.value)
        for path in [*CODE, "dodo.py"]
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert found == []


def test_every_module_says_its_noun_and_promise():
    for path in CODE:
        first = (ROOT / path).read_text().splitlines()[0]
        noun = path.split("/")[-1].removesuffix(".py")
        assert first.startswith(f'"""{noun}: '), path


@pytest.mark.parametrize("path", docs.pages(), ids=str)
def test_generated_pages_are_fresh(path):
    assert (ROOT / path).read_text() == docs.pages()[path], "doit docs"


@pytest.mark.promise("a-refusal-says-what-to-type")
def test_every_refusal_can_be_said():
    for kind in docs.refusals():
        text = kind(**dict.fromkeys(kind.fields(), "x")).text
        assert kind.__doc__
        assert text.splitlines()[0].strip()
        if kind is not CommandFailed:  # who runs the command says what to type
            assert re.match(r" {4}\S", text.splitlines()[-1]), kind
        assert kind.exit_code in (1, 3) or kind is PipelineBug, kind


@pytest.mark.parametrize(
    "profile", sorted((ROOT / "applications").glob("*/profile.yml")), ids=lambda each: each.parent.name
)
def test_the_build_s_packages_are_installed(profile):
    """Those of the project's own profile wherever it is built, those of the others for the tests."""
    named = yaml.safe_load((ROOT / "pipeline.yml").read_text())["application"]["profile"]
    lists = ["packages"] if profile.parent.name == named else ["packages", "packages-test"]
    lines = [line for each in lists for line in (ROOT / "build" / "ci" / each).read_text().splitlines()]
    wanted = set(yaml.safe_load(profile.read_text())["packages"])
    assert wanted <= {line.partition("#")[0].strip() for line in lines}


def always_true(text):
    """The lines of the asserts that hold whatever happens, by their form. A call beside itself may give something else."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assert):
            parts = ast.walk(node.test)
            if _is_something(node.test) or any(map(_holds_anyway, parts)):
                yield node.lineno


def _is_something(node):
    """Whether it is true by itself: a text, a generator, a list with members."""
    if isinstance(node, ast.Constant | ast.JoinedStr):
        return bool(getattr(node, "value", True))
    members = getattr(node, "elts", None) or getattr(node, "keys", None)
    return isinstance(node, ast.GeneratorExp | ast.Lambda) or bool(members)


def _holds_anyway(node):
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        calls = any(isinstance(each, ast.Call | ast.Await) for side in sides for each in ast.walk(side))
        return not calls and any(ast.dump(one) == ast.dump(two) for one, two in itertools.pairwise(sides))
    if isinstance(node, ast.IfExp):
        return any(isinstance(each, ast.Constant) and each.value is True for each in (node.body, node.orelse))
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
        return any(map(_is_something, node.values))
    is_all = (
        isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("all", "any") and len(node.args) == 1
    )
    return is_all and isinstance(node.args[0], ast.List | ast.Tuple) and not node.args[0].elts


@pytest.mark.parametrize(
    ("line", "vacuous"),
    [
        ("assert a.b == a.b", True),
        ("assert x if remedy else True", True),
        ("assert x or True", True),
        ("assert (x, 'words')", True),
        ("assert (each == 1 for each in found)", True),
        ("assert 'words'", True),
        ("assert f'{x}'", True),
        ("assert all([])", True),
        ("assert made() == made()", False),
        ("assert x == (1 if a else 130)", False),
        ("assert all(each == 1 for each in found)", False),
        ("assert x or y, 'words'", False),
        ("assert x == [1]", False),
    ],
)
def test_an_assert_that_cannot_fail_is_seen(line, vacuous):
    assert list(always_true(line)) == [1] * vacuous


def test_every_assert_can_fail():
    tests = [path for path in MODULES if path.startswith("tests/")]
    assert tests
    assert [f"{path}:{line}" for path in tests for line in always_true((ROOT / path).read_text())] == []


CLOCKS = {
    *(f"time.{name}" for name in ("monotonic", "perf_counter", "process_time", "time", "monotonic_ns")),
    *("datetime.datetime.now", "datetime.now"),
}


def compares_clocks(text):
    """The lines that compare what this machine's clock says, outside of long tests: a busy machine answers them as it likes."""
    tree = ast.parse(text)
    if not any("mark.long" in ast.unparse(each) for each in tree.body if isinstance(each, ast.Assign)):
        for node in tree.body:
            if "mark.long" not in " ".join(map(ast.unparse, getattr(node, "decorator_list", []))):
                yield from sorted(set(_clock_lines(node)))


def _clock_lines(function):
    """Those of a function: a clock's time is compared, or a name that was given one. A function that is handed on is a clock."""
    handed = {
        id(each) for node in ast.walk(function) if isinstance(node, ast.Lambda) for each in ast.walk(node)
    }
    timed = {
        ast.unparse(target)
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target, value in _assigned(node)
        if isinstance(value, ast.Call | ast.BinOp) and _is_time(value)
    }
    for node in ast.walk(function):
        if isinstance(node, ast.Compare) and id(node) not in handed and _tells_time(node, timed):
            yield node.lineno


def _assigned(node):
    """Each target with its value, also those of `a, b = c, d`."""
    target, value = node.targets[0], node.value
    both = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
    return zip(target.elts, value.elts, strict=True) if both else [(target, value)]


def _is_time(value):
    """Whether it is a clock's time, or computed from one."""
    if isinstance(value, ast.BinOp):
        return _is_time(value.left) or _is_time(value.right)
    return isinstance(value, ast.Call) and ast.unparse(value.func) in CLOCKS


def _tells_time(node, timed):
    return any(_is_time(each) or ast.unparse(each) in timed for each in ast.walk(node))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("def test():\n    assert time.monotonic() - begun < 3", True),
        ("def test():\n    end = time.time() + 3\n    while not x() and time.time() < end: ...", True),
        ("def test():\n    took = time.perf_counter() - x\n    assert took < 3", True),
        ("@pytest.fixture\ndef x():\n    assert datetime.datetime.now() < y", True),
        ("@pytest.mark.long\ndef test():\n    assert time.monotonic() < 3", False),
        ("pytestmark = [pytest.mark.long]\ndef test():\n    assert time.monotonic() < 3", False),
        ("def test():\n    clock = Clock(since_boot=lambda: time.monotonic() + passed)", False),
        ("def test():\n    assert waited == [3]", False),
    ],
)
def test_a_look_at_this_machine_s_clock_is_seen(text, seen):
    assert bool(list(compares_clocks(text))) is seen


def test_no_default_test_depends_on_how_fast_this_machine_is():
    tests = [path for path in MODULES if path.startswith("tests/")]
    assert [f"{path}:{line}" for path in tests for line in compares_clocks((ROOT / path).read_text())] == []


def asserts_nothing(text):
    """The lines of a test's checks that hold whatever happens."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assert) and _always_holds(node.test):
            yield node.lineno
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.raises" and _takes_any(node):
            yield node.lineno


def _always_holds(test):
    """A value that is always true, in words or as an object; a thing and itself; a part of a `repr`, which escapes newlines."""
    if isinstance(test, ast.Constant):
        return bool(test.value)
    if isinstance(test, ast.Tuple | ast.List | ast.Dict | ast.Set):
        return True  # nobody writes an empty one
    if isinstance(test, ast.GeneratorExp | ast.JoinedStr | ast.Lambda):
        return True
    if isinstance(test, ast.Call):
        return ast.unparse(test.func) in ("map", "filter", "zip", "iter", "reversed")
    if isinstance(test, ast.IfExp):
        return any(isinstance(each, ast.Constant) and each.value is True for each in (test.body, test.orelse))
    if isinstance(test, ast.BoolOp):
        return (any if isinstance(test.op, ast.Or) else all)(map(_always_holds, test.values))
    if not isinstance(test, ast.Compare) or len(test.ops) > 1:
        return False
    left, right = test.left, test.comparators[0]
    if isinstance(test.ops[0], ast.NotIn) and ast.unparse(right).startswith("repr("):
        return not isinstance(left, ast.Constant)
    calls = any(isinstance(each, ast.Call) for each in ast.walk(left))  # asked twice, it may answer otherwise
    return ast.unparse(left) == ast.unparse(right) and not calls


def _takes_any(raises):
    any_kind = ast.unparse(raises.args[0]) in ("Exception", "BaseException")
    words = [each.value for each in raises.keywords if each.arg == "match"]
    return any_kind or any(ast.unparse(each).strip("r'") in ("", ".", ".*", ".+") for each in words)


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("assert key not in repr(secrets)", True),
        ("assert 'word' not in repr(secrets)", False),
        ("assert headers['a'] == headers['a']", True),
        ("assert made() == made()", False),
        ("assert remedy in text if remedy else True", True),
        ("assert found or 'nothing'", True),
        ("assert (each.ok for each in found)", True),
        ("assert all(each.ok for each in found)", False),
        ("assert map(check, found)", True),
        ("assert (found, 'with a comma')", True),
        ("assert f'{found}'", True),
        ("with pytest.raises(Exception, match='is stopped'): ...", True),
        ("with pytest.raises(Stopped, match=r'.*'): ...", True),
        ("with pytest.raises(Stopped, match=r'is .* now'): ...", False),
    ],
)
def test_a_check_that_holds_whatever_happens_is_seen(line, seen):
    assert bool(list(asserts_nothing(line))) is seen


def test_no_check_holds_whatever_happens():
    tests = [path for path in MODULES if path.startswith("tests/")]
    assert [f"{path}:{line}" for path in tests for line in asserts_nothing((ROOT / path).read_text())] == []


def shorts(text):
    """Each test that is long in all its rows, and the default test that it names as its short case."""
    tree = ast.parse(text)
    module = [
        each
        for each in tree.body
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "pytestmark"
    ]
    marks = [mark for each in module for mark in getattr(each.value, "elts", [each.value])]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield from (
                (node.name, _short(mark))
                for mark in (*node.decorator_list, *marks)
                if ast.unparse(mark).partition("(")[0] == "pytest.mark.long"
            )


def _short(mark):
    named = [each.value for each in getattr(mark, "keywords", []) if each.arg == "short"]
    return ast.literal_eval(named[0]) if named else None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("@pytest.mark.long\ndef test_a(): ...", [("test_a", None)]),
        ("@pytest.mark.long(short='x::y')\ndef test_a(): ...", [("test_a", "x::y")]),
        ("pytestmark = [pytest.mark.long(short='x::y')]\ndef test_a(): ...", [("test_a", "x::y")]),
        ("pytestmark = [pytest.mark.long]\ndef test_a(): ...", [("test_a", None)]),
        (
            "@pytest.mark.parametrize('a', [1, pytest.param(2, marks=pytest.mark.long)])\ndef test_a(a): ...",
            [],
        ),
    ],
)
def test_the_short_case_of_a_long_test_is_found(text, found):
    assert list(shorts(text)) == found


def test_every_long_test_names_its_short_case_among_the_default_ones():
    texts = {path: (ROOT / path).read_text() for path in MODULES if path.startswith("tests/")}
    named = {f"{path}::{name}": short for path, text in texts.items() for name, short in shorts(text)}
    there = {
        f"{path}::{node.name}"
        for path, text in texts.items()
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef)
    }
    assert named
    assert {name: short for name, short in named.items() if short not in there - named.keys()} == {}


def test_no_path_of_a_machine_is_in_the_repository():
    found = [
        path
        for path in TRACKED
        if (ROOT / path).is_file()
        and re.search(r"(^|[^A-Za-z0-9_.])/(wor[k]|far[m])/", (ROOT / path).read_text(errors="replace"))
    ]
    assert found == []
