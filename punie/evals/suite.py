"""Suites: JSON lines with the prompts of an evaluation and the calls that each one asks for.

An item is one turn, or a conversation: turns whose expected calls have recorded results.
"""

from __future__ import annotations

import difflib
import functools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from punie.formats import Message
from punie.formats.messages import check_turn, read_turns
from punie.formats.tools import TOOLS, Tool, own_tools, wrong_tools
from punie.util import jsonl
from punie.util.errors import DataError
from punie.util.plain import is_text

Match = Literal["any", "all", "exactly", "in_order"]
"""How calls are compared with the expected ones.

any: one of them is enough. all: each is made. exactly: these calls are made and no other, in any order.
in_order: each is made, in their order. Except for exactly, other calls may be made as well.
"""


@dataclass(frozen=True)
class Expectation:
    """One call that a sample's prompt asks for."""

    tool: str
    """The tool's name."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """The arguments that are compared, by parameter name; others may be anything. A value is the only right
    one, or ``{"any_of": [...]}`` lists several. With ``"optional": true`` beside them it may be left out."""


@dataclass(frozen=True)
class Sample:
    """One item of a suite, or one turn of it; of a conversation, its first turn."""

    id: str
    """Unique in its suite."""
    category: str
    """Any text; scores are averaged by it."""
    prompt: str
    """The user's turn; of ``messages``, the last one."""
    expect: tuple[Expectation, ...]
    """The expected calls; empty if the right response calls nothing."""
    match: Match = "any"
    """How the calls are compared with the expected ones."""
    max_tokens: int | None = None
    """Longest response, in tokens; None means ``eval.max_tokens``."""
    messages: tuple[Message, ...] = ()
    """The conversation to go on with, in place of a user's turn; it ends with a user's or a tool's turn."""
    tools: tuple[Tool, ...] = ()
    """What may be called: the item's own tools, else those of the run."""
    rules: Literal["punie", "bfcl"] = "punie"
    """Whose rules the strict score goes by. By BFCL's (``punie.evals.bfcl``) an expected argument is the list
    of its acceptable values."""
    results: tuple[str, ...] = ()
    """What each expected call returned when the conversation was recorded; empty in the last turn."""
    reply: str = ""
    """What the assistant then said; empty if the user's next turn follows the results."""
    later: tuple[Sample, ...] = ()
    """The other turns, each with the item's id, category, tools and rules."""

    @property
    def turns(self) -> tuple[Sample, ...]:
        """All turns, in order."""
        return self, *self.later

    @property
    def named_turns(self) -> list[tuple[str, Sample]]:
        """All turns with their names: the item's id, and from the second on their number."""
        return [(self.id if n == 1 else f"{self.id}, turn {n}", turn) for n, turn in enumerate(self.turns, 1)]

    @property
    def known(self) -> Mapping[str, Tool]:
        """The tools by name; without any, the embedded ones, which code mode calls."""
        return {tool.name: tool for tool in self.tools} or TOOLS


MAX_TURNS = 100
"""Most turns of a conversation."""
_TURN = ("prompt", "expect", "match", "max_tokens", "messages")
_ITEM = ("id", "category", *_TURN, "tools", "rules", "turns")
_FOLLOWED = ("results", "reply")
_TURNS = '[{"prompt": …, "expect": […], "results": […]}, …, {"prompt": …, "expect": […]}]'
_RESULTS = 'one for each expected call: [{"tool": "git_status", "content": "…"}]'
_CHOICE = {"any_of", "optional"}
_CHOICES = '{"any_of": [3, 4]}; with "optional": true, it may also be left out'
_DECLARE = 'declare it: "tools" of the item, or tools=file tools.path=FILE for all items'


