"""What the fuzzer makes of sound files: bytes flipped and moved, JSON values swapped, protobuf fields rewritten."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

Bytes = st.SearchStrategy[bytes]
_LARGEST = 1 << 20
_BITS = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.sampled_from([b"\0", b"\xff" * 4, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"../", b"PK\x01\x02", b'"', b"[", b"{"]),
)
_EDITS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, _LARGEST), st.sampled_from([1, 1, 2, 4, 8, 64, 4096]), _BITS),
    min_size=0,
    max_size=8,
)
NUMBERS = (0, -1, 1, 3, 127, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30)
TEXTS = ("", ".", "../secret", "/etc/passwd", "a/../../secret", "\0", "\ud800", "\u202e", "é" * 200, "x" * 5000, "NaN")
_FLOATS = st.sampled_from([0.0, -0.0, 1e-300, 1e15, 1e308, float("inf"), float("-inf"), float("nan"), 0.5])
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([*NUMBERS, 10**400, 10**4200]),
    _FLOATS,
    st.sampled_from(TEXTS),
)
JUNK = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "Name", "x"]), inner),
    max_leaves=6,
)


def spoilt(*seeds: bytes) -> Bytes:
    """A seed with a few stretches overwritten, cut out, repeated, or the rest cut off."""
    return st.builds(_spoil, _one_of(seeds), _EDITS)


def _one_of(seeds: Sequence[bytes]) -> Bytes:
    # By its number: Hypothesis would print all of them with the strategy.
    return st.integers(0, len(seeds) - 1).map(seeds.__getitem__)


def _spoil(data: bytes, edits: Sequence[tuple[int, int, int, bytes]]) -> bytes:
    work = bytearray(data)
    for kind, place, length, bits in edits:
        at = place % (len(work) + 1)
        if kind == 0:
            work[at : at + len(bits)] = bits
        elif kind == 1:
            del work[at : at + length]
        elif kind == 2:
            work[at:at] = work[at : at + length]
        else:
            work[at : at + length] = bits * (length // len(bits) + 1)
    return bytes(work)


@st.composite
def changed(draw: st.DrawFn, *seeds: Any) -> Any:
    """One of these JSON documents with a few values replaced by others, taken out or doubled."""
    document = copy.deepcopy(draw(st.sampled_from(seeds)))
    for _time in range(draw(st.integers(0, 4))):
        holder: Any = {"": document}
        key: Any = ""
        while isinstance(inside := holder[key], (dict, list)) and inside and draw(st.integers(0, 7)):
            holder = inside
            keys: list[Any] = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            key = draw(st.sampled_from(keys))
        kind = draw(st.integers(0, 4))
        if kind == 0 and holder != {"": document}:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif kind == 2 and isinstance(holder, dict) and holder != {"": document}:
            holder[draw(st.sampled_from(TEXTS))] = holder.pop(key)
        else:
            holder[key] = draw(JUNK)
            if key == "":
                document = holder[key]
    return document


def as_json(document: Any) -> bytes:
    """What Python writes of it, which is more than JSON has."""
    return json.dumps(document).encode()


def changed_json(*seeds: Any) -> Bytes:
    """JSON with other values than a sound file's, or its bytes spoilt."""
    # JSON has no infinity, but numbers that Python reads as one.
    rewritten_numbers = st.builds(
        lambda made, large: made.replace(b"Infinity", b"1e999") if large else made,
        changed(*seeds).map(as_json),
        st.booleans(),
    )
    return rewritten_numbers | spoilt(*map(as_json, seeds))


@st.composite
def rewritten(draw: st.DrawFn, parse: Callable[[bytes], Any], *seeds: bytes) -> bytes:
    """A protobuf message in which a few fields were set, cleared, doubled or emptied, however deep they lie."""
    message = parse(draw(_one_of(seeds)))
    for _time in range(draw(st.integers(0, 5))):
        _rewrite(draw, message)
    # Messages that nest deeper than protobuf allows, or lack what it requires, are no file that anybody could hand in.
    return bytes(message.SerializePartialToString())


def _rewrite(draw: st.DrawFn, message: Any) -> None:
    while True:
        present = [field for field, _value in message.ListFields()]
        any_field = not present or draw(st.integers(0, 5)) == 0
        field = draw(st.sampled_from(list(message.DESCRIPTOR.fields) if any_field else present))
        value = getattr(message, field.name)
        repeated = not isinstance(value, (int, float, str, bytes)) and not hasattr(value, "ListFields")
        if field.message_type is None:
            _scalar(draw, message, field.name, value, repeated)
            return
        if not repeated:
            if not draw(st.integers(0, 7)):
                message.ClearField(field.name)
                return
            message = value
            continue
        kind = draw(st.integers(0, 7))
        if kind == 0 or not len(value):
            value.add()
            return
        index = draw(st.integers(0, len(value) - 1))
        if kind == 1:
            del value[index]
            return
        if kind == 2:
            value.add().CopyFrom(value[index])
            return
        message = value[index]


def _scalar(draw: st.DrawFn, message: Any, name: str, value: Any, repeated: bool) -> None:
    if repeated and len(value) and not draw(st.integers(0, 3)):
        del value[draw(st.integers(0, len(value) - 1))]
        return
    new: Any = draw(st.one_of(st.sampled_from(NUMBERS), st.sampled_from(TEXTS), _BITS, _FLOATS))
    if isinstance(value, (bytes, str)) and len(value) > 1 and draw(st.booleans()):
        new = value[: len(value) // 2]
    # The field takes what is of its own type and range; anything else could not be written into a file.
    with contextlib.suppress(TypeError, ValueError):
        if not repeated:
            setattr(message, name, new)
        elif len(value) and draw(st.booleans()):
            value[draw(st.integers(0, len(value) - 1))] = new
        else:
            value.append(new)
