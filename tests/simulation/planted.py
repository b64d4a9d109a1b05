"""planted: bugs that the simulation must find: each changes a line of the pipeline's code for the time of a test."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Planted:
    """A bug: in the function `place` (`module:Class.function`), `old` is replaced by `new`."""

    name: str
    place: str
    old: str
    new: str

    @contextlib.contextmanager
    def there(self) -> Iterator[None]:
        """The bug is in the code until the end of this."""
        module_name, _, path = self.place.partition(":")
        module = importlib.import_module(module_name)
        *classes, name = path.split(".")
        owner = module
        for each in classes:
            owner = getattr(owner, each)
        before = inspect.getattr_static(owner, name)
        text = textwrap.dedent(inspect.getsource(before.fget if isinstance(before, property) else before))
        assert self.old in text, f"{self.name}: {self.place} has no {self.old!r}"
        made: dict[str, object] = {}
        # annotations stay words, as in the module
        code = compile(
            "from __future__ import annotations\n" + text.replace(self.old, self.new, 1), self.place, "exec"
        )
        exec(code, module.__dict__, made)
        setattr(owner, name, made[name])
        try:
            yield
        finally:
            setattr(owner, name, before)


GATE = "tasks.promotion.gate"
LEASE, STATE, STORE = "tasks.bucket.lease", "tasks.graph.state", "tasks.bucket.store"

BUGS = (
    Planted("the fence is left out", f"{STATE}:BucketState._write", "if self.lease:", "if False:"),
    Planted(
        "compare-and-swap is dropped",
        f"{STORE}:Store.write",
        '{"IfMatch": seen} if seen else {"IfNoneMatch": "*"}',
        "{}",
    ),
    Planted(
        "a record is void after the action instead of before",
        "tasks.graph.stage:act",
        "    for each in wrong:\n        state.void(each)\n    return action()",
        "    done = action()\n    for each in wrong:\n        state.void(each)\n    return done",
    ),
    Planted(
        "a lease is taken over too early",
        f"{LEASE}:LeaseState.dead",
        "self.age > self.holder.ttl",
        "self.age > self.holder.ttl / 6",
    ),
    Planted(
        "a lost answer counts as another run's write",
        f"{STORE}:Store.write",
        'if now and now.value.get("nonce") == nonce:',
        "if False:",
    ),
    Planted(
        "a lease is freed whoever holds it",
        f"{LEASE}:Lease._write",
        "if not self._is_mine(found):\n            raise",
        "pass",
    ),
    Planted(
        "records are not read anew under the lease",
        f"{STATE}:BucketState.read_anew",
        "self.records.clear()",
        "pass",
    ),
    Planted(
        "nobody keeps the time while the bucket is silent",
        f"{LEASE}:Lease._watch",
        "if self._now() - self._last_sign > silence:",
        "if False:",
    ),
    Planted(
        "a renewal of the lease is left out",
        f"{LEASE}:Lease._beat",
        "self._write(dataclasses.asdict(self._me))",
        "pass",
    ),
    Planted(
        "an unlock does not wait until the former holder must have noticed",
        f"{LEASE}:Lease.seize",
        "if pause > 0 and",
        "if False and",
    ),
    Planted(
        "a run of another branch writes to the trusted zone",
        "tasks.bucket.cache:of",
        "writes=BRANCHES",
        "writes=TRUSTED",
    ),
    Planted(
        "the default branch takes what other branches have built",
        "tasks.bucket.cache:of",
        "reads=(TRUSTED,)",
        "reads=(BRANCHES, TRUSTED)",
    ),
    Planted(
        "history is written before the action",
        "tasks.release.stage:go_live",
        "        try:\n",
        "        history.add(run, digest)\n        try:\n",
    ),
    Planted(
        "a teardown leaves its records",
        "tests.simulation.controllers:stop",
        "*reversed(LEASED), ",
        "",
    ),
    Planted(
        "a teardown leaves the history",
        "tasks.teardown:tear_down",
        "history.forget(run.store, run.identity, released)",
        "pass",
    ),
    Planted(
        "the sweep ignores what is kept",
        "tasks.sweep.plan:_environment",
        "if until > inventory.at:",
        "if False:",
    ),
    Planted(
        "the sweep takes at first sight",
        "tasks.sweep.plan:plan",
        "if due <= inventory.at and all(each.name in seen for each in items):",
        "if True:",
    ),
    Planted(
        "the sweep asks nobody what is in use",
        "tasks.sweep.references:of",
        "return frozenset(digests | commits | named)",
        "return frozenset()",
    ),
    Planted(
        "the sweep takes no lease",
        "tasks.sweep.apply:_end",
        "lease.take(0)",
        "pass",
    ),
    Planted(
        "a launch has another token each time",
        "tasks.infrastructure.launches:token",
        "if number in launch and not renew:",
        "if False:",
    ),
    Planted(
        "the promotion record of the commit before is written",
        "tasks.promotion.record:add",
        "steps=(*before.steps, *new)",
        "steps=new",
    ),
    Planted(
        "a claim does not look at the state that it replaces",
        f"{GATE}:_begin_downstream",
        ", only_from=rules.MAY_CONTINUE",
        "",
    ),
    Planted(
        "what is staged is believed without a proof",
        f"{GATE}:_unproved",
        "elif not digest or proof.digest != digest:",
        "elif not digest:",
    ),
    Planted(
        "the sweep does not judge again",
        "tasks.sweep.apply:_end",
        "if not judge() & {each.name for each in items}:",
        "if False:",
    ),
    Planted(
        "a stop does not look whether the run is at work",
        "tasks.commands.controls:_refuse_at_work",
        "if not found.readable or (found.holder and not found.dead):",
        "if False:",
    ),
    Planted(
        "a new run supersedes none",
        "tasks.promotion.record:begin",
        "if former:",
        "if False:",
    ),
    Planted(
        "the environment's document is replaced whoever has changed it",
        "tasks.infrastructure.memory:change",
        "seen=document.etag if document else None",
        "seen=(store.read(key) or document).etag if document else None",
    ),
)
