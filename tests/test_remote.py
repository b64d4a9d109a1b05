"""The address of a repository: equal for every way to reach it, different for another one, and without secrets."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tasks import remote

HERE = Path("/srv/work/shop")
SHOP = "example.com/team/shop"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("git@example.com:team/shop.git", SHOP),
        ("example.com:/team/shop", SHOP),
        ("kim@EXAMPLE.com:team//shop.git/", SHOP),
        ("ssh://git@example.com/team/shop.git", SHOP),
        ("ssh://git@example.com:22/team/shop", SHOP),
        ("https://example.com/team/shop", SHOP),
        ("https://example.com:443/team/shop.git/", SHOP),
        ("https://gitlab-ci-token:glcbt-5@example.com/team/shop.git", SHOP),
        ("https://kim:p@ss@example.com/team/shop.git", SHOP),
        ("HTTPS://example.com/team/shop", SHOP),
        ("git://example.com/team/shop/.git", SHOP),
        ("https://example.com/team/Shop", "example.com/team/Shop"),
        ("https://example.com:8443/team/shop", "example.com:8443/team/shop"),
        ("ssh://git@[::1]:2222/shop", "[::1]:2222/shop"),
        ("git@[::1]:shop", "[::1]/shop"),
        ("https://example.com/team/shop.github", "example.com/team/shop.github"),
    ],
)
@pytest.mark.promise("one-address-of-a-remote")
def test_host_and_path_are_the_address(url, address):
    assert remote.address(url, HERE) == address


@pytest.mark.parametrize(
    "url", ["/srv/work/origin.git", "file:///srv/work/origin", "../origin", "../x/../origin/.git"]
)
def test_a_folder_is_one_of_this_machine(url):
    assert remote.address(url, HERE) == f"{socket.gethostname()}/srv/work/origin"


@pytest.mark.parametrize(
    "url",
    [
        "codecommit::eu-central-1://shop",
        "codecommit://shop",
        "ext::sh -c 'nc example.com'",
        "https://example.com/shop?token=secret",
        "https://kim:se/cret@example.com/shop",
        "https://example.com/",
        "https://",
        f"https://example.com/{'x' * 300}",
    ],
)
def test_of_what_is_not_understood_nothing_is_known_and_nothing_is_told(url):
    assert remote.address(url, HERE) == ""
