"""The password of visitors: its line in nginx's file."""

from __future__ import annotations

import subprocess

import pytest

from tasks.server.stage import password_line


@pytest.mark.promise("the-site-is-protected")
def test_the_line_has_the_hash_that_openssl_and_python_agree_on_and_is_the_same_each_time():
    line = password_line("shop", "secret of the shop")
    assert line == password_line("shop", "secret of the shop")
    assert line != password_line("shop", "secret of the shop.")
    user, _, hashed = line.strip().partition(":")
    assert (user, hashed[:6], "secret" in line) == ("shop", "{SSHA}", False)
    program = 'echo "$1" | base64 --decode | tail --bytes=+21 > salt; { printf %s "$2"; cat salt; } | openssl sha1 -binary > own; cat own salt | base64'
    said = subprocess.run(
        ["sh", "-c", f"cd $(mktemp --directory) && {program}", "sh", hashed[6:], "secret of the shop"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == hashed[6:]
