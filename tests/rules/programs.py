"""programs: rules for plain values in the pipeline's own code: what is trusted, who may read a file, who is listened to."""

from __future__ import annotations

import ast
import functools
import itertools
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.rules.roles import Finding

ENTRY = "build/ci/run"
SSH, ANSIBLE = "tasks/hosts/ssh.py", "tasks/hosts/ansible.py"
LOCKS = ("requirements.lock", "requirements-test.lock", "requirements-mutate.lock", "requirements-new.lock")


@functools.cache
def _tree(text: str) -> ast.Module:
    return ast.parse(text)


def modules(root: Path) -> Iterator[tuple[str, str]]:
    """The pipeline's own Python: path and text."""
    for path in [*sorted((root / "tasks").rglob("*.py")), root / ENTRY]:
        yield str(path.relative_to(root)), path.read_text()


def _texts(node: ast.AST) -> list[str]:
    return [
        each.value
        for each in ast.walk(node)
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    ]


def packages_are_installed_by_their_digests(root: Path) -> list[Finding]:
    """Every `pip install` of locked packages needs their hashes, and the locks have them."""
    found = []
    seen = 0
    for node in ast.walk(_tree((root / ENTRY).read_text())):
        if not isinstance(node, ast.List):
            continue
        if not any(
            isinstance(each, ast.Starred) and getattr(each.value, "id", "") == "pip" for each in node.elts
        ):
            continue
        seen += 1
        said = set(_texts(node)) | {
            text
            for each in node.elts
            if isinstance(each, ast.Starred) and isinstance(each.value, ast.Name)
            for text in _assigned(root, each.value.id)
        }
        if "--require-hashes" not in said and not {"--no-deps", "--no-build-isolation"} <= said:
            found.append(f"{ENTRY}:{node.lineno}: takes whatever the index has")
        found += [
            f"{ENTRY}:{node.lineno}: {each}"
            for each in said
            if re.match(r"--(extra-)?index-url|--trusted-host|--pre", each)
        ]
    if seen != 2:
        found.append(f"{ENTRY}: {seen} calls of pip are seen, not 2")
    for name in LOCKS:
        lines = (root / name).read_text().replace("\\\n", " ").splitlines()
        wanted = [line for line in lines if line.strip() and not line.startswith("#")]
        found += [
            f"{name}: {line.split()[0]} has no digest"
            for line in wanted
            if not re.fullmatch(r"[\w.\[\],-]+==\S+(\s+--hash=sha256:[0-9a-f]{64})+\s*", line)
        ]
    lock = (root / "build/ci/lock").read_text()
    for wanted in ("--generate-hashes", "--no-emit-index-url", "--no-emit-trusted-host"):
        if wanted not in lock:
            found.append(f"build/ci/lock: without {wanted}")
    kept = [
        each
        for each in ast.walk(_tree((root / ENTRY).read_text()))
        if getattr(each, "name", "") == "install_environment"
    ]
    if 'not name.startswith("PIP_") or name in PIP' not in ast.unparse(kept[0]).replace("'", '"'):
        found.append(f"{ENTRY}: the caller's variables tell pip what to do")
    return found


def _assigned(root: Path, name: str) -> list[str]:
    return [
        text
        for node in ast.walk(_tree((root / ENTRY).read_text()))
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name
        for text in _texts(node.value)
    ]


SECRET = re.compile(r"\b(key|token|secret|password|inventory|content|values)\b")
CALLS = {"touch", "mkdir", "makedirs"}


def secret_files_are_the_user_s_alone(root: Path) -> list[Finding]:
    """Made with their mode before anything is in them; no folder or file that is made with a mode is open to others."""
    return [
        f"{path}:{line}: {what}"
        for path, text in modules(root)
        for line, what in _open_to_others(
            text, path.startswith(("tasks/hosts/", "tasks/cloud/embedded/home.py", ENTRY))
        )
    ]


@functools.cache
def _open_to_others(text: str, secrets: bool) -> list[tuple[int, str]]:
    """Lines of a module; `secrets`: whether it writes some."""
    tree = _tree(text)
    found = [
        (node.lineno, f"others may open it ({mode:04o})")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and (mode := _mode(node)) is not None and mode & 0o077
    ]
    functions = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)] if secrets else []
    return found + [(line, "it is written before its mode is") for each in functions for line in _open(each)]


def _mode(call: ast.Call) -> int | None:
    name = getattr(call.func, "attr", "")
    if name in CALLS:
        return next(
            (
                each.value.value
                for each in call.keywords
                if each.arg == "mode" and isinstance(each.value, ast.Constant)
            ),
            None,
        )
    creates = name == "open" and "O_CREAT" in ast.unparse(call)
    last = call.args[-1] if call.args else None
    return last.value if creates and isinstance(last, ast.Constant) else 0o666 if creates else None


