"""`python -m trtverify COMMAND …`: what can be asked beside `pytest`."""

from __future__ import annotations

import importlib
import signal
import sys

_COMMANDS = {
    "doctor": "report.doctor",
    "report": "report.html",
    "sensitivity": "quantization.sensitivity",
    "trtexec": "trtexec.table",
    "grading": "grading.commands",
}


def main() -> int:
    """Hand the rest of the command line to one command's own `main`, which parses it."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word not in _COMMANDS:
        print(f"usage: python -m trtverify {{{','.join(_COMMANDS)}}} …", file=sys.stderr)
        return 0 if word in ("-h", "--help") else 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended politely, a command tidies up as after Ctrl-C
    module = _COMMANDS[word]
    place = module if word == "grading" else f"fixtures.{module}"
    try:
        status: int = importlib.import_module(f"trtverify.{place}").main(sys.argv[2:])
    except ImportError as error:
        line = _missing(error)
        if line is None:
            raise
        print(line, file=sys.stderr)
        return 2
    return status


def _missing(error: ImportError) -> str | None:
    """What to install; pytest itself, which even that sentence comes by, is named without its help."""
    if error.name == "pytest":
        return "pytest is not installed: pip install 'pytest>=7.4'"
    from trtverify.fixtures.words.packages import lacking

    return lacking(error)


if __name__ == "__main__":
    raise SystemExit(main())
