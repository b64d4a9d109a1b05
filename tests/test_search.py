"""Which search engine is asked, and what is refused where there is none; and what the stand-in for one answers."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from tasks import search
from tasks.search import SearchMissing, SearchPasswordMissing, StandInRefused
from tests.conftest import ROOT

SAID = {"host": "", "port": 9200, "prefix": "", "user": "kim"}


def run(host, *, own=True, per_branch=True, roles=("search",), **said):
    environment = SimpleNamespace(
        server=SimpleNamespace(roles={"search": {**SAID, "host": host, **said}}), per_branch=per_branch
    )
    return SimpleNamespace(
        environment=environment,
        environment_name="staging",
        identity="testing-0a",
        cloud=SimpleNamespace(own=own),
        profile=SimpleNamespace(name="shop", server=SimpleNamespace(roles={each: {} for each in roles})),
    )


@pytest.mark.parametrize(
    ("run", "stand_in"),
    [
        (run(""), True),
        (run("", per_branch=False), True),
        (run("stand-in", own=False), True),
        (run("search.example.com", own=False), False),
        (run("search.example.com"), False),
        (run("", own=False, roles=()), False),
    ],
)
def test_the_stand_in_is_for_the_embedded_cloud_and_for_environments_of_branches(run, stand_in):
    assert search.has_stand_in(run) is stand_in


@pytest.mark.promise("no-search-engine-is-refused")
def test_a_machine_of_aws_without_a_search_engine_is_refused():
    with pytest.raises(
        SearchMissing, match=r"environments/staging.yml: server.search.host: is empty, and the profile shop"
    ):
        search.has_stand_in(run("", own=False))
    with pytest.raises(StandInRefused, match="for testing environments only"):
        search.variables(run("stand-in", own=False, per_branch=False))


def test_an_index_bears_the_environment_s_name_and_the_stand_in_has_no_user():
    assert search.variables(run("")) == {
        "search_stand_in": True,
        "search_host": "127.0.0.1",
        "search_user": "",
        "search_prefix": "testing-0a",
    }
    named = run("search.example.com", prefix="mine")
    assert search.variables(named) == {"search_stand_in": False, "search_prefix": "mine"}
    assert (search.user(named), search.user(run(""))) == ("kim", "")
    assert search.variables(run("", roles=())) == {}


@pytest.mark.promise("doctor-and-release-say-the-same")
def test_a_user_without_a_password_is_refused():
    named = run("search.example.com")
    with pytest.raises(
        SearchPasswordMissing, match=r"server\.search\.user: is kim, and there is no password"
    ):
        search.password(named, "")
    assert (search.password(named, "brought"), search.password(run(""), "")) == ("brought", "")


# --- the stand-in ---------------------------------------------------------------------------------

PROGRAM = ROOT / "roles" / "search" / "files" / "search_stand_in.py"
spec = importlib.util.spec_from_file_location("search_stand_in", PROGRAM)
stand_in = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stand_in)

PRODUCTS = {
    "1": {"name": "Spring Mug", "price_0_1": 14.9, "category_ids": [2, 5], "visibility": "4", "position": 2},
    "2": {"name": "Winter Bowl", "price_0_1": 9, "category_ids": [2], "visibility": 4, "position": 1},
    "3": {"name": "Vase", "price_0_1": 100, "category_ids": [7], "visibility": 1, "position": 3},
}


@pytest.fixture
def ask(tmp_path):
    """Ask the stand-in; `ask.again()` is one that was started anew."""
    file = str(tmp_path / "indices.json")
    kept = SimpleNamespace(store=stand_in.Store(file))

    def ask(method, path, body=None):
        lines = isinstance(body, list)
        text = "\n".join(map(json.dumps, body)) if lines else json.dumps(body) if body is not None else ""
        return stand_in.answer(kept.store, method, path, text)

    ask.again = lambda: setattr(kept, "store", stand_in.Store(file))
    ask("PUT", "/shop_v1", {"settings": {"index": {"number_of_shards": 1}}})
    ask("PUT", "/shop_v1/_mapping", {"properties": {"name": {"type": "text"}}})
    lines = [
        line
        for id, product in PRODUCTS.items()
        for line in ({"index": {"_index": "shop_v1", "_id": id}}, product)
    ]
    assert ask("POST", "/_bulk", lines)["errors"] is False
    ask("POST", "/_aliases", {"actions": [{"add": {"index": "shop_v1", "alias": "shop"}}]})
    return ask


def found(ask, query, **more):
    return [each["_id"] for each in ask("POST", "/shop/_search", {"query": query, **more})["hits"]["hits"]]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"match_all": {}}, ["1", "2", "3"]),
        ({"term": {"category_ids": "2"}}, ["1", "2"]),
        ({"bool": {"must": [{"terms": {"visibility": ["2", "4"]}}], "must_not": {"term": {"category_ids": 5}}}}, ["2"]),
        ({"bool": {"filter": [{"range": {"price_0_1": {"gte": "9", "lt": 20}}}]}}, ["1", "2"]),
        ({"bool": {"should": [{"match": {"name": "mug"}}, {"match": {"name": {"query": "vase"}}}], "minimum_should_match": 1}}, ["1", "3"]),
        ({"multi_match": {"query": "win", "fields": ["name^2"]}}, ["2"]),
        ({"ids": {"values": [3]}}, ["3"]),
        ({"wildcard": {"name": "*bowl"}}, ["2"]),
        ({"bool": {"must": []}}, ["1", "2", "3"]),
    ],
)  # fmt: skip
@pytest.mark.promise("a-category-lists-its-products")
def test_a_query_finds_what_its_filters_say(ask, query, ids):
    assert found(ask, query) == ids
    assert ask("POST", "/shop/_count", {"query": query})["count"] == len(ids)


@pytest.fixture
def engine():
    """The port of an engine of version 2."""
    stand_in.Handler.store = stand_in.Store("")
    serving = stand_in.ThreadingHTTPServer(("127.0.0.1", 0), stand_in.Handler)
    threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
    yield serving.server_port
    serving.shutdown()
    serving.server_close()


@pytest.mark.parametrize(("version", "refused"), [("2", False), ("3.1", True)])
@pytest.mark.promise("versions-that-do-not-fit-are-refused")
def test_a_search_engine_of_another_version_than_the_settings_say_is_refused(
    engine, tmp_path, version, refused
):
    told = {"search_host": "127.0.0.1", "search_port": engine, "search_version": version}
    told |= {"search_user": "", "search_password": "", "search_stand_in": False}
    told |= {"ansible_python_interpreter": sys.executable}
    play = [{"hosts": "localhost", "gather_facts": False, "roles": ["search"], "vars": told}]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    environ = {**os.environ, "ANSIBLE_ROLES_PATH": str(ROOT / "roles"), "ANSIBLE_LOCALHOST_WARNING": "0"}
    command = ["ansible-playbook", "-c", "local", "-i", "localhost,", str(tmp_path / "play.yml")]
    said = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert (said.returncode != 0) == refused, said.stdout
    assert ("server.search.version is 3.1, and the search engine 127.0.0.1 has 2" in said.stdout) == refused


def test_hits_are_in_the_order_asked_for_and_a_page_at_a_time(ask):
    assert found(ask, {"match_all": {}}, sort=[{"price_0_1": {"order": "desc"}}]) == ["3", "1", "2"]
    second = {"from": 1, "size": 1, "sort": [{"position": "asc"}]}
    answer = ask("POST", "/shop/_search", second)
    assert ([each["_id"] for each in answer["hits"]["hits"]], answer["hits"]["total"]["value"]) == (["1"], 3)


def test_facets_are_counted(ask):
    asked = {
        "c": {"terms": {"field": "category_ids"}},
        "p": {"extended_stats": {"field": "price_0_1"}},
    }
    counted = ask("POST", "/shop/_search", {"size": 0, "aggregations": asked})["aggregations"]
    assert {each["key"]: each["doc_count"] for each in counted["c"]["buckets"]} == {2: 2, 5: 1, 7: 1}
    assert (counted["p"]["count"], counted["p"]["min"], counted["p"]["max"]) == (3, 9.0, 100.0)


def test_an_alias_moves_at_once_and_everything_outlives_a_restart(ask):
    ask("PUT", "/shop_v2", {})
    moved = {"index": "shop_v1", "alias": "shop"}, {"index": "shop_v2", "alias": "shop"}
    ask("POST", "/_aliases", {"actions": [{"remove": moved[0]}, {"add": moved[1]}]})
    ask("DELETE", "/shop_v1")
    ask.again()
    assert list(ask("GET", "/_alias/shop")) == ["shop_v2"]
    assert found(ask, {"match_all": {}}) == []
    for path in ("/shop_v1", "/_alias/nothing", "/nothing/_search"):
        with pytest.raises(stand_in.Missing):
            ask("GET", path)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/shop/_search", {"query": {"geo_shape": {"place": {}}}}),
        ("/shop/_search", {"aggs": {"x": {"rare_terms": {"field": "y"}}}}),
        ("/_msearch", {}),
        ("/shop/_nonsense", {}),
    ],
)
def test_what_the_stand_in_does_not_know_it_refuses(ask, path, body):
    with pytest.raises(stand_in.Unknown):
        ask("POST", path, body)
