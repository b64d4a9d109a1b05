"""The codes of an administrator, and the page."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import pytest

from tasks import administrator
from tasks.administrator import NoAdministrator

SECRET = base64.b32encode(b"12345678901234567890").decode()


@pytest.mark.parametrize(
    ("seconds", "code"),
    [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")],
)
@pytest.mark.promise("the-administrator-signs-in")
def test_codes_are_those_of_rfc_6238(seconds, code):
    assert administrator.code(SECRET, seconds) == code


def run(install):
    profile = SimpleNamespace(name="pages", release=SimpleNamespace(install=install))
    return SimpleNamespace(profile=profile, url="http://shop.localhost:81/")


def test_the_page_is_below_the_site_and_a_profile_without_an_installation_has_none():
    assert administrator.page(run(SimpleNamespace(page="/admin"))) == "http://shop.localhost:81/admin"
    with pytest.raises(NoAdministrator, match="the profile pages installs no administrator"):
        administrator.page(run(None))
