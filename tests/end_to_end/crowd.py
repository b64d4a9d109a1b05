"""crowd: visitors who do not wait for each other, as long as a block lasts, and what each of them was answered."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hashlib
import itertools
import random
import re
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

PATIENCE = 30.0
"""Seconds after which a visitor gives up: that answer has failed."""
LONGEST = 600.0
"""Seconds after which nobody comes any more, whatever the block does."""
NAMED = re.compile(rb'(?:href|src)="(/(?:(?:static|media)/[^"?]+|style\.css))"')
PAGES = ("/", "/en_usd/", "/spring-mug.html")
"""Pages of the shop that many ask for."""
CLOSED = "closed"
"""What is told of a page that says that the site is closed for a moment."""


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One request. `begun`, `ended`: by the monotonic clock; `status`: 0 for no whole answer; `says`: what is wrong, or CLOSED."""

    kind: str
    path: str
    begun: float
    ended: float
    status: int
    says: str

    @property
    def failed(self) -> bool:
        """Whether a visitor would complain."""
        return self.says not in ("", CLOSED)


class Crowd:
    """Visitors of a site. `rates`: how many of each kind of request come in a second.

    page: one that the page cache has; asset: a file that some page named, an older page as well; cart: a visitor's own page;
    search: a page that nobody has asked for yet. `long`: one request after the other, each of so many seconds.
    """

    def __init__(
        self,
        address: tuple[str, int],
        host_name: str,
        *,
        tls: ssl.SSLContext | None = None,
        pages: tuple[str, ...] = PAGES,
        long: str = "",
        patience: float = PATIENCE,
    ) -> None:
        self.address, self.host_name, self.pages, self.long = address, host_name, pages, long
        self.patience, self.tls = patience, tls
        self.words = itertools.count(time.monotonic_ns())
        self.assets: dict[str, str] = {}
        self.visits: list[Visit] = []
        self.order = random.Random(17)

    @contextlib.contextmanager
    def visiting(self, **rates: float) -> Iterator[list[Visit]]:
        """They come as long as the block lasts; its end waits until all of them are answered. What they were answered."""
        over, visits = threading.Event(), list[Visit]()
        thread = threading.Thread(target=lambda: asyncio.run(self._come(rates, over, visits)))
        thread.start()
        try:
            yield visits
        finally:
            over.set()
            thread.join()
            self.visits += visits

    async def _come(self, rates: Mapping[str, float], over: threading.Event, visits: list[Visit]) -> None:
        async with asyncio.TaskGroup() as all_of_them:
            for kind, rate in rates.items():
                all_of_them.create_task(self._arrive(kind, rate, over, visits, all_of_them))
            if self.long:
                all_of_them.create_task(self._one_after_the_other(over, visits))

    async def _arrive(
        self,
        kind: str,
        rate: float,
        over: threading.Event,
        visits: list[Visit],
        tasks: asyncio.TaskGroup,
    ) -> None:
        begun = time.monotonic()
        for number in range(round(LONGEST * rate)):
            if over.is_set():
                return
            tasks.create_task(self._visit(kind, self._path(kind), visits))
            await asyncio.sleep(begun + (number + 1) / rate - time.monotonic())

    async def _one_after_the_other(self, over: threading.Event, visits: list[Visit]) -> None:
        more = "&" if "?" in self.long else "?"
        while not over.is_set():  # each asks for another page: the page cache would have the same
            await self._visit("long", f"{self.long}{more}visitor={next(self.words)}", visits)

    def _path(self, kind: str) -> str:
        if kind == "search":
            return f"/catalogsearch/result/?q=mug{next(self.words)}"
        if kind == "cart":
            return f"/checkout/cart/?visitor={next(self.words)}"
        if kind == "asset" and self.assets:
            return self.order.choice([*self.assets])
        return self.order.choice(self.pages)

    async def _visit(self, kind: str, path: str, visits: list[Visit]) -> None:
        begun = time.monotonic()
        status, body, says = await self._ask(path)
        if status == 200 and path in self.assets:
            digest = hashlib.sha256(body).hexdigest()
            if self.assets[path] not in ("", digest):
                says = "other bytes than before under the same name"
            self.assets[path] = digest
        elif status == 200:
            for name in NAMED.findall(body):
                self.assets.setdefault(name.decode(), "")
        visits.append(
            Visit(kind=kind, path=path, begun=begun, ended=time.monotonic(), status=status, says=says)
        )

    async def _ask(self, path: str) -> tuple[int, bytes, str]:
        """Status and body of an answer that came whole, and what is wrong with it."""
        try:
            async with asyncio.timeout(self.patience):
                reader, writer = await asyncio.open_connection(
                    *self.address, ssl=self.tls, server_hostname=self.host_name if self.tls else None
                )
                with contextlib.closing(writer):
                    head = f"GET {path} HTTP/1.1\r\nHost: {self.host_name}\r\nConnection: close\r\n\r\n"
                    writer.write(head.encode())
                    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        except TimeoutError:
            return 0, b"", f"no answer within {self.patience:.0f} s"
        except OSError as error:
            return 0, b"", str(error)
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        if not (len(body) == int(length[1]) if length else body.endswith(b"0\r\n\r\n")):
            return 0, b"", "the answer broke off"
        status = int(head.split(maxsplit=2)[1])
        if status == 503 and b"\nretry-after:" in head.lower() and b"\nx-php-busy:" not in head.lower():
            return status, body, CLOSED
        return status, body, "" if status == 200 else f"HTTP {status}"

    def during(self, first: float, last: float) -> list[Visit]:
        """Those that were answered between two times of the monotonic clock."""
        return [each for each in self.visits if first <= each.ended <= last]

    def failures(self) -> list[Visit]:
        """Those that went wrong."""
        return [each for each in self.visits if each.failed]

    def slowest(self) -> float:
        """Seconds of the slowest answer, but for the long ones."""
        return max(each.ended - each.begun for each in self.visits if each.kind != "long")


def statuses(visits: Iterable[Visit]) -> dict[str, collections.Counter[int]]:
    """How those of each kind were answered."""
    found: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for each in visits:
        found[each.kind][each.status] += 1
    return found
