"""The checks of a single training row: what makes it useless, and what training can live with."""

from __future__ import annotations

import ast
import builtins
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from punie.data.load import Row
from punie.formats.code_mode import OPEN, parse
from punie.formats.prompts import Message
from punie.formats.tools import EXECUTE_CODE, TOOLS
from punie.util.jsonl import excerpt

Tokenize = Callable[[Sequence[Message]], tuple[list[int], int]]
"""From a conversation to its token ids and how many of them are the prompt's, as
:func:`punie.formats.prompts.format_example` does; a ValueError says why it cannot be rendered."""

WARNINGS = ("turn order", "empty turn", "over-long")
"""Kinds of findings that training can live with; all others are errors."""


@dataclass(frozen=True)
class Finding:
    """Something wrong with one row."""

    kind: str
    """What sort of fault, in a word or two."""
    what: str
    """The fault, in a sentence."""
    where: str
    """File and line."""

    @property
    def severity(self) -> Literal["error", "warning"]:
        """Whether the row is useless or only doubtful."""
        return "warning" if self.kind in WARNINGS else "error"


def check_row(
    row: Row, tokenize: Tokenize | None, max_seq_length: int, *, where: str | None = None
) -> list[Finding]:
    """Every fault of a row whose shape is right.

    Args:
        row: The row, as :func:`punie.data.load.load_rows` reads it.
        tokenize: The model's way from messages to tokens; None leaves out what needs tokens.
        max_seq_length: Longest row, in tokens; a longer one is cut off at its end.
        where: File and line for the findings; the row's line alone when left out.
    """
    where = where or f"line {row.line}"
    found = [*_check_turns(row.messages), *_check_code(row.messages)]
    if not any(kind == "no supervised tokens" for kind, _ in found) and tokenize is not None:
        found += _check_tokens(row.messages, tokenize, max_seq_length)
    return [Finding(kind, what, where) for kind, what in found]


def _check_turns(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    last = len(messages)
    for number, message in enumerate(messages, 1):
        if not message["content"].strip():
            if number == last:
                yield "no supervised tokens", "The last answer is empty, so there is nothing to learn."
            else:
                yield "empty turn", f"Turn {number} ({message['role']}) is empty."
        if message["role"] == "system" and number > 1:
            yield "turn order", f"Turn {number} is a system turn; many templates take one only at the start."


def _check_tokens(
    messages: Sequence[Message], tokenize: Tokenize, max_seq_length: int
) -> Iterator[tuple[str, str]]:
    try:
        tokens, prompt = tokenize(messages)
    except ValueError as error:
        yield "cannot be rendered", f"The chat template cannot render the row: {excerpt(str(error), 100)}."
        return
    if prompt >= min(len(tokens), max_seq_length):
        kept = f"{prompt:,} tokens where {max_seq_length:,} are kept"
        yield "no supervised tokens", f"The prompt alone has {kept}: nothing of the answer is left to learn."
    elif len(tokens) > max_seq_length:
        what = (
            f"The row has {len(tokens):,} tokens; what is over {max_seq_length:,} of its answer is cut off."
        )
        yield "over-long", what


def _check_code(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    for number, message in enumerate(messages, 1):
        content = message["content"]
        if message["role"] != "assistant" or not (OPEN in content or "<function=" in content):
            continue
        for block in parse(content).blocks:
            if block.problem:
                start = excerpt(content[content.find("<") :])
                yield "malformed wrapper", f"Turn {number} has a wrapper that cannot be read: {start}"
            elif block.code is None:
                named = f"Turn {number} calls '{block.name}' through the wrapper"
                yield "unknown tool", f"{named}; the only tool there is {EXECUTE_CODE}."
            else:
                for kind, what in check_code(block.code):
                    yield kind, f"Turn {number}: {what}"


def check_code(code: str) -> Iterator[tuple[str, str]]:
    """Kind and description of every fault in a piece of Python that calls tools.

    Found without running it: code that does not parse, calls of functions that are neither tools nor
    builtins nor defined in the code, and arguments that a tool does not take.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(code)
    except SyntaxError as error:
        yield "code does not parse", f"line {error.lineno} of the code does not parse: {error.msg}."
        return
    except (ValueError, RecursionError, MemoryError) as error:  # half a surrogate; nested too deeply
        yield "code does not parse", f"the code does not parse: {excerpt(str(error))}."
        return
    nodes = list(ast.walk(tree))
    defined = set(_names(nodes))
    for node in nodes:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id in defined:
            continue
        name = node.func.id
        if name in TOOLS:
            if any(isinstance(each, ast.Starred) for each in node.args) or None in [
                k.arg for k in node.keywords
            ]:
                continue  # only a run could tell what *args and **kwargs hold
            try:
                TOOLS[name].bind(*node.args, **{str(each.arg): each.value for each in node.keywords})
            except TypeError as error:
                yield "wrong arguments", f"{error}."
        elif not hasattr(builtins, name):
            yield "unknown tool", f"the code calls '{name}', which is neither a tool nor defined in it."


def _names(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Every name that the code itself gives a meaning to."""
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).partition(".")[0]
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name
