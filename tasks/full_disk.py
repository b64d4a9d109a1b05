"""full_disk: one refusal for a full disk, wherever it happens."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from tasks.refusal import Refusal


class DiskFull(Refusal):
    """No space is left while writing; partial files are removed."""

    sentence = "{stage}: no space left at {path}"
    remedy = "df -h {path}"


@contextlib.contextmanager
def full_disk(stage: str, path: object) -> Iterator[None]:
    """Turn "no space left" into DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(stage=stage, path=path) from None
        raise
