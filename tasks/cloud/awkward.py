"""awkward: the cloud as reluctant as AWS is, by counting and never by chance."""

from __future__ import annotations

from typing import Any


class Awkward:
    """Says no to some requests."""

    def before(self, request: Any, hosts: Any) -> Any:
        """The refusal of a request, if it gets one."""
        return None