def _open(function: ast.FunctionDef) -> Iterator[int]:
    """The lines that write a secret to a file which was not made for this user alone."""
    made = {
        ast.unparse(call.func.value)
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "touch"
        and _mode(call) == 0o600
    }
    for call in ast.walk(function):
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr == "write_text"
        ):
            secret = SECRET.search(" ".join(map(ast.unparse, call.args)).replace(".", " "))
            if secret and ast.unparse(call.func.value) not in made:
                yield call.lineno


TRUST = {
    "StrictHostKeyChecking": "yes",
    "UserKnownHostsFile": '"/known"',
    "GlobalKnownHostsFile": "/dev/null",
    "IdentityFile": '"/key"',
    "IdentitiesOnly": "yes",
    "IdentityAgent": "none",
    "BatchMode": "yes",
}


def _without_scan(text: str) -> str:
    """A module without what asks a host for its keys: it may take any, as it logs in by no means at all."""
    scan = re.search(r"(?ms)^def _offered_through\(.*?(?=^def )", text)
    return text.replace(scan[0], "") if scan and '"PreferredAuthentications=none"' in scan[0] else text


def ssh_trusts_the_known_keys_alone(root: Path) -> list[Finding]:
    """Whatever the user has configured: no other key of a host, no other key of ours."""
    told = _loaded(root / SSH, (root / SSH).read_text()).options(Path("/known"), Path("/key"))
    pairs = [each.partition("=")[::2] for before, each in itertools.pairwise(told) if before == "-o"]
    found = [
        f"{SSH}: {name} is {[value for key, value in pairs if key == name]}, not {wanted}"
        for name, wanted in TRUST.items()
        if [value for key, value in pairs if key == name] != [wanted]
    ]
    if told[:2] != ["-F", "/dev/null"]:
        found.append(f"{SSH}: reads the user's configuration")
    for path, text in modules(root):
        careless = r"(?i)StrictHostKeyChecking[= ](no|off|accept-new)|ForwardAgent[= ]yes|CheckHostIP[= ]no"
        found += [f"{path}: {each[0]}" for each in re.finditer(careless, _without_scan(text))]
    settings = {
        key.value: value.value
        for node in ast.walk(_tree((root / ANSIBLE).read_text()))
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(value, ast.Constant)
    }
    if settings.get("ANSIBLE_HOST_KEY_CHECKING") != "True":
        found.append(f"{ANSIBLE}: Ansible does not check a host's key")
    if "options(folder / 'known_hosts', key, host.proxy)" not in ast.unparse(
        _tree((root / ANSIBLE).read_text())
    ):
        found.append(f"{ANSIBLE}: a play's ssh does not have the options of a login")
    return found


@functools.cache
def _loaded(path: Path, text: str) -> Any:
    """A module from its file; `text`: what it says now."""
    module = types.ModuleType(f"tasks.hosts.{path.stem}_of_a_copy")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module


def the_cloud_is_asked_carefully(root: Path) -> list[Finding]:
    """Secrets are stored encrypted, images taken from known accounts, and metadata needs a token."""
    found = []
    seen = dict.fromkeys(("put_parameter", "describe_images", "MetadataOptions"), 0)
    for path, text in modules(root):
        if not any(name in text for name in seen):
            continue
        for node in ast.walk(_tree(text)):
            if isinstance(node, ast.Call) and (name := getattr(node.func, "attr", "")) in seen:
                seen[name] += 1
                told = {each.arg: ast.unparse(each.value) for each in node.keywords}
                if name == "put_parameter" and told.get("Type") != "'SecureString'":
                    found.append(f"{path}:{node.lineno}: a secret is stored as it is")
                if name == "describe_images" and not ({"Owners", "ImageIds"} & set(told)):
                    found.append(f"{path}:{node.lineno}: anybody's image will do")
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "MetadataOptions":
                        seen["MetadataOptions"] += 1
                        if ast.unparse(value) != "{'HttpTokens': 'required'}":
                            found.append(f"{path}:{node.lineno}: metadata is told without a token")
    found += [f"tasks/: nothing says {name}" for name, times in seen.items() if not times]
    address = ast.unparse(_tree((root / "tasks/cloud/embedded/address.py").read_text()))
    if "LOOPBACK = '127.0.0.1'" not in address:
        found.append("tasks/cloud/embedded/address.py: the cloud listens to other machines")
    return found


RULES: tuple[Callable[[Path], list[Finding]], ...] = (
    packages_are_installed_by_their_digests,
    secret_files_are_the_user_s_alone,
    ssh_trusts_the_known_keys_alone,
    the_cloud_is_asked_carefully,
)
