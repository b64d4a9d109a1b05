#!/usr/bin/env python3
"""search_stand_in: answers what a shop asks of OpenSearch, well enough for a category to list its products.

A stand-in for testing: words are matched by their letters, everything is in memory, and one file keeps it over a restart.
What it does not know it refuses with 400, so that nothing seems to work that does not.
"""

import fnmatch
import json
import os
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

VERSION = "2.12.0"


class Unknown(Exception):
    """Something that the stand-in does not know."""


class Missing(Exception):
    """An index or a document that does not exist."""


def values(document, field):
    """Everything that a document has in a field, as a list; `a.b` is the field b of a, or a field of that name."""
    found = document.get(field)
    if found is None and "." in field:
        outer, _, inner = field.partition(".")
        parts = document.get(outer)
        parts = parts if isinstance(parts, list) else [parts]
        found = [one for each in parts if isinstance(each, dict) for one in values(each, inner)]
        if not found:
            found = document.get(outer) if not isinstance(document.get(outer), dict) else None
    if found is None:
        return []
    return found if isinstance(found, list) else [found]


def same(one, other):
    """Whether two values are one to a search: `4` and `"4"` are."""
    if isinstance(one, bool) or isinstance(other, bool):
        return str(one).lower() == str(other).lower()
    return str(one) == str(other)


def words(text):
    """The words of a text."""
    return re.findall(r"\w+", str(text).lower())


