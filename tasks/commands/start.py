"""start: the console script `doit`: what must hold before anything else is loaded."""

from __future__ import annotations

import gc


def main() -> int:
    """Become the program."""
    # a release with nothing to do stays below it: the one collection at 100,000 objects took 50 ms of its 700
    gc.set_threshold(500_000)
    from tasks.commands import entry  # start-up time: after that

    code = entry.main()
    gc.freeze()  # looking through all of it once more at exit takes a sixth of a short command
    return code