def load_suite(path: Path, tools: Collection[Tool] = ()) -> list[Sample]:
    """The samples of a suite, in the order of its file.

    Args:
        path: A JSONL file, one item per line, with the fields of :class:`Sample`.
        tools: What may be called in items without tools of their own; none means the embedded ones.

    Raises:
        DataError: The file is missing, cannot be read or is empty.
        Problems: Items are wrong: the problems of every line, each with its place.
    """
    lines = jsonl.load(
        path,
        functools.partial(_check, tools={tool.name: tool for tool in tools} or TOOLS),
        kind="The suite",
        expected="a JSONL file, one item a line",
        next_step="Check eval.suite.",
        key=lambda item: item["id"] if isinstance(item.get("id"), str) else None,
    )
    return [_build(line.value, tuple(tools)) for line in lines]


def _build(item: Mapping[str, Any], tools: tuple[Tool, ...]) -> Sample:
    shared = {name: item[name] for name in ("id", "category", "rules") if name in item}
    shared["tools"] = own_tools(item) or (() if item.get("tools") == [] else tools)
    first, *later = (_build_turn({**turn, **shared}) for turn in item.get("turns", [item]))
    return replace(first, later=tuple(later))


def _build_turn(values: dict[str, Any]) -> Sample:
    values["expect"] = tuple(Expectation(**each) for each in values["expect"])
    results: dict[str, list[str]] = {}
    for each in values.get("results", ()):
        results.setdefault(each["tool"], []).append(each["content"])
    if results:  # of several calls of a tool, in their order
        values["results"] = tuple(results[call.tool].pop(0) for call in values["expect"])
    if "messages" in values:
        values["messages"] = read_turns(values["messages"])
        users = [each["content"] for each in values["messages"] if each["role"] == "user"]
        values["prompt"] = users[-1] if users else ""
    return Sample(**values)


def _check(item: Mapping[str, Any], where: str, *, tools: Mapping[str, Tool]) -> Iterator[DataError]:
    """Every problem of one item."""
    if not is_text(item):
        yield DataError("The item is not valid text.", where=where, found="half of a surrogate pair")
        return
    yield from _unknown(item, _ITEM, "field", where)
    yield from _check_text(("id", "category"), item, where)
    if item.get("rules", "punie") not in ("punie", "bfcl"):
        yield _wrong("rules", item, "'punie' or 'bfcl'", where)
    turns: list[tuple[Mapping[str, Any], str]] = [(item, where)]
    if "turns" in item:
        found = item["turns"]
        right = isinstance(found, list) and 2 <= len(found) <= MAX_TURNS
        if not right or not all(isinstance(each, dict) for each in found):
            yield _wrong("turns", item, f"2 to {MAX_TURNS} turns: {_TURNS}", where)
            return
        yield from _check_turns(item, where)
        turns = [(turn, f"{where}, turn {number}") for number, turn in enumerate(item["turns"], 1)]
    for turn, place in turns:
        yield from _check_asked(turn, place)
    if wrong := list(wrong_tools(item, where)):
        yield from wrong
        return
    tools = {tool.name: tool for tool in own_tools(item)} or tools
    for turn, place in turns:
        yield from _check_expected(turn, place, tools, lists=item.get("rules") == "bfcl")


def _check_turns(item: Mapping[str, Any], where: str) -> Iterator[DataError]:
    """What is wrong with the form of a conversation, and with the results of its calls."""
    turns = item["turns"]
    for name in (name for name in _TURN if name in item):
        what = f"The item has turns, and '{name}' beside them."
        yield DataError(what, where=where, expected=f"'{name}' in a turn")
    if item.get("rules") == "bfcl":
        yield DataError("BFCL's rules are for items of one turn.", where=where, next_step='remove "rules"')
    for number, turn in enumerate(turns, 1):
        place = f"{where}, turn {number}"
        known = [name for name in (*_TURN, *_FOLLOWED) if name != "messages" or number == 1]
        yield from _unknown(turn, known, "field of a turn", place)
        if number == len(turns):
            for name in (name for name in _FOLLOWED if name in turn):
                what = f"The last turn has '{name}', which no turn follows."
                yield DataError(what, where=place, next_step="remove it, or add a turn")
            continue
        yield from _check_results(turn, place)


