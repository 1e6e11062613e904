"""What terminals, editors and shells make of a log before it is handed in."""

from __future__ import annotations

import codecs
from collections.abc import Callable


def _utf16(text: str) -> bytes:
    return codecs.BOM_UTF16_LE + text.replace("\n", "\r\n").encode("utf-16-le")


def _coloured(text: str) -> bytes:
    shown = text.replace("[I]", "\x1b[32m[I]\x1b[0m").replace("[W]", "\x1b[01;33m[W]\x1b[m\x1b[K")
    return ("\x1b]0;ubuntu@orin: ~/lab\x07" + shown).encode()


def _numbered(text: str) -> bytes:
    return "".join(f"{n:6d}\t{line}\n" for n, line in enumerate(text.splitlines(), start=1)).encode()


def _less(text: str) -> bytes:
    return "".join(f"{n:7d} {line}\n" for n, line in enumerate(text.splitlines(), start=1)).encode()


def _grep(text: str) -> bytes:
    return "".join(f"{n}:{line}\n" for n, line in enumerate(text.splitlines(), start=1)).encode()


def _clocked(text: str) -> bytes:
    return "".join(f"Nov 02 10:00:{n % 60:02d} {line}\n" for n, line in enumerate(text.splitlines())).encode()


def _container(text: str) -> bytes:
    return "".join(f"2026-11-02T10:00:00.{n:06d}Z {line}\n" for n, line in enumerate(text.splitlines())).encode()


def _journal(text: str) -> bytes:
    return "".join(f"Nov 02 10:00:00 orin-07 trtexec[4711]: {line}\n" for line in text.splitlines()).encode()


def _quoted(text: str) -> bytes:
    return "".join(f"> {line}\n" for line in text.splitlines()).encode()


def _fenced(text: str) -> bytes:
    return f"# Lab 2, my run\n\n```\n{text}```\n\nIt was fast.\n".encode()


def _wrapped(columns: int) -> Callable[[str], bytes]:
    def wrap(text: str) -> bytes:
        rows = []
        for line in text.splitlines():
            rows += [line[at : at + columns].rstrip() for at in range(0, len(line), columns)] or [""]
        return "\n".join(rows).encode()

    return wrap


def _typescript(text: str) -> bytes:
    body = text.replace("\n", "\r\n")
    return (
        'Script started on 2026-11-02 10:00:00+08:00 [TERM="xterm-256color"]\r\n'
        f"\x1b[?2004hubuntu@orin:~$ trtexee\x08\x1b[Kc --onnx=…\r\n{body}\x1b[?2004hubuntu@orin:~$ exit\r\n"
    ).encode()


def _putty(text: str) -> bytes:
    head = "=~=~=~=~=~=~=~=~=~=~=~= PuTTY log 2026.11.02 10:00:00 =~=~=~=~=~=~=~=~=~=~=~=\r\n"
    return (head + "ubuntu@orin:~$ \r\n" + text.replace("\n", "\r\n")).encode("latin-1", errors="replace")


def _unmarked(text: str) -> bytes:
    """As people paste it: without the clock and the level."""
    return "".join(
        f"{line.partition('] [')[2][3:] if line.startswith('[') else line}\n" for line in text.splitlines()
    ).encode()


def _levels_alone(text: str) -> bytes:
    return "".join(
        f"{line.partition('] ')[2] if line.startswith('[') else line}\n" for line in text.splitlines()
    ).encode()


def _spaced(text: str) -> bytes:
    return text.replace("\n", "\n\n").encode()


def _appended(text: str) -> bytes:
    """PowerShell's `>>` onto a file that another shell had begun."""
    return b"my log of lab 2, begun in cmd\r\n" + text.replace("\n", "\r\n").encode("utf-16-le")


FORMS: dict[str, Callable[[str], bytes]] = {
    "as printed": str.encode,
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "old Mac": lambda text: text.replace("\n", "\r").encode(),
    "UTF-8 with its mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "PowerShell": _utf16,
    "UTF-16 big end": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "UTF-16 without its mark": lambda text: text.encode("utf-16-le"),
    "UTF-16 big end without its mark": lambda text: text.encode("utf-16-be"),
    "UTF-32": lambda text: codecs.BOM_UTF32_LE + text.encode("utf-32-le"),
    "appended by PowerShell": _appended,
    "colours": _coloured,
    "cat -n": _numbered,
    "less -N": _less,
    "grep -n": _grep,
    "ts": _clocked,
    "docker logs -t": _container,
    "journal": _journal,
    "quoted": _quoted,
    "in Markdown": _fenced,
    "80 columns": _wrapped(80),
    "100 columns": _wrapped(100),
    "132 columns": _wrapped(132),
    "200 columns": _wrapped(200),
    "a wide terminal": _wrapped(214),
    "script": _typescript,
    "PuTTY": _putty,
    "without marks": _unmarked,
    "levels alone": _levels_alone,
    "empty lines between": _spaced,
    "a Windows code page around it": lambda text: "筆記".encode("cp950") + b"\n" + text.encode(),
}
