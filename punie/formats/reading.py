"""Reads tool calls in a response by a spelling. It never raises, and takes time linear in the text."""

from __future__ import annotations

import ast
import contextlib
import functools
import itertools
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from punie.formats import Block, Completion
from punie.formats.spelling import CALL_ID, NAME, Spelling
from punie.formats.thoughts import skip_thoughts
from punie.formats.tools import Tool

_WORD = r"[\w.\-/]{1,200}"
_LAST_TAG = re.compile(r"(?:<[^<>]+>|\[\w+\]|\S+)\s*$")
_DECODER = json.JSONDecoder()
STRING = '<|"|>'
"""What stands around a string of Gemma's."""
_BARE_KEY = re.compile(r"([{,]\s*)([\w.\-]{1,200})\s*:")
_CDATA = re.compile(r"\s*<!\[CDATA\[(.*)\]\]>\s*", re.DOTALL)
_END = re.compile(r"\s*\Z")
_UNREADABLE = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)
"""What Python's parser raises for text that is no literal."""
_BETWEEN = re.compile(r"[\s,;]*")


def parse(
    spelling: Spelling, text: str, *, tools: Collection[Tool] = (), truncated: bool = False
) -> Completion:
    """Parse a response, as :class:`punie.formats.Parse` describes."""
    mark, known = spelling.mark, {tool.name: tool for tool in tools}
    start, unfinished = skip_thoughts(text, mark or "{")
    first = text.find(mark, start) if mark else _plain_start(spelling, text, start, known)
    blocks: list[Block] = []
    if first >= 0:
        # A value may hold the mark too: after the first, only one that a call follows begins a section.
        rest = _patterns(spelling).begins.finditer(text, first + 1) if mark else ()
        openings = [first, *(match.start() for match in rest), len(text)]
        for begin, end in itertools.pairwise(openings):
            blocks += _Section(spelling, text[begin:end], known, truncated and end == len(text)).read()
    before = text[start:first] if first >= 0 else text[start:]
    return Completion(text, tuple(blocks), before, unfinished_thought=unfinished, has_block=first >= 0)


def _plain_start(spelling: Spelling, text: str, start: int, known: Mapping[str, Tool]) -> int:
    """Where a call that has no mark begins: at the beginning of the response, or nowhere."""
    match = re.compile(r"\s*(?:<\|python_tag\|>)?\s*").match(text, start)
    at = match.end() if match else start
    if spelling.holder != "object":
        named = _patterns(spelling).named.match(text, at)
        return at if named and named[1] in known else -1
    return at if re.compile(rf'\{{\s*"{re.escape(spelling.keys[0])}"\s*:').match(text, at) else -1


def _literal(text: str, *, value_before: bool = False, value_after: bool = False) -> str:
    """A pattern for a literal: any white space where it has some, any number and any id where it has one.

    White space beside a value is part of the value, but for what the literal has.
    """
    pieces = re.split(rf"(\s+|{CALL_ID}|{NAME}|\d+|\{{key\}})", text)
    found = []
    for number, piece in enumerate(pieces):
        if piece in (CALL_ID, NAME):
            found.append(r"[\w.\-:]{1,100}?")
        elif piece == "{key}":
            found.append("(?P=key)")
        elif piece.isdigit():
            found.append(r"\d{1,9}")
        elif piece.isspace():
            first, last = not any(pieces[:number]), not any(pieces[number + 1 :])
            at_value = (value_before and first) or (value_after and last)
            found.append("".join(f"{re.escape(each)}?" for each in piece) if at_value else r"\s*")
        else:
            found.append(re.escape(piece))
    return "".join(found)


class _Patterns(NamedTuple):
    """A spelling's literals as patterns."""

    begins: re.Pattern[str]
    section: re.Pattern[str]
    head: re.Pattern[str]
    named: re.Pattern[str]
    argument: re.Pattern[str]
    close: re.Pattern[str]


