"""Which requests the profiles limit, as nginx compares them: the configuration that they render, and nginx's rule for its expressions."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT
from tests.rules import configuration


def limits(profile, request):
    """The limits that count a visitor's request."""
    (http,) = next(
        [each for each in tree.inner if each.name == "http"]
        for path, _, tree in configuration.web_servers(ROOT)
        if path.startswith(f"applications/{profile}/")
    )
    tables = [each for each in http.all("map") if each.values[0] == '"$visit $request_method $uri"']
    return {
        table.values[1].removeprefix("$limited_")
        for table in tables
        for row in table.inner
        if row.name != "default" and re.search(row.name.strip('"').removeprefix("~*"), f"1 {request}", re.I)
    }


@pytest.mark.promise("limits")
@pytest.mark.parametrize(
    ("profile", "request_", "counted_by"),
    [
        ("magento2", "POST /customer/account/loginPost/", "login"),
        ("magento2", "POST /customer/account/loginPost/referer/aHR0cHM6Ly9zaG9w/", "login"),
        ("magento2", "POST /customer/account/loginpost", "login"),
        ("magento2", "POST /index.php/customer/account/loginPost", "login"),
        ("magento2", "POST /index.php/german/customer/ajax/login", "login"),
        ("magento2", "POST /german/customer/account/forgotpasswordpost/", "login"),
        ("magento2", "POST /admin", "admin"),
        ("magento2", "POST /admin/admin/dashboard/index/key/3f/", "admin"),
        ("magento2", "POST /index.php/admin/catalog/product/", "admin"),
        ("magento2", "POST /rest/V1/integration/customer/token", "token"),
        ("magento2", "POST /index.php/rest/all/V1/integration/admin/token/", "token"),
        ("magento2", "GET /catalogsearch/result/", "search"),
        ("magento2", "GET /index.php/catalogsearch/advanced/result", "search"),
        ("magento2", "GET /customer/account/login/", None),
        ("magento2", "GET /admin/", None),
        ("magento2", "POST /administration-of-mugs.html", None),
        ("magento2", "POST /customer/account/createpost/", None),
        ("magento2", "POST /checkout/cart/add/", None),
        ("php", "POST /login", "login"),
        ("php", "POST /index.php/login", "login"),
        ("php", "POST /admin/Login/", "login"),
        ("php", "GET /login", None),
        ("php", "POST /logins", None),
    ],
)
def test_a_password_cannot_be_tried_by_another_address_of_the_same_page(profile, request_, counted_by):
    assert limits(profile, request_) == ({counted_by} if counted_by else set())
