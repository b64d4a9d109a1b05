"""What machines have, with what the history says of it."""

from __future__ import annotations

import functools
import io

import pytest

from tasks.digest import Digest
from tasks.environments import releases
from tasks.environments.releases import HostReleases, joined, lines
from tasks.release.history import LiveRelease
from tasks.version import Version

OLD, NEW, STRANGE = (Digest(each * 64) for each in "abc")


def host(name, current, previous, *complete):
    return HostReleases(host=name, current=current, previous=previous, complete=complete)


def live(digest, **more):
    told = {
        "branch": "main",
        "by": "kim",
        "at": "2026-11-27 10:00 UTC",
        "run": "r",
        "author": "Lee",
        "seconds": 3.1,
    }
    return LiveRelease(**{**told, "digest": digest, "commit": Version("1" * 40), "subject": "A mug", **more})


@pytest.mark.promise("releases-are-those-on-the-machines")
def test_each_release_on_the_machines_has_a_line_with_what_the_history_says():
    known = [
        live(OLD),
        live(NEW, subject="A cup", downtime=4.0),
        live(OLD, undid=NEW, at="2026-11-27 11:00 UTC", slowest=0.314),
    ]
    there = [host("i-1", OLD, "", OLD, NEW, STRANGE)]
    assert lines(joined(there, known, {NEW})) == [
        "state         release           commit   author  live since            s    down s  slowest s  by   why",
        "kept          cccccccccccccccc",
        "kept, undone  bbbbbbbbbbbbbbbb  1111111  Lee     2026-11-27 10:00 UTC  3.1  4.0     -          kim  A cup",
        "current       aaaaaaaaaaaaaaaa  1111111  Lee     2026-11-27 11:00 UTC  3.1  0.0     0.31       kim  rollback of bbbbbbbbbbbbbbbb",
    ]  # fmt: skip


def test_where_machines_differ_each_is_named():
    there = [host("i-1", NEW, OLD, OLD, NEW), host("i-2", OLD, "", OLD)]
    assert [each.state for each in joined(there, [live(OLD), live(NEW)], set())] == [
        "previous on i-1, current on i-2",
        "current on i-1, not there on i-2",
    ]


def test_machines_without_a_release_are_said_so():
    assert lines(joined([host("i-1", "", "")], [live(OLD)], set())) == ["the machines have no release"]


def asked(folder):
    printed = io.StringIO()
    program = releases.HAS.format(name="shop").replace("/srv/shop", str(folder))
    exec(program, {"print": functools.partial(print, file=printed)})
    return HostReleases.of("i-1", printed.getvalue())


@pytest.mark.promise("releases-are-those-on-the-machines")
@pytest.mark.parametrize("through", ["releases/new", "slots/live"])
def test_a_host_says_what_it_has_and_what_its_links_name(tmp_path, through):
    assert asked(tmp_path) == host("i-1", "", "")
    for name, digest in (("old", OLD), ("new", NEW)):
        (tmp_path / "releases" / name).mkdir(parents=True)
        (tmp_path / "releases" / name / ".complete").write_text(f"{digest}\n")
    (tmp_path / "releases/half.partial").mkdir()
    (tmp_path / "slots").mkdir()
    (tmp_path / "slots/live").symlink_to("../releases/new")
    (tmp_path / "current").symlink_to(through)
    (tmp_path / "previous").symlink_to("releases/old")
    found = asked(tmp_path)
    assert (found.current, found.previous, sorted(found.complete)) == (NEW, OLD, [OLD, NEW])
    (tmp_path / "previous").unlink()
    (tmp_path / "previous").symlink_to("releases/gone")
    assert asked(tmp_path).previous == ""
