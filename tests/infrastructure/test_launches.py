"""A launch that was not seen to end is asked for again, not anew."""

from __future__ import annotations

import pytest

from tasks.infrastructure import launches, memory


@pytest.mark.promise("no-machine-is-made-twice")
def test_a_launch_that_was_not_seen_is_asked_for_with_the_same_token(run):
    token = launches.token(run.store, run.identity, "1")
    assert launches.token(run.store, run.identity, "1") == token
    launches.forget(run.store, run.identity)
    assert launches.token(run.store, run.identity, "1") != token


def test_a_token_that_is_spent_is_renewed(run):
    spent = launches.token(run.store, run.identity, "1")
    renewed = launches.token(run.store, run.identity, "1", renew=True)
    assert renewed != spent
    assert launches.token(run.store, run.identity, "1") == renewed


def test_tokens_of_former_launches_are_known_some_time_longer(run):
    tokens = [launches.token(run.store, run.identity, "1", renew=True)]
    for _ in range(launches.FORMER):
        launches.forget(run.store, run.identity)
        tokens.append(launches.token(run.store, run.identity, "1"))
    is_own = memory.is_own(memory.read(run.store, run.identity))
    known = [is_own("i-1", token) for token in (*tokens, "", "another")]
    assert known == [True] * len(tokens) + [False] * 2
    launches.forget(run.store, run.identity)
    assert not memory.is_own(memory.read(run.store, run.identity))("i-1", tokens[0])


def test_forgotten_launches_leave_the_host_keys(run):
    memory.change(run.store, run.identity, lambda kept: {**kept, "host_keys": {"i-1": ["key"]}})
    launches.token(run.store, run.identity, "1")
    launches.forget(run.store, run.identity)
    assert memory.read(run.store, run.identity)["host_keys"] == {"i-1": ["key"]}
    memory.forget(run.store, run.identity, memory.version(run.store, run.identity))
    assert memory.read(run.store, run.identity) == {}
