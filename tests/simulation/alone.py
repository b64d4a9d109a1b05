"""alone: a simulated world for the test of one module: nothing goes wrong by itself, time costs nothing, and whoever is started is a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from botocore.exceptions import EndpointConnectionError

from tests.simulation.cloud import Stored, World
from tests.simulation.controllers import SimulatedRun, run_of
from tests.simulation.scheduler import Decisions, Process, Scheduler
from tests.simulation.truth import Truth

T = TypeVar("T")


class Unjudged(Truth):
    """The test says what must hold."""

    def _nothing(self, *_: object) -> None:
        """Hear of a change, and say nothing."""

    written = read = made = launched = removed = ends = begins = goes_live = torn_down = over = _nothing


class Strict(Scheduler):
    """A scheduler that tells of what is raised in any thread: the user would see a traceback."""

    def start(self, process, name, work):
        """Start a thread."""

        def watched() -> None:
            try:
                work()
            except Exception as error:
                self.failure = self.failure or error
                raise

        return super().start(process, name, watched)


class Alone(World):
    """A world without faults, but those that a test asks for. `cut`: processes whose requests get no answer."""

    def __init__(self) -> None:
        super().__init__(Strict(Decisions(given=())), Unjudged())
        self.cut: set[str] = set()
        self.requests: list[tuple[str, str]] = []

    def call(self, process, name, effect, *, changes=False):
        """Send a request, and note it."""
        self.requests.append((process.name, name))
        if process.name in self.cut:
            self.scheduler.pause(1.0)
            raise EndpointConnectionError(endpoint_url=name)
        return super().call(process, name, effect, changes=changes)

    def at(self, seconds: float) -> None:
        """Wait, in a run of this world, until it is so late."""
        self.scheduler.pause(seconds - self.scheduler.now)

    def put(self, key: str, body: object) -> None:
        """Store an object, as someone else does."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.objects[key] = Stored(raw, f"v{next(self.numbers)}", self.scheduler.now)

    def start(
        self,
        act: Callable[[SimulatedRun], object],
        *,
        name: str = "me",
        environment: str = "testing",
        checked_out: int = 0,
    ) -> Process:
        """Start a run that does this; its threads end with it. It begins with `run`."""
        process = Process(self.scheduler, name)
        made = run_of(self, process, environment, checked_out)

        def main() -> None:
            try:
                act(made)
            finally:
                self.scheduler.kill(process)

        self.scheduler.start(process, "main", main)
        return process

    def run(self) -> None:
        """Let all that is started come to its end. Raises what one of them raised, also in a thread of its own."""
        try:
            self.scheduler.run()
        finally:
            self.scheduler.failure = None

    def does(self, act: Callable[[SimulatedRun], T], **how: object) -> T:
        """Start a run that does this, and let all come to their ends; its answer."""
        answer: list[T] = []
        self.start(lambda run: answer.append(act(run)), **how)
        self.run()
        return answer[0]
