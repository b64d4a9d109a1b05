"""undone: tarballs that somebody has undone (`doit rollback`): they go no further until somebody allows it (`doit allow`).

A mark is in the bucket that has the tarballs, and counts for the zone of its run: a branch marks nothing that the default branch releases.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.bucket import cache, layout
from tasks.digest import Digest
from tasks.refusal import UNKNOWN, Refusal

if TYPE_CHECKING:
    from tasks.run import Run


class WasUndone(Refusal):
    """The tarball was undone by a rollback, and nobody has allowed it since."""

    sentence = "{control}: {digest} goes no further: {by} has undone it in {environment}, {at}"
    remedy = "doit allow {digest}"


class NotUndone(Refusal):
    """`doit allow` for a digest that nobody has undone, or that several marks begin with."""

    sentence = "allow: {digest} is the beginning of {number} tarballs that were undone, not of one"
    remedy = "doit releases"
    exit_code = UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Who has undone a tarball, when, and in which environment. `by`: for display; the document has the cloud's identity too."""

    digest: Digest
    environment: str
    at: str
    by: str

    def refusal(self, control: str) -> WasUndone:
        """Why the tarball goes no further."""
        return WasUndone(
            control=control, digest=self.digest.id, by=self.by, environment=self.environment, at=self.at
        )


def of(run: Run, digest: Digest) -> Mark | None:
    """The mark of a tarball; None if there is none, or it is allowed again."""
    kept = cache.of(run)
    document = kept.store.read(layout.undone(kept.writes, digest))
    return _mark(document.value) if document and not document.value.get("allowed") else None


def accept(run: Run, digest: Digest, control: str = "release") -> None:
    """Raises WasUndone for a tarball that goes no further."""
    if mark := of(run, digest):
        raise mark.refusal(control)


def mark(run: Run, digest: Digest) -> None:
    """Mark a tarball as undone in the run's environment, unless it is. Raises RecordTaken if another run does so now."""
    kept = cache.of(run)
    key = layout.undone(kept.writes, digest)
    before = kept.store.read(key)
    if not before or before.value.get("allowed"):
        value = {"digest": digest, "environment": run.identity, **_said(run)}
        kept.store.write(key, value, seen=before.etag if before else None)


def allow(run: Run, beginning: str) -> Mark:
    """Let a tarball whose digest begins so go on; the document keeps who has undone it. Returns the mark. Raises NotUndone."""
    kept = cache.of(run)
    digits = re.fullmatch(r"[0-9a-f]{1,64}", beginning)
    keys = list(kept.store.keys(layout.all_undone(kept.writes, beginning))) if digits else []
    found = [(key, document) for key in keys if (document := kept.store.read(key))]
    held = [(key, each) for key, each in found if not each.value.get("allowed")]
    if len(held) != 1:
        raise NotUndone(digest=beginning, number=len(held) or "no")
    key, document = held[0]
    kept.store.write(key, {**document.value, "allowed": _said(run)}, seen=document.etag)
    return _mark(document.value)


def _said(run: Run) -> dict[str, str]:
    return {"at": run.clock.stamp(), "by": run.who, "arn": run.cloud.person().arn}


def _mark(value: dict[str, Any]) -> Mark:
    told = {name: str(value.get(name) or "") for name in ("environment", "at", "by")}
    return Mark(digest=Digest(value["digest"]), **told)
