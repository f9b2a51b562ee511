"""Makes malformed input: values with a few wrong ones in them, and damaged bytes."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from typing import Any

ODD = {
    "null": "null", "true": "true", "zero": "0", "one": "1", "minus": "-1", "fraction": "0.5",
    "empty_text": '""', "space": '" \\t "', "empty_list": "[]", "empty_object": "{}",
    "list": '[1, "a", null]', "object": '{"a": {"b": []}}', "lists": "[[], [[]]]",
    "nan": "NaN", "infinity": "Infinity", "minus_infinity": "-Infinity", "huge_float": "1e999",
    "large": "9" * 30, "huge": "9" * 400, "too_many_digits": "9" * 4400, "minus_huge": "-" + "9" * 400,
    "two_to_the_64": str(2**64), "two_to_the_63": str(2**63),
    "lone_surrogate": '"\\ud800"', "surrogate_name": '{"\\udfff": 1}', "nul": '"a\\u0000b"',
    "escape": '"\\u001b[2J\\u202e"', "long_text": json.dumps("x" * 5_000), "newlines": '"\\n\\r\\n\\u2028"',
    "path_up": '"../../../etc/passwd"', "absolute": '"/etc/passwd"', "long_name": json.dumps("a/" * 300),
    "number_text": '"1e5"', "template": '"${name} {{ 1/0 }} %s {0}"', "brackets": '"[[[[((((<<<<"',
    "long_list": json.dumps([0] * 3_000), "names": json.dumps({str(each): each for each in range(500)}),
    "long_names": json.dumps({str(each) * 900: 1 for each in range(20)}),
    "deep": "[" * 200 + "]" * 200, "deep_object": '{"a":' * 200 + "1" + "}" * 200,
    "bottomless": "[" * 5_000 + "]" * 5_000, "unclosed": "[" * 100_000,
}  # fmt: skip
"""JSON texts of values that a field seldom holds, by name; the last ones no parser reads."""

TOKENS: tuple[bytes, ...] = (
    b"\x00", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3(", b"\xed\xa0\x80", b"\r\n", b"\r", b"\n\n", b"\x1b[2J",
    b"NaN", b"-Infinity", b"1e999", b"9" * 400, b"9" * 4400, b"\\ud800", b"\\u0000", b'"', b"\\", b"{", b"}",
    b"[", b"]", b",", b":", b"null", b"true", b"[" * 900, b'{"a":' * 900, b"[" * 20_000, b" " * 5_000,
    b"x" * 5_000, b"\xf0\x9f\x98\x80", "\u202e".encode(), "\u2028".encode(), b"- ", b"&a [*a]",
    b"!!python/name:os",
)  # fmt: skip
"""Pieces that are put where they do not belong."""

MAX_BYTES = 200_000
"""Longest input that damage makes; bytes."""


def nearly(rng: random.Random, value: Any, changes: int = 2) -> str:
    """JSON text of a right value in which up to this many places are wrong.

    Args:
        rng: Decides the changes.
        value: A value as JSON holds it.
        changes: Most places that are changed; sometimes it is none.
    """
    changed = json.loads(json.dumps(value))
    for _ in range(rng.randint(0, changes)):
        changed = _changed(rng, changed)
    return as_json(changed)


def as_json(value: Any) -> str:
    """A value as JSON text, the odd ones that :func:`odd` stands for written out."""
    return re.sub(r'"@odd:(\w+)@"', _written, json.dumps(value, ensure_ascii=False))


def odd(rng: random.Random) -> str:
    """What stands in a value for an odd one until it is written."""
    # About as deep as this interpreter goes, some functions still can read a value, and others cannot.
    border = f"{rng.choice(('list', 'object'))}_{rng.randrange(700, 1_000)}"
    return f"@odd:{border if rng.random() < 0.1 else rng.choice(list(ODD))}@"


def _written(match: re.Match[str]) -> str:
    kind, _, depth = match[1].partition("_")
    if depth.isdigit() and match[1] not in ODD:
        opened, closed = ("[", "]") if kind == "list" else ('{"a":', "}")
        return opened * int(depth) + "1" + closed * int(depth)
    return ODD[match[1]]


def _changed(rng: random.Random, value: Any) -> Any:
    """The value with one place changed: itself, or one somewhere below."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        name = rng.choice(list(value))
        match rng.randrange(8):
            case 0:
                return {key: each for key, each in value.items() if key != name}
            case 1:
                other = rng.choice(("", "x", name + "s", name.upper(), "\ud800", "a\0b"))
                return {(other if key == name else key): each for key, each in value.items()}
            case 2:
                return {**value, rng.choice(("extra", "", "$ref", "__class__", "k" * 3_000)): odd(rng)}
            case _:
                return {**value, name: _changed(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        match rng.randrange(6):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value[: at + 1] + value[at:]
            case 2:
                return [*value[:at], odd(rng), *value[at:]]
            case _:
                return [*value[:at], _changed(rng, value[at]), *value[at + 1 :]]
    if isinstance(value, str) and value and not value.startswith("@") and rng.random() < 0.3:
        at = rng.randrange(len(value))
        return value[:at] + rng.choice(("\0", "\ud800", "\n", "\x1b", "é", "", value)) + value[at + 1 :]
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.3:
        return rng.choice((-value, value + 1, value * 10**9, value / 7, str(value), not value))
    return odd(rng)


def damaged(rng: random.Random, content: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Bytes of a right file with up to four faults.

    Args:
        rng: Decides the changes.
        content: The file.
        others: Files of which pieces may get in.
    """
    for _ in range(rng.randint(1, 4)):
        at, to = sorted(rng.randrange(len(content) + 1) for _ in range(2))
        match rng.randrange(9):
            case 0:  # bits
                if at < len(content):
                    content = content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
            case 1:
                content = content[:at]
            case 2:
                content = content[:at] + content[to:]
            case 3:
                content = content[:to] + content[at:to] + content[to:]
            case 4:
                content = content[:at] + rng.choice(TOKENS) + content[at:]
            case 5:
                content = content[:at] + rng.choice(TOKENS) + content[to:]
            case 6:
                other = rng.choice(others) if others else content
                begin = rng.randrange(len(other) + 1)
                content = content[:at] + other[begin : begin + rng.randint(1, 500)] + content[at:]
            case 7:  # a number becomes another
                numbers = list(re.finditer(rb"\d+", content[at : at + 2_000]))
                if numbers:
                    start, end = (at + edge for edge in rng.choice(numbers).span())
                    number = rng.choice((b"0", b"-1", b"1e999", b"NaN", b"9" * 30, b"9" * 4400, b"0.5"))
                    content = content[:start] + number + content[end:]
            case 8:
                utf16 = content.decode("utf-8", "ignore").encode("utf-16")
                ends = content.replace(b"\n", b"\r\n"), content.replace(b"\n", b" ")
                bom, twice = b"\xef\xbb\xbf" + content, content + b"\n" + content
                content = rng.choice((ends[0], bom, utf16, ends[1], twice))
        content = content[:MAX_BYTES]
    return content