def _check_results(turn: Mapping[str, Any], where: str) -> Iterator[DataError]:
    """What is wrong with the results of a turn's calls, and with the reply to them."""
    if not isinstance(turn.get("reply", ""), str):
        yield _wrong("reply", turn, "what the assistant says of the results", where)
    results, calls = turn.get("results", []), turn.get("expect")
    if not isinstance(results, list) or not all(map(_is_result, results)):
        yield _wrong("results", turn, _RESULTS, where)
        return
    named = [each.get("tool") for each in calls if isinstance(each, dict)] if isinstance(calls, list) else []
    expected = Counter(each for each in named if isinstance(each, str))
    given = Counter(each["tool"] for each in results)
    for tool in (given - expected).elements():
        what = f"A recorded result belongs to no expected call of its turn: '{jsonl.excerpt(tool)}'."
        yield DataError(
            what, where=where, expected=_RESULTS, next_step="expect the call, or remove the result"
        )
    for tool in (expected - given).elements():
        what = f"An expected call has no recorded result, and a turn follows: '{jsonl.excerpt(tool)}'."
        yield DataError(what, where=where, expected=_RESULTS, next_step="add what the call returned")
    if turn.get("reply") and not expected:
        what = "The turn has a reply and no expected call: the model's own response is the reply."
        yield DataError(what, where=where, next_step='remove "reply"')


def _is_result(each: object) -> bool:
    named = isinstance(each, dict) and each.keys() == {"tool", "content"}
    return named and all(isinstance(value, str) for value in each.values())


def _check_text(names: Collection[str], holder: Mapping[str, Any], where: str) -> Iterator[DataError]:
    for name in names:
        value = holder.get(name)
        if not isinstance(value, str) or not value.strip():
            yield _wrong(name, holder, "some text", where)


def _check_asked(turn: Mapping[str, Any], where: str) -> Iterator[DataError]:
    """What is wrong with what a turn asks."""
    if "messages" in turn:
        yield from _check_messages(turn, where)
    else:
        yield from _check_text(["prompt"], turn, where)
    if turn.get("match", "any") not in get_args(Match):
        yield _wrong("match", turn, f"one of {', '.join(get_args(Match))}", where)
    limit = turn.get("max_tokens", 1)
    if type(limit) is not int or limit < 1:
        yield _wrong("max_tokens", turn, "a whole number of tokens, at least 1", where)


def _check_expected(
    turn: Mapping[str, Any], where: str, tools: Mapping[str, Tool], *, lists: bool
) -> Iterator[DataError]:
    """What is wrong with the calls that a turn expects."""
    expected = turn.get("expect")
    if not isinstance(expected, list):
        yield _wrong(
            "expect", turn, 'a list such as [{"tool": "git_status", "arguments": {}}]; [] for no call', where
        )
        return
    if len(expected) > 1 and any(not each for each in expected):
        yield DataError(
            "The item expects a call and none.",
            where=where,
            found=jsonl.excerpt(expected),
            expected="calls, or [] for none",
            next_step="remove what names no call, or make two items of it",
        )
        return
    for each in expected:
        yield from _check_expectation(each, where, tools, lists=lists)


def _check_messages(item: Mapping[str, Any], where: str) -> Iterator[DataError]:
    messages = item["messages"]
    if "prompt" in item:
        yield DataError("The item has a prompt and messages.", where=where, expected="one of the two")
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages) or not messages:
        yield _wrong("messages", item, '[{"role": …, "content": …}, …]', where)
        return
    for number, each in enumerate(messages, 1):
        for what, found, expected in check_turn(each, number):
            yield DataError(what, where=where, found=jsonl.excerpt(found), expected=expected)
    if messages[-1].get("role") == "assistant":
        yield DataError("The last turn is the assistant's, so there is nothing to respond to.", where=where)


