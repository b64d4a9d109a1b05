"""tasks: the stages of a release, and the nouns that they share."""

import signal
import sys
from pathlib import Path

if Path(sys.argv[0]).name == "doit":  # Ctrl-C while doit still loads: no traceback either
    for _number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(_number, lambda number, frame: sys.exit(128 + number))