@functools.lru_cache(maxsize=64)
def _patterns(spelling: Spelling) -> _Patterns:
    head, section = _literal(spelling.open.strip()), _literal(spelling.section.strip())
    name_end = _literal(spelling.name_end)
    if spelling.holder == "json" and (last := _LAST_TAG.search(spelling.name_end)):
        name_end = rf"[^{{]{{0,100}}?{_literal(last[0])}"  # models leave out ids and channels
    body = r"[\[{]" if spelling.holder == "object" else r"\w"
    opens, middle, rest, _ = spelling.argument
    kind = rf"[\w\-]{{0,40}}{_literal(rest, value_after=True)}" if rest else ""
    key = r"(?P<key>(?!/)[^\s<>=\"\]]{1,200}?)"
    return _Patterns(
        begins=re.compile(rf"{section}\s*{head}\s*{body}"),
        section=re.compile(section),
        head=re.compile(rf"\s*{head}\s*"),
        named=re.compile(rf"({_WORD}){name_end}"),
        argument=re.compile(
            rf"\s*{_literal(opens.lstrip())}{key}{_literal(middle, value_after=not rest)}{kind}"
        ),
        close=re.compile(r"\s*" + _literal(spelling.close.strip())),
    )


@dataclass
class _Section:
    """A mark and what follows it, up to the next one."""

    spelling: Spelling
    text: str
    tools: Mapping[str, Tool]
    truncated: bool

    def read(self) -> list[Block]:
        """The calls, in order, and a block for what cannot be read."""
        patterns, text = _patterns(self.spelling), self.text
        match = patterns.section.match(text)
        at = match.end() if match else 0
        blocks: list[Block] = []
        while begins := patterns.head.match(text, at):
            calls, end = self._body(begins.end())
            closes = patterns.close.match(text, end) if calls else None
            whole = closes or (not self.truncated and _END.match(text, end))
            if not calls or not whole:
                break
            blocks += calls
            at = whole.end()
            if separator := _BETWEEN.match(text, at):
                at = separator.end()
        rest, closing = text[at:].strip(), self.spelling.section_close.strip()
        if not blocks or (self.spelling.section and rest and not (closing and rest.startswith(closing))):
            blocks.append(Block(problem="truncated" if self.truncated else "malformed"))
        return blocks

    def _body(self, at: int) -> tuple[list[Block] | None, int]:
        """The calls of one body and the position after it; None where there is none."""
        text, holder = self.text, self.spelling.holder
        if holder == "object":
            value, end = decode(text, at) if text[at : at + 1] in ("{", "[") else (None, at)
            return self._objects(value), end
        if holder == "python":
            return self._keywords(at)
        named = _patterns(self.spelling).named.match(text, at)
        if named is None:
            return None, at
        name, at = named[1], named.end()
        if holder == "tagged":
            arguments, at = self._tagged(name, at)
        else:
            arguments, at = decode(text, at) if holder == "json" else _unquote(text, at)
        return ([Block(name, arguments)], at) if isinstance(arguments, dict) else (None, at)

    def _objects(self, value: object) -> list[Block] | None:
        name_key, arguments_key = self.spelling.keys
        found: list[Block] = []
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict) and name_key not in each and isinstance(each.get("function"), dict):
                each = each["function"]
            if not isinstance(each, dict):
                return None
            if not name_key and len(each) == 1:
                name, arguments = next(iter(each.items()))
            else:
                name = each.get(name_key)
                arguments = each.get(arguments_key, each.get("arguments", each.get("parameters", {})))
            if isinstance(arguments, str):
                with contextlib.suppress(ValueError, RecursionError):
                    arguments = json.loads(arguments)
            if not isinstance(name, str) or not isinstance(arguments, dict):
                return None
            found.append(Block(name, arguments))
        return found or None

    def _tagged(self, name: str, at: int) -> tuple[dict[str, Any] | None, int]:
        opens, _, _, ends = self.spelling.argument
        closes = _literal(self.spelling.close.strip()) or r"\Z"
        following = rf"(?=\s*(?:{_literal(opens.lstrip())}|{closes}|\Z))"
        properties = self.tools[name].schema.get("properties", {}) if name in self.tools else {}
        found: dict[str, Any] = {}
        while argument := _patterns(self.spelling).argument.match(self.text, at):
            key = argument["key"]
            pattern = _literal(ends.rstrip().replace("{key}", key), value_before=True) + following
            ending = re.compile(pattern).search(self.text, argument.end())
            if ending is None:
                return None, at
            found[key] = _typed(self.text[argument.end() : ending.start()], properties.get(key))
            at = ending.end()
        return found, at

    def _keywords(self, at: int) -> tuple[list[Block] | None, int]:
        end = self.text.find(self.spelling.close.strip(), at)
        if end < 0:
            return None, at
        source = f"[{self.text[at:end]}]"
        for each in (
            source,
            source.replace("\n", "\\n"),
        ):  # templates write line breaks in strings as they are
            with contextlib.suppress(*_UNREADABLE):
                listed = ast.parse(each, mode="eval").body
                if isinstance(listed, ast.List) and listed.elts:
                    return [_keyword_call(_JsonNames().visit(call)) for call in listed.elts], end
        return None, at


