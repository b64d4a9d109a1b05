"""start: the console script `doit`: what must hold before anything else is loaded."""

from __future__ import annotations

import gc


def main() -> int:
    """Become the program."""
    # garbage collection takes a tenth of a start, and a fifth of the time in which boto3 loads
    gc.set_threshold(100_000)
    from tasks.commands import entry  # start-up time: after that

    code = entry.main()
    gc.freeze()  # looking through all of it once more at exit takes a sixth of a short command
    return code
