"""JSON as systems write it."""

from __future__ import annotations

import codecs

import pytest

from trtverify.fixtures.submitted.strict_json import parse_json

TEXT = '{"name": "實驗", "value": 1}'


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.replace(" ", "\r\n").encode(),
    ],
    ids=["UTF-8", "with a mark", "PowerShell", "big-endian", "CRLF"],
)
def test_encodings(content: bytes) -> None:
    assert parse_json(content) == {"name": "實驗", "value": 1}


@pytest.mark.parametrize("content", [TEXT.encode("big5"), codecs.BOM_UTF16_LE + b"{\x00}", TEXT.encode("utf-16-le")])
def test_others_are_told(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"UTF-8|Expecting|JSON"):
        parse_json(content)