def number(value):
    """A number where it is one, so that 9 is below 10."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)


def in_range(value, bounds):
    """Whether a value is within bounds."""
    checks = {
        "gt": lambda a, b: a > b,
        "gte": lambda a, b: a >= b,
        "lt": lambda a, b: a < b,
        "lte": lambda a, b: a <= b,
    }
    names = {"from": "gte", "to": "lte"}
    for name, bound in bounds.items():
        check = checks.get(names.get(name, name))
        if check is None or bound is None:
            continue
        mine, other = number(value), number(bound)
        if type(mine) is not type(other):
            mine, other = str(value), str(bound)
        if not check(mine, other):
            return False
    return True


def many(value):
    """A list of what may be one alone."""
    return value if isinstance(value, list) else [value]


def matches(query, document, id):
    """Whether a document is what a query looks for."""
    return all(_matches(kind, told, document, id) for kind, told in query.items())


def _matches(kind, told, document, id):
    if kind == "match_all":
        return True
    if kind == "match_none":
        return False
    if kind == "bool":
        return _bool(told, document, id)
    if kind in ("constant_score", "function_score", "nested"):
        return matches(told.get("filter") or told.get("query") or {"match_all": {}}, document, id)
    if kind == "ids":
        return str(id) in map(str, told["values"])
    if kind == "exists":
        return bool(values(document, told["field"]))
    if kind in ("multi_match", "query_string", "simple_query_string"):
        fields = [each.partition("^")[0] for each in told.get("fields", ["*"])]
        return any(_text(told["query"], document, each) for each in fields)
    field, wanted = next(pair for pair in told.items() if pair[0] != "boost")
    has = [id] if field == "_id" else values(document, field)
    if kind in ("term", "terms"):
        wanted = wanted.get("value") if isinstance(wanted, dict) else wanted
        return any(same(one, other) for one in has for other in many(wanted))
    if kind == "range":
        return any(in_range(each, wanted) for each in has)
    if kind in ("match", "match_phrase", "match_phrase_prefix"):
        return _text(wanted["query"] if isinstance(wanted, dict) else wanted, document, field)
    if kind in ("prefix", "wildcard"):
        pattern = wanted.get("value") if isinstance(wanted, dict) else wanted
        pattern = f"{pattern}*" if kind == "prefix" else pattern
        return any(fnmatch.fnmatch(str(each).lower(), str(pattern).lower()) for each in has)
    raise Unknown(f"query {kind}")


def _bool(told, document, id):
    must = [*many(told.get("must", [])), *many(told.get("filter", []))]
    should = many(told.get("should", []))
    least = int(told.get("minimum_should_match", 0 if must else 1)) if should else 0
    return (
        all(matches(each, document, id) for each in must)
        and not any(matches(each, document, id) for each in many(told.get("must_not", [])))
        and sum(matches(each, document, id) for each in should) >= least
    )


def _text(wanted, document, field):
    fields = (
        document if field in ("*", "_all") else [each for each in document if fnmatch.fnmatch(each, field)]
    )
    has = {word for each in fields or [field] for value in values(document, each) for word in words(value)}
    return any(mine.startswith(each) for each in words(wanted) for mine in has)


def ordered(hits, sort):
    """Hits in the order that was asked for; the last criterion sorts first."""
    for each in reversed(many(sort)):
        field, told = (each, "asc") if isinstance(each, str) else next(iter(each.items()))
        order = told if isinstance(told, str) else told.get("order", "asc")
        if field == "_score":
            continue

        def key(hit, field=field):
            has = [hit[0]] if field == "_id" else values(hit[1], field)
            value = number(has[0]) if has else ""
            return (not has, isinstance(value, str), value)

        hits = sorted(hits, key=key, reverse=order == "desc")
    return hits


def aggregated(asked, hits):
    """What is counted over all hits."""
    found = {}
    for name, told in asked.items():
        inner = told.get("aggs") or told.get("aggregations") or {}
        kind = next(each for each in told if each not in ("aggs", "aggregations"))
        field = told[kind].get("field", "")
        numbers = [
            float(one)
            for _, document, *_ in hits
            for one in values(document, field)
            if isinstance(number(one), float)
        ]
        if kind == "terms":
            groups = {}
            for hit in hits:
                for value in values(hit[1], field):
                    groups.setdefault(str(value), (value, []))[1].append(hit)
            most = sorted(groups.values(), key=lambda each: -len(each[1]))[: told[kind].get("size") or 10]
            buckets = [
                {"key": value, "doc_count": len(group), **aggregated(inner, group)} for value, group in most
            ]
            found[name] = {"doc_count_error_upper_bound": 0, "sum_other_doc_count": 0, "buckets": buckets}
        elif kind == "histogram":
            step, groups = float(told[kind]["interval"]), {}
            for each in numbers:
                groups[each // step * step] = groups.get(each // step * step, 0) + 1
            found[name] = {
                "buckets": [{"key": key, "doc_count": count} for key, count in sorted(groups.items())]
            }
        elif kind in ("stats", "extended_stats"):
            count, total = len(numbers), sum(numbers)
            mean = total / count if count else 0
            spread = (sum((each - mean) ** 2 for each in numbers) / count) ** 0.5 if count else 0
            edges = {"min": min(numbers, default=None), "max": max(numbers, default=None)}
            found[name] = {"count": count, "sum": total, "avg": mean, "std_deviation": spread, **edges}
        elif kind in ("min", "max", "sum", "avg", "value_count", "cardinality"):
            results = {
                "sum": sum(numbers),
                "avg": sum(numbers) / (len(numbers) or 1),
                "value_count": len(numbers),
            }
            results |= {
                "min": min(numbers, default=None),
                "max": max(numbers, default=None),
                "cardinality": len(set(numbers)),
            }
            found[name] = {"value": results[kind]}
        elif kind in ("filter", "nested", "global"):
            group = [hit for hit in hits if kind != "filter" or matches(told[kind], hit[1], hit[0])]
            found[name] = {"doc_count": len(group), **aggregated(inner, group)}
        else:
            raise Unknown(f"aggregation {kind}")
    return found


class Store:
    """Every index, with its documents and aliases."""

    def __init__(self, path):
        self.path, self.lock = path, threading.RLock()
        self.indices = {}
        if path and os.path.exists(path):
            with open(path) as file:
                self.indices = json.load(file)

    def keep(self):
        """Write everything down, whole or not at all."""
        if self.path:
            with open(f"{self.path}.new", "w") as file:
                json.dump(self.indices, file)
            os.replace(f"{self.path}.new", self.path)

    def named(self, pattern):
        """The indices of a name, an alias or a pattern. Raises Missing."""
        found = [
            name
            for part in pattern.split(",")
            for name, each in self.indices.items()
            if part == "_all" or any(fnmatch.fnmatch(one, part) for one in (name, *each["aliases"]))
        ]
        if not found and "*" not in pattern and pattern != "_all":
            raise Missing(pattern)
        return list(dict.fromkeys(found))

    def one(self, name):
        """The index of a name or an alias, which is made if there is none: as for a document that is written."""
        try:
            return self.indices[self.named(name)[0]]
        except Missing:
            return self.make(name, {})

    def make(self, name, told):
        """A new index."""
        made = {
            "aliases": told.get("aliases", {}),
            "settings": told.get("settings", {}),
            "mappings": told.get("mappings", {}),
            "documents": {},
        }
        return self.indices.setdefault(name, made)

    def hits(self, pattern, body):
        """What a search finds: (id, document, index), in order."""
        query = body.get("query") or {"match_all": {}}
        found = [
            (id, document, name)
            for name in self.named(pattern)
            for id, document in self.indices[name]["documents"].items()
            if matches(query, document, id)
        ]
        return ordered(found, body.get("sort", []))

    def search(self, pattern, body):
        """The answer to _search."""
        hits = self.hits(pattern, body)
        start, size = int(body.get("from", 0)), int(body.get("size", 10))
        if after := body.get("search_after"):
            start = next((at + 1 for at, hit in enumerate(hits) if str(hit[0]) in map(str, after)), 0)
        shown = [
            {
                "_index": name,
                "_id": id,
                "_score": 1.0,
                "_source": document,
                "fields": {"_id": [id], "_score": [1.0]},
            }
            for id, document, name in hits[start : start + size]
        ]
        answer = {
            "took": 0,
            "timed_out": False,
            "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
        }
        answer["hits"] = {"total": {"value": len(hits), "relation": "eq"}, "max_score": 1.0, "hits": shown}
        asked = body.get("aggs") or body.get("aggregations")
        if asked:
            answer["aggregations"] = aggregated(asked, hits)
        if body.get("suggest"):
            answer["suggest"] = {name: [] for name in body["suggest"] if name != "text"}
        return answer

    def bulk(self, lines, index):
        """The answer to _bulk: an action a line, and mostly its document in the next one."""
        items, lines = [], iter(lines)
        for line in lines:
            kind, told = next(iter(json.loads(line).items()))
            name, id = told.get("_index", index), str(told["_id"])
            documents = self.one(name)["documents"]
            if kind == "delete":
                documents.pop(id, None)
            elif kind in ("index", "create", "update"):
                document = json.loads(next(lines))
                documents[id] = {**documents.get(id, {}), **document["doc"]} if kind == "update" else document
            else:
                raise Unknown(f"bulk action {kind}")
            items.append({kind: {"_index": name, "_id": id, "status": 200, "result": "updated"}})
        return {"took": 0, "errors": False, "items": items}

    def point(self, actions):
        """Change aliases, all at once."""
        for each in actions:
            kind, told = next(iter(each.items()))
            for name in self.named(told.get("index") or ",".join(told["indices"])):
                if kind == "remove_index":
                    del self.indices[name]
                    continue
                for alias in [told["alias"]] if "alias" in told else told["aliases"]:
                    aliases = self.indices[name]["aliases"]
                    aliases.update({alias: {}}) if kind == "add" else aliases.pop(alias, None)

    def described(self, pattern, *parts):
        """What is known of each index."""
        return {name: {part: self.indices[name][part] for part in parts} for name in self.named(pattern)}


DONE = {"acknowledged": True}


def answer(store, method, path, text):
    """Status and answer for a request. Raises Missing, Unknown, or what bad JSON raises."""
    parts = [unquote(each) for each in path.split("/") if each]
    if not parts:
        version = {
            "number": VERSION,
            "distribution": "opensearch",
            "minimum_index_compatibility_version": "7.0.0",
        }
        return {
            "name": "stand-in",
            "cluster_name": "stand-in",
            "version": version,
            "tagline": "a stand-in for testing",
        }
    command = next(
        (each for each in parts if each.startswith("_") and each not in ("_all", "_doc", "_create")), ""
    )
    at = parts.index(command) if command else len(parts)
    index, rest = ",".join(parts[:1]) if at else "_all", parts[at + 1 :]
    if command == "_bulk":
        found = store.bulk([line for line in text.splitlines() if line.strip()], index)
        store.keep()
        return found
    body = json.loads(text) if text.strip() else {}
    if command == "_msearch":
        raise Unknown(command)
    if command == "_search" and rest == ["point_in_time"]:
        return (
            {"pit_id": index, "_shards": {"total": 1, "successful": 1}}
            if method != "DELETE"
            else {"pits": []}
        )
    if command == "_search":
        return store.search(body.get("pit", {}).get("id", index), body)
    if command == "_count":
        return {"count": len(store.hits(index, body)), "_shards": {"total": 1, "successful": 1}}
    if command in ("_refresh", "_flush"):
        store.named(index)
        return {"_shards": {"total": 1, "successful": 1, "failed": 0}}
    if command == "_cluster":
        return {"status": "green", "cluster_name": "stand-in", "number_of_nodes": 1}
    if command == "_cat":
        return [
            {"index": name, "docs.count": str(len(each["documents"])), "health": "green"}
            for name, each in store.indices.items()
        ]
    if command == "_aliases" and method == "POST":
        store.point(body["actions"])
    elif command in ("_alias", "_aliases") and method == "PUT":
        store.point([{"add": {"index": index, "alias": rest[0]}}])
    elif command in ("_alias", "_aliases") and method == "DELETE":
        store.point([{"remove": {"index": index, "alias": rest[0]}}])
    elif command in ("_alias", "_aliases"):
        found = store.described(index, "aliases")
        if rest:
            found = {name: each for name, each in found.items() if rest[0] in each["aliases"]}
            if not found:
                raise Missing(f"alias {rest[0]}")
        return found
    elif command in ("_mapping", "_mappings") and method in ("PUT", "POST"):
        for name in store.named(index):
            kept = store.indices[name]["mappings"]
            kept.update({**body, "properties": {**kept.get("properties", {}), **body.get("properties", {})}})
    elif command in ("_mapping", "_mappings"):
        return store.described(index, "mappings")
    elif command == "_settings" and method == "PUT":
        for name in store.named(index):
            store.indices[name]["settings"].update(body)
    elif command == "_settings":
        return store.described(index, "settings")
    elif len(parts) == 1 and method == "PUT":
        if index in store.indices:
            raise Unknown(f"resource_already_exists_exception: index {index}")
        store.make(index, body)
        store.keep()
        return {**DONE, "shards_acknowledged": True, "index": index}
    elif len(parts) == 1 and method == "DELETE":
        for name in store.named(index):
            del store.indices[name]
    elif len(parts) == 1:
        return store.described(index, "aliases", "mappings", "settings")
    elif parts[1] in ("_doc", "_create") and len(parts) == 3:
        documents = (
            store.one(index)["documents"]
            if method != "GET"
            else store.indices[store.named(index)[0]]["documents"]
        )
        if method in ("PUT", "POST"):
            documents[parts[2]] = body
        elif parts[2] not in documents:
            raise Missing(f"document {parts[2]}")
        elif method == "DELETE":
            del documents[parts[2]]
        else:
            return {"_index": index, "_id": parts[2], "found": True, "_source": documents[parts[2]]}
    else:
        raise Unknown(f"{method} {path}")
    store.keep()
    return DONE


class Handler(BaseHTTPRequestHandler):
    """HTTP around `answer`."""

    protocol_version = "HTTP/1.1"
    store = Store("")

    def do_GET(self):
        """Every method."""
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        url = urlsplit(self.path)
        if source := parse_qs(url.query).get("source"):
            text = text or source[0]
        try:
            with self.store.lock:
                method = "GET" if self.command == "HEAD" else self.command
                status, said = 200, answer(self.store, method, url.path, text)
        except Missing as error:
            status, said = (
                404,
                {"status": 404, "error": {"type": "index_not_found_exception", "reason": f"no such {error}"}},
            )
        except (Unknown, LookupError, TypeError, ValueError, StopIteration) as error:
            reason = f"the stand-in does not know this: {error}"
            status, said = (
                400,
                {"status": 400, "error": {"type": "illegal_argument_exception", "reason": reason}},
            )
        data = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, format, *arguments):
        """Say what was refused; what was answered is no news."""
        if len(arguments) > 1 and str(arguments[1]) not in ("200", "404"):
            print(format % arguments, file=sys.stderr)


def main():
    """PORT [FILE]: answer on loopback, and keep everything in FILE."""
    Handler.store = Store(sys.argv[2] if len(sys.argv) > 2 else "")
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()


if __name__ == "__main__":
    main()