class _JsonNames(ast.NodeTransformer):
    """Python's constants for JSON's."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        constants = {"true": True, "false": False, "null": None}
        return ast.Constant(constants[node.id]) if node.id in constants else node


def _keyword_call(node: ast.expr) -> Block:
    if not isinstance(node, ast.Call) or node.args or any(each.arg is None for each in node.keywords):
        raise ValueError("not a call with keyword arguments")
    return Block(
        ast.unparse(node.func), {str(each.arg): _literal_value(each.value) for each in node.keywords}
    )


def _literal_value(node: ast.expr | str) -> Any:
    """A Python literal's value, as JSON holds it: a tuple is a list.

    Raises:
        ValueError, TypeError: There is no such literal, or no such value in JSON.
    """
    text = json.dumps(ast.literal_eval(node), ensure_ascii=False, allow_nan=False)
    text.encode()
    return json.loads(text)


def decode(text: str, at: int) -> tuple[Any, int]:
    """A JSON value and the position after it; None where there is none that can be written again."""
    try:
        value, end = _DECODER.raw_decode(text, at)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        # Not JSON, NaN, half of a surrogate pair, a number of over 4,300 digits, brackets nested too deeply.
        return None, at
    return value, end


def _unquote(text: str, at: int) -> tuple[Any, int]:
    """A value of Gemma's, whose strings stand between ``<|"|>`` and whose keys are bare."""
    pieces, json_text, depth = text[at:].split(STRING), "", 0
    for number, piece in enumerate(pieces):
        if number % 2:
            json_text += json.dumps(piece)
            continue
        for place, letter in enumerate(piece):
            depth += (letter in "{[") - (letter in "}]")
            if depth == 0 and letter in "}]":
                before = sum(map(len, pieces[:number])) + len(STRING) * number
                value, _ = decode(json_text + _BARE_KEY.sub(r'\1"\2":', piece[: place + 1]), 0)
                return value, at + before + place + 1
        json_text += _BARE_KEY.sub(r'\1"\2":', piece)
    return None, at


def typed(sent: Sequence[Mapping[str, Any]], tools: Mapping[str, Tool]) -> list[Mapping[str, Any]]:
    """Calls that a server has read, with text among the values read by the schemas, as in a response."""
    found: list[Mapping[str, Any]] = []
    for each in sent:
        arguments = each["arguments"]
        properties = tools[each["name"]].properties if each["name"] in tools else {}
        if isinstance(arguments, Mapping):
            arguments = {
                key: _typed(value, properties.get(key)) if isinstance(value, str) else value
                for key, value in arguments.items()
            }
        found.append({**each, "arguments": arguments})
    return found


def _typed(text: str, schema: object) -> Any:
    """A tagged value by its type in the schema: text as it is, all else as JSON or as Python's literal."""
    cdata = _CDATA.fullmatch(text)
    if cdata:
        return cdata[1]
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    if kind == "string":
        return text
    value, end = decode(text.strip(), 0)
    if end == len(text.strip()) and end:
        return text if kind is None and isinstance(value, str) else value
    if kind is not None or text.strip() in ("True", "False", "None"):
        with contextlib.suppress(*_UNREADABLE):
            return _literal_value(text.strip())
    return text
