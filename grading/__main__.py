"""`python -m grading`, in a checkout: the same as `python -m trtverify grading`."""

from __future__ import annotations

import signal
import sys

from trtverify.grading.commands import main

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
