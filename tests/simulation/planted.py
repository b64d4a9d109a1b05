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
)
