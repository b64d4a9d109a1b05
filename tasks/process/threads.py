"""threads: how a run does several things at once, waits and is interrupted: passed as a value, so that a test can choose the order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from tasks.process import children


class Threads:
    """The threads of this process, as Python and the system schedule them."""

    def lock(self) -> AbstractContextManager[object]:
        """A lock that the thread which holds it may take again."""
        return threading.RLock()

    def event(self) -> threading.Event:
        """A flag that threads wait for."""
        return threading.Event()

    def start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        """Start a thread that does not keep the process alive."""
        thread = threading.Thread(target=work, daemon=True, name=name)
        thread.start()
        return thread

    def pool(self, most: int | None = None) -> ThreadPoolExecutor:
        """Threads for pieces of work that go on at once."""
        return ThreadPoolExecutor(max_workers=most)

    def wait(self, seconds: float, stage: str) -> None:
        """Sleep, but not through an interruption: then Cancelled is raised at once."""
        children.wait(seconds, stage)

    def cancelled(self) -> bool:
        """Whether the run was interrupted."""
        return children.cancelled()

    def interrupt(self) -> None:
        """End every child and wake every `wait`."""
        children.interrupt()
