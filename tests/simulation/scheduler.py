"""scheduler: runs the threads of several simulated processes, one at a time, and decides from a list of numbers who goes on.

A thread gives the turn away at each request and each wait. Nothing else decides: neither the system's threads nor the clock nor the
order of a set. The same decisions give the same history.
"""

from __future__ import annotations

import datetime
import random
import threading
from collections import deque
from collections.abc import Sequence

from tasks.clock import Clock
from tasks.process.children import Cancelled
from tasks.process.threads import Threads

BEGIN = datetime.datetime(2026, 3, 2, 8, tzinfo=datetime.UTC)
NEAR = 0.5
"""Seconds: among threads that are due within this time, any may be next."""
FAIR = 2
"""A thread that is due is passed over so many times at most."""
COARSE = 3.0
"""Seconds: no wait for a flag is shorter, which saves turns. A system may wake a thread late, too."""


class Killed(BaseException):
    """The process is dead: its threads do nothing more."""


class Interrupted(BaseException):
    """The signal that a lost lease sends to the main thread."""


class Endless(Exception):
    """The history did not end within its steps."""


class Decisions:
    """Numbers that decide a history: from a random generator, or from a list; after its end all are 0, which is «as usual»."""

    def __init__(self, seed: int | None = None, given: Sequence[int] | None = None) -> None:
        self.random = None if given is not None else random.Random(seed)
        self.given = deque(given or ())
        self.made: list[int] = []

    def chance(self, share: float, number: int) -> int:
        """0, or with that chance one of 1 to `number`."""
        if self.random:
            value = self.random.randrange(1, number + 1) if self.random.random() < share else 0
        else:
            value = self.given.popleft() % (number + 1) if self.given else 0
        self.made.append(value)
        return value

    def one_of(self, number: int) -> int:
        """One of 0 to `number` - 1, all alike."""
        if self.random:
            value = self.random.randrange(number)
        else:
            value = self.given.popleft() % number if self.given else 0
        self.made.append(value)
        return value


class Flag:
    """An event of a simulated process."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler, self._set = scheduler, False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        self._scheduler.wake(self)

    def wait(self, timeout: float) -> bool:
        if not self._set:
            self._scheduler.pause(max(timeout, COARSE), on=self)
        return self._set


class Lock:
    """A lock of a simulated process, which its holder may take again."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler, self._holder, self._depth = scheduler, None, 0

    def __enter__(self) -> None:
        me = self._scheduler.running
        while self._holder not in (None, me):
            self._scheduler.pause(0.01)
        self._holder, self._depth = me, self._depth + 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._holder = None


class Now:
    """What a pool returns for a piece of work, which is done already."""

    def __init__(self, value, error):
        self._value, self._error = value, error

    def result(self):
        if self._error:
            raise self._error
        return self._value


class Pool:
    """Does each piece of work at once, in the thread that asks."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, work, *arguments):
        try:
            return Now(work(*arguments), None)
        except Exception as error:
            return Now(None, error)

    def map(self, work, *lists):
        return iter([work(*each) for each in zip(*lists, strict=False)])

    def shutdown(self, **_):
        pass


class SimulatedThreads(Threads):
    """The threads of one simulated process."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def lock(self):
        return Lock(self.process.scheduler)

    def event(self):
        return Flag(self.process.scheduler)

    def start(self, name, work):
        self.process.scheduler.refuse_dead()
        return self.process.scheduler.start(self.process, name, work)

    def pool(self, most=None):
        return Pool()

    def wait(self, seconds, stage):
        if not self.process.interrupted:
            self.process.scheduler.pause(seconds, on=self.process)
        if self.process.interrupted:
            raise Cancelled(stage=stage)

    def cancelled(self):
        return self.process.interrupted

    def interrupt(self):
        self.process.interrupted = True
        self.process.scheduler.wake(self.process)


class Process:
    """A simulated process. `ahead`: seconds that its wall clock is wrong. `frozen`: until when it stands still. `acted`: when it last changed something, but its lease.
    `silent`: until when the bucket does not answer it. `over`: whether it has nothing more to do than to give its lease back."""

    def __init__(self, scheduler: Scheduler, name: str) -> None:
        self.scheduler, self.name = scheduler, name
        self.ahead, self.frozen, self.acted, self.silent = 0.0, 0.0, 0.0, 0.0
        self.interrupted, self.dead, self.signalled = False, False, False
        self.threads = SimulatedThreads(self)
        self.main: Thread | None = None
        self.end = ""
        self.over = False
        self.clock = Clock(
            now=lambda: scheduler.wall + datetime.timedelta(seconds=self.ahead),
            monotonic=lambda: scheduler.now,
            since_boot=lambda: scheduler.now,
        )

    def stop(self) -> None:
        """What a run does when its lease is lost: interrupt its waits, and send a signal to the main thread."""
        self.threads.interrupt()
        if not self.signalled and self.main and not self.main.over:
            self.signalled = True
            self.main.signal = True
            self.main.due = min(self.main.due, self.scheduler.now)


