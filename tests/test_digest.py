"""A digest is text, and only one module shortens it."""

from __future__ import annotations

import ast
import hashlib
import json

import pytest

from tasks.digest import Digest
from tests.conftest import ROOT
from tests.test_house import CODE


def test_it_is_the_sha_256_of_bytes_and_of_values_whatever_their_order():
    assert Digest.of_bytes(b"x") == hashlib.sha256(b"x").hexdigest()
    assert Digest.of_value({"a": 1, "b": 2}) == Digest.of_value({"b": 2, "a": 1})
    assert Digest.of_value(["a", "b"]) != Digest.of_value(["b", "a"])


def test_people_see_twelve_digits_and_a_release_s_folder_has_sixteen():
    digest = Digest("0123456789abcdef" * 4)
    assert (digest.short, digest.id) == ("0123456789ab", "0123456789abcdef")


def test_in_json_it_is_plain_text_and_it_is_found_by_its_text():
    digest = Digest.of_bytes(b"x")
    assert json.dumps({"digest": digest}) == json.dumps({"digest": str(digest)})
    assert {digest: 1}[str(digest)] == 1


def cut(path):
    """The places where a module itself shortens what is called a digest, a commit or a version."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice) and not node.slice.lower:
            name = ast.unparse(node.value)
            if name.split(".")[-1] in ("digest", "commit", "version") or "digest']" in name:
                yield path, node.lineno, name


@pytest.mark.parametrize("path", [each for each in CODE if each != "tasks/digest.py"])
def test_no_other_module_shortens_a_digest_or_a_commit(path):
    assert list(cut(path)) == []
