"""The profile's VCL in a real Varnish before the shop: what is kept, for whom, and who may purge it."""

from __future__ import annotations

import http.client
import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.app.conftest import Shop, free_port, listening, need

pytestmark = pytest.mark.services

PEER, STRANGER = "127.0.0.2", "127.0.0.3"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True, kw_only=True)
class Cached:
    shop: Shop
    port: int

    def ask(self, path, method="GET", body=None, *, by="127.0.0.1", **headers):
        """Status and body of an answer, its headers, and whether the cache had it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10, source_address=(by, 0))
        connection.request(method, path, body, {"Host": "localhost", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers, answer.headers.get("X-Cache") == "HIT"

    def price(self, path="/spring-mug.html", **headers):
        """What the mug costs, and whether the cache knew."""
        status, page, _, hit = self.ask(path, **headers)
        assert status == 200, page
        return re.search(r"€\d+\.\d\d", page)[0], hit

    def kept(self, query="{}", **headers):
        """For which group an answer to GraphQL is, its id, and whether the cache had it."""
        status, answer, told, hit = self.ask(f"/graphql?query={query}", **headers)
        assert status == 200, answer
        return json.loads(answer)["data"]["customer"]["group"], told["X-Magento-Cache-Id"], hit

    def joins(self, group):
        """Somebody who is in this group now: his cookies."""
        status, _, headers, _ = self.ask("/customer/account/loginPost/", "POST", f"group={group}", **FORM)
        assert status == 303
        return dict(each.split(";")[0].split("=", 1) for each in headers.get_all("Set-Cookie"))


@pytest.fixture
def cached(shop, services, render):
    need("varnishd")
    # a page is kept for longer than a test takes
    for path in shop.path.glob("app/code/Shop/Catalog/Controller/ProductList.php"):
        path.write_text(path.read_text().replace("SECONDS = 1;", "SECONDS = 600;"))
    hosts = [{"id": "i-1", "address": "127.0.0.1"}, {"id": "i-2", "address": PEER}]
    text = render("varnish.vcl.j2", application_name="shop", application_hosts=hosts)
    assert text.count(f'.port = "{shop.port}";') == 2
    port = free_port()
    # not pytest's own folder: the path of a socket may have 107 characters
    with tempfile.TemporaryDirectory(prefix="varnish-") as folder:
        vcl = Path(folder) / "default.vcl"
        vcl.write_text(text)
        listens = ["-j", "none", "-F", "-n", f"{folder}/work", "-a", f":{port}"]
        sizes = ["-p", "http_resp_hdr_len=64k", "-p", "http_resp_size=128k", "-p", "workspace_backend=256k"]
        command = ["varnishd", *listens, "-f", str(vcl), "-s", "malloc,32m", *sizes]
        services.start("varnish", command, lambda: listening(port))
        yield Cached(shop=shop, port=port)
        services.stop("varnish")


def cookie(**cookies):
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}


@pytest.mark.promise("a-group-s-pages-are-its-own")
def test_a_page_of_one_group_of_customers_is_kept_for_that_group_alone(cached):
    assert [cached.price() for _ in range(2)] == [("€14.90", False), ("€14.90", True)]
    told = cached.joins("wholesale")
    assert [cached.price(**cookie(**told)) for _ in range(2)] == [("€11.92", False), ("€11.92", True)]
    assert cached.price() == ("€14.90", True)
    other = cached.joins("wholesale")  # in the same group, and with other cookies beside it
    assert cached.price(**cookie(a="1", **{**other, "PHPSESSID": "x"})) == ("€11.92", True)


@pytest.mark.promise("a-group-s-pages-are-its-own")
def test_a_page_that_tells_a_visitor_his_group_is_not_kept_for_those_who_are_in_none(cached):
    told = cached.joins("wholesale")
    alone = cookie(PHPSESSID=told["PHPSESSID"])
    assert [cached.price(**alone) for _ in range(2)] == [("€11.92", False)] * 2
    assert cached.price() == ("€14.90", False)


@pytest.mark.promise("a-group-s-pages-are-its-own")
def test_who_has_left_a_group_leaves_nothing_for_those_who_are_in_it(cached):
    told = cached.joins("wholesale")
    left = cookie(**{"X-Magento-Vary": told["X-Magento-Vary"]})
    assert [cached.price(**left) for _ in range(2)] == [("€14.90", False)] * 2
    assert cached.price(**cookie(**told)) == ("€11.92", False)


@pytest.mark.promise("graphql-by-cache-id")
def test_an_answer_of_graphql_is_kept_by_its_id_and_none_with_a_token_alone(cached):
    (_, id, first), second = cached.kept(), cached.kept()
    assert (first, second) == (False, ("", id, True))
    by_id = {"X-Magento-Cache-Id": id}
    assert [cached.kept(**by_id) for _ in range(2)] == [("", id, False), ("", id, True)]
    assert [cached.kept(**{"X-Magento-Cache-Id": "x"})[2] for _ in range(2)] == [False, False]
    token = {"Authorization": "Bearer wholesale"}
    (group, own, _), again = cached.kept(**token), cached.kept(**token)
    assert again == (group, own, False)
    assert (group, own != id) == ("wholesale", True)
    member = {**token, "X-Magento-Cache-Id": own}
    assert [cached.kept(**member) for _ in range(2)] == [(group, own, False), (group, own, True)]
    assert cached.kept(**{"X-Magento-Cache-Id": own})[:2] == ("", id)  # without the token
    assert cached.kept() == ("", id, True)
    assert not any(cached.ask("/graphql", "POST", "{}")[3] for _ in range(2))


@pytest.mark.promise("hosts-purge-each-other")
def test_what_has_a_tag_is_purged_by_the_hosts_of_the_environment_and_by_nobody_else(cached):
    tagged = {"X-Magento-Tags-Pattern": "((^|,)cat_p_1(,|$))"}
    for by, status in (("127.0.0.1", 200), (PEER, 200), (STRANGER, 405)):
        assert cached.price()[1] in (True, False)
        assert cached.price()[1]
        assert cached.ask("/", "PURGE", by=by, **tagged)[0] == status
        assert cached.price()[1] == (status != 200)
    for claim in ({"X-Forwarded-For": STRANGER}, {"X-Real-IP": "127.0.0.1"}):  # what came through nginx
        assert cached.ask("/", "PURGE", **tagged, **claim)[0] == 405
        assert cached.ask("/", "PURGE", by=PEER, **tagged, **claim)[0] == 405
    assert cached.ask("/", "PURGE", **{"X-Magento-Tags-Pattern": "((^|,)cat_p_2(,|$))"})[0] == 200
    assert cached.price()[1]
    settings = cached.shop.path / "app/etc/env.php"
    settings.write_text(
        re.sub(r"(\['host' => '127.0.0.1', 'port' => ')\d+", rf"\g<1>{cached.port}", settings.read_text())
    )
    flushed = cached.shop.magento("cache:flush")
    assert (flushed.returncode, flushed.stderr) == (0, "")
    assert not cached.price()[1]