class Thread:
    """A thread of a simulated process. `due`: when it goes on. `on`: what wakes it before."""

    def __init__(self, scheduler: Scheduler, process: Process, name: str, work) -> None:
        self.scheduler, self.process, self.name, self.work = scheduler, process, name, work
        self.due, self.on, self.passed = scheduler.now, None, 0
        self.over, self.signal = False, False
        self.turn = threading.Lock()
        self.turn.acquire()
        self.ident = name

    @property
    def when(self) -> float:
        """When it goes on, if its process is not frozen; a dead process ends at once."""
        if self.process.dead:
            return 0.0
        return max(self.due, self.process.frozen)

    def join(self, timeout: float = 1e9) -> None:
        end = self.scheduler.now + timeout
        while not self.over and self.scheduler.now < end:
            self.scheduler.pause(end - self.scheduler.now, on=self)

    def is_alive(self) -> bool:
        return not self.over


class Workers:
    """The system's threads, which many histories share."""

    def __init__(self) -> None:
        self.idle: list[Worker] = []

    def run(self, work) -> None:
        worker = self.idle.pop() if self.idle else Worker(self)
        worker.work = work
        worker.begin.release()


class Worker:
    def __init__(self, workers: Workers) -> None:
        self.workers, self.work, self.begin = workers, None, threading.Lock()
        self.begin.acquire()
        threading.Thread(target=self._loop, daemon=True).start()

    def _loop(self) -> None:
        while True:
            self.begin.acquire()
            after = self.work()
            self.work = None
            self.workers.idle.append(self)
            after()


WORKERS = Workers()


class Scheduler:
    """Gives the turn to one thread after another. `now`: seconds since the history began."""

    def __init__(self, decisions: Decisions, *, shuffle: float = 0.3, most: int = 20_000) -> None:
        self.decisions, self.shuffle, self.most = decisions, shuffle, most
        self.now, self.steps = 0.0, 0
        self.live: list[Thread] = []
        self.running: Thread | None = None
        self.failure: BaseException | None = None
        self.events: list[str] = []
        self._ended = threading.Lock()
        self._ended.acquire()

    @property
    def wall(self) -> datetime.datetime:
        return BEGIN + datetime.timedelta(seconds=self.now)

    def note(self, words: str) -> None:
        """Add to the history."""
        who = self.running
        self.events.append(f"{self.now:9.2f} {who.process.name}/{who.name}: {words}" if who else words)

    def start(self, process: Process, name: str, work) -> Thread:
        """Start a thread; it gets its first turn later."""
        thread = Thread(self, process, name, work)
        if process.main is None:
            process.main = thread
        self.live.append(thread)

        def begin():
            thread.turn.acquire()
            try:
                self._resume(thread)
                work()
            except Killed:
                pass
            except BaseException as error:
                # another thread than the main one ends alone
                if thread is process.main or not isinstance(error, Exception):
                    self.failure = self.failure or error
            thread.over = True
            self.live.remove(thread)
            self.wake(thread)
            return self._hand_on

        WORKERS.run(begin)
        return thread

    def run(self) -> None:
        """Let all threads run to their ends. Raises what one of them raised."""
        if self.live:
            self.running = None
            self._next().turn.release()
            self._ended.acquire()
        self.running = None
        if self.failure:
            raise self.failure

    def pause(self, seconds: float, on: object = None) -> None:
        """Give the turn away for so many seconds, or until `on` wakes the thread."""
        me = self.running
        self.refuse_dead()
        me.due, me.on = self.now + seconds, on
        chosen = self._next()
        if chosen is not me:
            chosen.turn.release()
            me.turn.acquire()
        self._resume(me)

    def refuse_dead(self) -> None:
        """Raises Killed in a thread whose process is dead, and in every thread once the history has failed."""
        if self.running.process.dead or self.failure:
            raise Killed

    def wake(self, on: object) -> None:
        """Those who wait for this go on."""
        for each in self.live:
            if each.on is on:
                each.on, each.due = None, min(each.due, self.now)

    def kill(self, process: Process) -> None:
        """The process is dead from now on."""
        process.dead = True

    def _resume(self, thread: Thread) -> None:
        self.running = thread
        self.refuse_dead()
        self.now = max(self.now, thread.when)
        thread.on = None
        if thread.signal:
            thread.signal = False
            raise Interrupted

    def _hand_on(self) -> None:
        if self.live:
            self._next().turn.release()
        else:
            self._ended.release()

    def _next(self) -> Thread:
        self.steps += 1
        if self.steps > self.most and not self.failure:
            self.failure = Endless(f"not over after {self.most} steps")
        if self.failure:
            return self.live[0]
        due = [each.when for each in self.live]  # once for each thread: this is called at each step
        limit = max(min(due), self.now) + NEAR
        order = sorted((when, place) for place, when in enumerate(due) if when <= limit)
        near = [self.live[place] for _, place in order]
        if len(near) == 1:
            return near[0]
        late = [
            each
            for (when, _), each in zip(order, near, strict=True)
            if each.passed >= FAIR and when <= self.now
        ]
        chosen = late[0] if late else near[self.decisions.chance(self.shuffle, len(near) - 1)]
        for each in near:
            each.passed = 0 if each is chosen else each.passed + 1
        return chosen