def _check_expectation(
    each: object, where: str, tools: Mapping[str, Tool], *, lists: bool
) -> Iterator[DataError]:
    if not isinstance(each, dict) or not isinstance(each.get("tool"), str):
        found = jsonl.excerpt(each)
        yield DataError("An expected call names no tool.", where=where, found=found, expected='{"tool": …}')
        return
    call = cast("dict[str, Any]", each)
    yield from _unknown(call, ("tool", "arguments"), "field of an expected call", where)
    tool, arguments = tools.get(call["tool"]), call.get("arguments", {})
    if not isinstance(arguments, dict):
        yield _wrong("arguments", call, "an object of argument names and values", where)
    elif tool is None:
        yield from _unknown([call["tool"]], tools, "tool", where, _DECLARE)
    elif lists:  # also of arguments that the tool does not have, as in BFCL's data
        for name in (name for name, values in arguments.items() if not isinstance(values, list)):
            yield _wrong(name, arguments, "by BFCL's rules, the list of its acceptable values", where)
    else:
        types = {parameter.name: parameter.type for parameter in tool.parameters}
        yield from _unknown(arguments, types, f"argument of {tool.signature}", where)
        for name in sorted(arguments.keys() & types.keys()):
            given = arguments[name]
            if (
                isinstance(given, dict)
                and "any_of" in given
                and given.keys() <= _CHOICE
                and not _choice(given)
            ):
                what = f"The acceptable values of the argument '{name}' of {tool.name} are wrong."
                yield DataError(what, where=where, found=jsonl.excerpt(given), expected=_CHOICES)
                continue
            if is_optional(given) and name in tool.schema.get("required", ()):
                what = f"The argument '{name}' of {tool.name} is optional here, but its schema requires it."
                next_step = 'remove "optional", or the name from "required" of the tool\'s schema'
                yield DataError(what, where=where, found=jsonl.excerpt(given), next_step=next_step)
            for value in acceptable(given):
                if wrong := tool.wrong_value(name, value):
                    typed = wrong == types[name]
                    fault = "has the wrong type" if typed else "is not what its schema allows"
                    what = f"The argument '{name}' of {tool.name} {fault}{'' if typed else f': {wrong}'}."
                    found = jsonl.excerpt([value])[1:-1]
                    yield DataError(what, where=where, found=found, expected=wrong if typed else None)


def acceptable(expected: object) -> list[Any]:
    """The values that are right for an argument."""
    found = _choice(expected)
    return [expected] if found is None else found["any_of"]


def is_optional(expected: object) -> bool:
    """Whether an argument may be left out."""
    found = _choice(expected)
    return found is not None and found.get("optional", False)


def _choice(expected: object) -> dict[str, Any] | None:
    """``{"any_of": [...], "optional": ...}``; None if it is anything else, which is a value by itself."""
    if not isinstance(expected, dict) or not expected.keys() <= _CHOICE:
        return None
    found = cast("dict[str, Any]", expected)
    values, optional = found.get("any_of"), found.get("optional", False)
    return found if isinstance(values, list) and values and isinstance(optional, bool) else None


def _unknown(
    names: Collection[str], known: Collection[str], kind: str, where: str, next_step: str | None = None
) -> Iterator[DataError]:
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            expected = f"'{close[0]}', perhaps" if close else "one of " + (", ".join(known) or "none at all")
            what = f"Unknown {kind}: '{jsonl.excerpt(name)}'."
            yield DataError(what, where=where, expected=expected, next_step=None if close else next_step)


def _wrong(name: str, item: Mapping[str, Any], expected: str, where: str) -> DataError:
    what = f"The field '{name}' is {'wrong' if name in item else 'missing'}."
    found = jsonl.excerpt(item[name]) if name in item else None
    return DataError(what, where=where, found=found, expected=expected)
