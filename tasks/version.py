"""version: a commit, and whether files differed from it: `SHA` or `SHA-dirty` in records, tags and messages."""

from __future__ import annotations

DIRTY = "-dirty"


class Commit(str):
    """A commit's full id, as text."""

    __slots__ = ()

    @property
    def short(self) -> str:
        """Seven digits, for people."""
        return self[:7]


class Version(str):
    """A commit, followed by `-dirty` where files differed from it; as text."""

    __slots__ = ()

    @classmethod
    def of(cls, commit: Commit, *, dirty: bool) -> Version:
        """The version of a working tree at that commit."""
        return cls(f"{commit}{DIRTY if dirty else ''}")

    @property
    def commit(self) -> Commit:
        """The commit alone."""
        return Commit(self.removesuffix(DIRTY))

    @property
    def dirty(self) -> bool:
        """Whether files differed from the commit."""
        return self.endswith(DIRTY)

    @property
    def short(self) -> str:
        """Seven digits of the commit, for people."""
        return self.commit.short

    @property
    def marked(self) -> str:
        """Seven digits, with the mark where files differed: `3fa9c2e-dirty`."""
        return f"{self.short}{DIRTY if self.dirty else ''}"
