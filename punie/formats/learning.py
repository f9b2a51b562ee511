"""Learns how a chat template writes tool calls, by rendering known ones."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from punie.formats import Call
from punie.formats.reading import STRING, decode
from punie.formats.spelling import ARGUMENTS, CALL_ID, CONTENT, NAME, PROBE, Spelling, common_prefix
from punie.formats.thoughts import skip_thoughts

_OPEN_TAG = re.compile(r"<[^<>\s]*$")
_JSON_START = re.compile(r"[\[{]")


class Unlearnable(ValueError):
    """The template renders no call, or one whose parts cannot be told apart; the message says which."""


def learn(render: Callable[[Sequence[Call]], str], plain: str) -> Spelling:
    """The spelling of a template.

    Args:
        render: From calls to the response that holds them, as the template writes it. An empty text, or any
            exception of the template, means that it does not write such calls.
        plain: The response whose content is ``CONTENT``.

    Raises:
        Unlearnable: It writes no call, or one that cannot be taken apart.
    """
    before, _, after = plain.partition(CONTENT)

    def bare(calls: Sequence[Call]) -> str:
        text = render(calls)
        lead = _OPEN_TAG.sub("", common_prefix(before, text))
        text = text[len(lead) :]
        text = text[skip_thoughts(text, NAME)[0] :]
        same = len(common_prefix(after[::-1], text[::-1]))
        return text[: _whole_tag(text, len(text) - same)]

    one = bare([PROBE])
    if NAME not in one:
        raise Unlearnable("the chat template does not render tool calls")
    two = ""
    with contextlib.suppress(Exception):  # the template is a program, and many of them refuse two calls
        two = bare([PROBE, PROBE])
    canonical = re.split(f"{NAME}|{CALL_ID}", one)[0]
    found = _object(one) or _python(one) or _quoted(one) or _tagged(one)
    if found is None:
        raise Unlearnable(f"the chat template renders a call as {one!r}, which cannot be taken apart")
    spelling, ends = found
    opens, closes = one[: ends[0]], one[ends[1] :]
    opens = opens[len(NAME) :] if opens.startswith(NAME) else opens
    second = None if spelling.holder == "python" else _second(two, one, ends)
    if second is None:
        return replace(spelling, open=opens, close=closes, canonical=canonical)
    between = two[ends[1] : second]
    at = _whole_tag(opens, len(opens) - len(common_prefix(opens[::-1], between[::-1])))
    closing = between[: len(between) - (len(opens) - at)]
    closing = common_prefix(closing, closes) or closing
    return replace(
        spelling,
        section=opens[:at],
        open=opens[at:],
        close=closing,
        section_close=closes[len(closing) if closes.startswith(closing) else len(closing.rstrip()) :],
        canonical=canonical,
    )


def _whole_tag(text: str, at: int) -> int:
    """A position, or the next one that does not lie within a tag."""
    tag = _OPEN_TAG.search(text, 0, at)
    return text.find(">", at) + 1 or at if tag else at


def _second(two: str, one: str, ends: tuple[int, int]) -> int | None:
    """Where the body of the second call begins; None if the two calls are parts of one body."""
    body = one[ends[0] : ends[1]]
    at = two.find(body, ends[1]) if two[: ends[1]] == one[: ends[1]] else -1
    if at < 0 and (following := two.find(NAME, ends[1])) > 0 and two[: ends[1]] == one[: ends[1]]:
        at = following - body.find(NAME)  # a body with a number of its own
    return at if at >= 0 else None


def _object(one: str) -> tuple[Spelling, tuple[int, int]] | None:
    for match in _JSON_START.finditer(one):
        value, end = decode(one, match.start())
        if (keys := _keys(value)) is None:
            continue
        if keys != ("", "arguments"):
            return Spelling("object", keys=("", "") if keys[0] == NAME else keys), (match.start(), end)
        name = one.rfind(NAME, 0, match.start())
        if name >= 0:
            return Spelling("json", name_end=one[name + len(NAME) : match.start()]), (name, end)
    return None


def _keys(value: object) -> tuple[str, str] | None:
    """The keys of name and arguments in a JSON value; ``("", "arguments")`` if it is the arguments."""
    if value == ARGUMENTS:
        return "", "arguments"
    if isinstance(value, list) and len(value) == 1:
        return _keys(value[0])
    if not isinstance(value, dict):
        return None
    name = next((key for key, each in value.items() if each == NAME), "")
    for key, each in value.items():
        if each == ARGUMENTS:
            return (name, key) if name else (NAME, "") if key == NAME else None
    return next((keys for each in value.values() if (keys := _keys(each)) and keys[0]), None)


def _python(one: str) -> tuple[Spelling, tuple[int, int]] | None:
    name = one.find(f"{NAME}(")
    end = one.find(")", name)
    return (Spelling("python"), (name, end + 1)) if name >= 0 and f"{next(iter(ARGUMENTS))}=" in one else None


def _quoted(one: str) -> tuple[Spelling, tuple[int, int]] | None:
    name, brace = one.find(NAME), one.find("{")
    if STRING not in one or not 0 <= name < brace:
        return None
    return Spelling("quoted", name_end=one[name + len(NAME) : brace]), (name, one.rfind("}") + 1)


def _tagged(one: str) -> tuple[Spelling, tuple[int, int]] | None:
    (first, one_value), (second, two_value) = ARGUMENTS.items()
    places = [one.rfind(NAME, 0, one.find(first))]
    places += [one.find(text) for text in (first, one_value, second, two_value)]
    if -1 in places or places != sorted(places):
        return None
    name, key, value, next_key, last_value = places
    head = one[name + len(NAME) : key]
    between, middle = one[value + len(one_value) : next_key], one[key + len(first) : value]
    shared = len(common_prefix(head[::-1], between[::-1]))
    opens = head[len(head) - shared :]
    ends = between[: len(between) - shared].replace(first, "{key}")
    last = last_value + len(two_value)
    ended = ends.replace("{key}", second).rstrip()
    if not opens or not middle or not one[last:].startswith(ended):
        return None
    cut = re.search(r'(?<=[a-z_]=")\w+(?=")', middle)  # an attribute with the value's type
    parts = (opens, middle[: cut.start()], middle[cut.end() :], ends) if cut else (opens, middle, "", ends)
    return Spelling("tagged", name_end=head[: len(head) - shared], argument=parts), (name, last + len(ended))
