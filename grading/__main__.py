"""`python -m grading`: grade a class."""

from __future__ import annotations

import signal
import sys

from .commands import main

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
