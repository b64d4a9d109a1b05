"""Which layers are built side by side."""

from __future__ import annotations

import threading

import pytest

from tasks.tarball.build import turns
from tasks.tarball.build.turns import Effort, Turns

AFTER = {
    "vendor": (),
    "generated": ("vendor",),
    "small": ("vendor",),
    "large": ("vendor",),
    "last": ("large",),
}
COSTS = {
    "vendor": Effort(seconds=60, cpu=40, memory=100),
    "generated": Effort(seconds=40, cpu=40, memory=500),
    "small": Effort(seconds=10, cpu=9, memory=200),
    "large": Effort(seconds=30, cpu=60, memory=200),
    "last": Effort(seconds=20, cpu=2, memory=10),
}


def test_the_way_of_a_layer_goes_to_the_end_of_what_needs_it():
    expected = {"vendor": 110, "generated": 40, "small": 10, "large": 50, "last": 20}
    assert turns.ways(AFTER, COSTS) == expected


@pytest.mark.parametrize(
    ("building", "waiting", "chosen"),
    [
        ([], ["small", "generated", "large"], "large"),  # its way is the longest
        ([], ["small", "generated"], "generated"),
        (["large"], ["small", "generated"], None),  # it keeps two cores busy
        (["generated"], ["small", "large"], "small"),  # the longer one does not fit
        (["generated", "small"], ["last"], "last"),  # it hardly computes
        (["generated"], ["new"], "new"),
        (["generated", "small"], ["new"], None),
        ([], [], None),
    ],
)
@pytest.mark.promise("layers-by-what-they-take")
def test_the_longest_way_that_fits_is_next(building, waiting, chosen):
    here = Turns({**AFTER, "new": ()}, {**COSTS, "new": turns.unmeasured(60)}, cores=2, memory=10_000)
    here.building, here.waiting = set(building), set(waiting)
    assert here.next() == chosen


@pytest.mark.promise("layers-by-what-they-take")
def test_memory_bounds_them_too_and_one_is_always_built():
    here = Turns(AFTER, COSTS, cores=8, memory=600)
    here.building, here.waiting = {"generated"}, {"small", "last"}
    assert here.next() == "last"
    here.building, here.waiting = set(), {"generated"}
    here.memory = 1
    assert here.next() == "generated"


def test_those_that_come_together_go_by_their_ways_and_each_goes_once():
    here, seen, going = Turns(AFTER, COSTS, cores=1, memory=10_000), [], threading.Event()

    def build(name):
        with here.turn(name):
            seen.append((name, set(here.building)))
            going.wait(0.02)

    threads = [threading.Thread(target=build, args=(each,)) for each in ("small", "generated", "large")]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)
    assert seen == [(name, {name}) for name in ("large", "generated", "small")]
    assert (here.waiting, here.building) == (set(), set())


def test_a_layer_that_fails_makes_room():
    here = Turns(AFTER, COSTS, cores=1, memory=10_000)
    with pytest.raises(KeyError), here.turn("large"):
        raise KeyError
    assert here.building == set()


def test_what_a_layer_took_is_known_the_next_time_and_nonsense_is_not(tmp_path):
    path = tmp_path / "costs.json"
    turns.write(path, "small", COSTS["small"])
    turns.write(path, "large", COSTS["large"])
    turns.write(path, "small", COSTS["last"])
    assert turns.read(path) == {"small": COSTS["last"], "large": COSTS["large"]}
    for text in ("", "[]", '{"small": 1}', '{"small": {"hours": 1}}'):
        path.write_text(text)
        assert turns.read(path) == {}
    assert turns.free_memory() > 1 << 20
