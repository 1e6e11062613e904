"""Keeping a bounded part of what a program wrote, and making it safe to show on a terminal or a web page."""

from __future__ import annotations


class Kept:
    """The first and last bytes of a stream of any length, in bounded memory."""

    def __init__(self, limit: int) -> None:
        self.seen = 0
        self._half = max(limit // 2, 1)
        self._head = bytearray()
        self._tail = bytearray()

    def add(self, block: bytes) -> None:
        """Take the next block of the stream."""
        self.seen += len(block)
        room = self._half - len(self._head)
        self._head += block[:room]
        self._tail += block[max(room, 0) :]
        if len(self._tail) > 2 * self._half:
            del self._tail[: -self._half]

    def text(self) -> str:
        """What was kept, escaped, with a line that says how many bytes are missing between its halves."""
        tail = bytes(self._tail[-self._half :])
        missing = self.seen - len(self._head) - len(tail)
        between = f"\n[… {missing:,} bytes left out …]\n" if missing else ""
        return escaped(bytes(self._head)) + between + escaped(tail)


def escaped(data: bytes | str) -> str:
    """Text in which no character moves a cursor, changes a title, reverses writing or ends a document.

    Line feeds and tabs stay; carriage returns before line feeds go; every other control, format,
    private or surrogate character is written as an escape such as `\\x1b`.
    """
    text = data.decode("utf-8", errors="backslashreplace") if isinstance(data, bytes) else data
    return "".join(c if c in "\n\t" or c.isprintable() else _name(c) for c in text.replace("\r\n", "\n"))


def one_line(data: bytes | str) -> str:
    """A name, escaped: line feeds and tabs too, so that it adds no line or column to what it stands in."""
    return escaped(data).replace("\n", "\\n").replace("\t", "\\t")


def shortened(text: str, limit: int = 2000) -> str:
    """At most `limit` characters of an escaped text, cut in the middle."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} [… {len(text) - 2 * half:,} characters left out …] {text[-half:]}"


def _name(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii") if character != "\r" else "\\r"
