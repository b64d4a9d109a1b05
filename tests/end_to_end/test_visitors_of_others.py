"""Visitors of the other profiles, while releases go by, go wrong and are undone: the shop's own tests, shorter."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import commit
from tests.end_to_end.conftest import Site, copy_example, replace
from tests.end_to_end.crowd import CLOSED, Crowd
from tests.end_to_end.test_faults_of_a_release import kill
from tests.end_to_end.test_visitors import Released, release, told

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.xdist_group("others"),
    pytest.mark.long(
        short="tests/end_to_end/test_php.py::test_an_application_is_released_unchanged_changed_migrated_and_torn_down"
    ),
]

RATES = {"page": 40, "asset": 40}
RELEASES = 3
MOMENTS = (0.8, 1.1, 1.4)
"""Seconds after which a release is killed."""
MISSING = "<img src='/missing.png'>"


@dataclass(frozen=True, kw_only=True)
class Other:
    """A site of another profile; `page`: the file with the front page's heading; `paths`: what its visitors ask for."""

    site: Site
    page: str
    heading: str
    paths: tuple[str, ...]

    def shows(self, words: str) -> None:
        """Commit another heading."""
        path: Path = self.site.root / self.page
        heading = re.compile(rf"<h1>{self.heading}.*?</h1>")
        path.write_text(heading.sub(f"<h1>{words}</h1>", path.read_text(), count=1))
        commit(self.site.root, words)

    def crowd(self) -> Crowd:
        """Its visitors."""
        return self.site.crowd(pages=self.paths)


@pytest.fixture(
    scope="module",
    params=[
        ("php", "app/src/Application.php", "Notes", ("/",)),
        ("static", "app/pages/index.html", "Home", ("/", "/about")),
    ],
    ids=["php", "static"],
)
def other(request, tmp_path_factory, project):
    """Released once. `project` deletes the cloud."""
    profile, page, heading, paths = request.param
    root = copy_example(tmp_path_factory.mktemp("other") / f"{profile}site", profile)
    if profile == "static":
        (root / "app" / "public").mkdir()
        (root / "app" / "public" / "style.css").write_text("h1 { color: #333 }\n")
        replace(
            root / "app" / "layout.html", {"<title>": '<link rel="stylesheet" href="/style.css">\n<title>'}
        )
    commit(root, "another site")
    site = Site(root=root, variables={})
    release(site)
    yield Other(site=site, page=page, heading=heading, paths=paths)
    assert site.doit("teardown").returncode == 0


def lost_nobody(crowd: Crowd, releases: list[Released]) -> None:
    """All were answered, and none was told to come again."""
    figures = told(crowd, 0, releases)
    assert crowd.failures() == [], (figures, crowd.failures()[:5])
    assert [each for each in crowd.visits if each.says == CLOSED] == [], figures
    assert {each.kind for each in crowd.visits if each.path.endswith(".css")} == {"asset"}, figures


def test_releases_and_a_rollback_lose_no_visitor(other):
    crowd, releases = other.crowd(), []
    with crowd.visiting(**RATES):
        for number in range(RELEASES):
            other.shows(f"{other.heading} {number}")
            releases.append(release(other.site))
        back = release(other.site, "rollback")
        time.sleep(2)
    lost_nobody(crowd, [*releases, back])
    assert f"<h1>{other.heading} {RELEASES - 2}</h1>" in other.site.get()[1]


def test_what_goes_wrong_loses_no_visitor_and_a_release_puts_it_right(other):
    crowd, releases = other.crowd(), []
    with crowd.visiting(**RATES):
        other.shows(f"{other.heading}{MISSING}")
        refused = other.site.doit("release")
        assert refused.returncode == 1, refused.stdout
        assert "names /missing.png, which answers 404" in refused.stderr
        assert "runs as before" in refused.stderr
        for moment in MOMENTS:
            other.shows(f"{other.heading} again, {moment}")
            child = other.site.begin("release", stdout=subprocess.DEVNULL)
            time.sleep(moment)
            kill(other.site, child)
            child.wait(timeout=120)
            releases.append(release(other.site))
            assert f"<h1>{other.heading} again, {moment}</h1>" in other.site.get()[1]
    lost_nobody(crowd, releases)
