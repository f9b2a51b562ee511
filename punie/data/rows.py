"""The checks of one training example: errors make it useless, warnings do not."""

from __future__ import annotations

import ast
import builtins
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from punie import formats
from punie.data.load import Row
from punie.formats import Block, Message
from punie.formats.tools import TOOLS
from punie.util.jsonl import excerpt

Tokenize = Callable[[Sequence[Message]], tuple[list[int], int]]
"""From a conversation to its token ids and the number of them that belong to the prompt, as in
:func:`punie.formats.prompts.format_example`; a ValueError says why it cannot be rendered."""

WARNINGS = ("turn order", "empty turn", "over-long")
"""Kinds of findings that are warnings; all others are errors."""

_Fault = tuple[str, str]
"""Kind and description."""


@dataclass(frozen=True)
class Finding:
    """Something wrong with one example."""

    kind: str
    """The kind of fault, in a word or two."""
    what: str
    """The fault, in a sentence."""
    where: str
    """File and line."""

    @property
    def severity(self) -> Literal["error", "warning"]:
        """Whether the example is useless or only doubtful."""
        return "warning" if self.kind in WARNINGS else "error"


def check_row(
    row: Row, tokenize: Tokenize | None, max_seq_length: int, *, where: str | None = None
) -> tuple[list[Finding], int]:
    """Every fault of an example whose shape is right, and its length.

    Args:
        row: The example, as :func:`punie.data.load.load_rows` reads it.
        tokenize: From messages to tokens; None leaves out the checks that need tokens.
        max_seq_length: Longest example, in tokens; a longer one is cut off at its end.
        where: File and line for the findings; default the line alone.

    Returns:
        The findings, and the number of tokens; of characters where they could not be counted.
    """
    found = [*_check_turns(row.messages), *_check_calls(row.messages)]
    length = sum(len(message["content"]) for message in row.messages)
    if tokenize is not None and not any(kind == "no supervised tokens" for kind, _ in found):
        try:
            tokens, prompt = tokenize(row.messages)
            length = len(tokens)
            found += _check_length(length, prompt, max_seq_length)
        except ValueError as error:
            what = f"The chat template cannot render the example: {excerpt(str(error), 100)}."
            found.append(("cannot be rendered", what))
    return [Finding(kind, what, where or f"line {row.line}") for kind, what in found], length


def _check_turns(messages: Sequence[Message]) -> Iterator[_Fault]:
    for number, message in enumerate(messages, 1):
        if not message["content"].strip():
            if number == len(messages):
                yield "no supervised tokens", "The last response is empty, so there is nothing to learn."
            else:
                yield "empty turn", f"Turn {number} ({message['role']}) is empty."
        if message["role"] == "system" and number > 1:
            yield "turn order", f"Turn {number} is a system turn; many templates take one only at the start."


def _check_length(tokens: int, prompt: int, limit: int) -> Iterator[_Fault]:
    if prompt >= min(tokens, limit):
        what = f"The prompt has {prompt:,} tokens and {limit:,} are kept: nothing of the response is left."
        yield "no supervised tokens", what
    elif tokens > limit:
        yield "over-long", f"The example has {tokens:,} tokens; the response is cut off after {limit:,}."


def _check_calls(messages: Sequence[Message]) -> Iterator[_Fault]:
    form = formats.chosen()
    for number, message in enumerate(messages, 1):
        content = message["content"]
        for block in form.parse(content).blocks if message["role"] == "assistant" else ():
            if block.problem:
                start = excerpt(content[content.find("<") :])
                yield "malformed wrapper", f"Turn {number} has a tool-call block that cannot be read: {start}"
            else:
                yield from (
                    (kind, f"Turn {number}: {what}") for kind, what in _check_call(block, form.code_tool)
                )


def _check_call(block: Block, code_tool: str | None) -> Iterator[_Fault]:
    if code_tool is not None and block.name == code_tool:
        yield from check_code(block.arguments["code"])
    elif code_tool is not None:
        yield "unknown tool", f"a block calls '{block.name}'; the only tool is {code_tool}."
    elif block.name not in TOOLS:
        yield "unknown tool", f"there is no tool '{block.name}'."
    else:
        yield from _check_arguments(block.name, (), block.arguments)


def _check_arguments(tool: str, args: Sequence[object], kwargs: Mapping[str, object]) -> Iterator[_Fault]:
    try:
        TOOLS[tool].bind(*args, **kwargs)
    except TypeError as error:
        yield "wrong arguments", f"{error}."


def check_code(code: str) -> Iterator[_Fault]:
    """Every fault of a piece of Python that calls tools, found without running it.

    These are code that does not parse, calls of functions that are neither tools nor builtins nor defined in
    the code, and arguments that a tool does not take.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            nodes = list(ast.walk(ast.parse(code)))
    except SyntaxError as error:
        yield "code does not parse", f"line {error.lineno} of the code does not parse: {error.msg}."
        return
    except (ValueError, RecursionError, MemoryError) as error:  # half a surrogate; nested too deeply
        yield "code does not parse", f"the code does not parse: {excerpt(str(error))}."
        return
    defined = set(map(_defined, nodes))
    for node in nodes:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id in defined:
            continue
        name = node.func.id
        if name not in TOOLS:
            if not hasattr(builtins, name):
                yield "unknown tool", f"the code calls '{name}', which is neither a tool nor defined in it."
            continue
        keywords = {each.arg: each.value for each in node.keywords}
        # What *args and **kwargs hold is known only when the code runs.
        if None not in keywords and not any(isinstance(each, ast.Starred) for each in node.args):
            yield from _check_arguments(name, node.args, {str(key): keywords[key] for key in keywords})


def _defined(node: ast.AST) -> str | None:
    """The name that a node of the code defines, if it defines one."""
    if isinstance(node, ast.Name):
        return node.id if isinstance(node.ctx, ast.Store) else None
    if isinstance(node, ast.alias):
        return (node.asname or node.name).partition(".")[0]
    if isinstance(node, ast.arg):
        return node.arg
    return getattr(node, "name", None)  # of functions, classes, handlers and patterns
