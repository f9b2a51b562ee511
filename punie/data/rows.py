"""The checks of one training example: errors make it useless, warnings do not."""

from __future__ import annotations

import ast
import builtins
import warnings
from collections.abc import Callable, Iterator, Sequence
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
) -> list[Finding]:
    """Every fault of an example whose shape is right.

    Args:
        row: The example, as :func:`punie.data.load.load_rows` reads it.
        tokenize: From messages to tokens; None leaves out the checks that need tokens.
        max_seq_length: Longest example, in tokens; a longer one is cut off at its end.
        where: File and line for the findings; default the line alone.
    """
    found = [*_check_turns(row.messages), *_check_calls(row.messages)]
    if tokenize is not None and not any(kind == "no supervised tokens" for kind, _ in found):
        found += _check_tokens(row.messages, tokenize, max_seq_length)
    return [Finding(kind, what, where or f"line {row.line}") for kind, what in found]


def _check_turns(messages: Sequence[Message]) -> Iterator[_Fault]:
    for number, message in enumerate(messages, 1):
        if not message["content"].strip():
            if number == len(messages):
                yield "no supervised tokens", "The last response is empty, so there is nothing to learn."
            else:
                yield "empty turn", f"Turn {number} ({message['role']}) is empty."
        if message["role"] == "system" and number > 1:
            yield "turn order", f"Turn {number} is a system turn; many templates take one only at the start."


def _check_tokens(messages: Sequence[Message], tokenize: Tokenize, limit: int) -> Iterator[_Fault]:
    try:
        tokens, prompt = tokenize(messages)
    except ValueError as error:
        what = f"The chat template cannot render the example: {excerpt(str(error), 100)}."
        yield "cannot be rendered", what
        return
    count = len(tokens)
    if prompt >= min(count, limit):
        what = f"The prompt has {prompt:,} tokens and {limit:,} are kept: nothing of the response is left."
        yield "no supervised tokens", what
    elif count > limit:
        yield "over-long", f"The example has {count:,} tokens; the response is cut off after {limit:,}."


def _check_calls(messages: Sequence[Message]) -> Iterator[_Fault]:
    form = formats.chosen()
    for number, message in enumerate(messages, 1):
        content = message["content"]
        blocks = form.parse(content).blocks if message["role"] == "assistant" else ()
        for block in blocks:
            if block.problem:
                start = excerpt(content[content.find("<") :])
                yield "malformed wrapper", f"Turn {number} has a tool-call block that cannot be read: {start}"
            else:
                faults = _check_call(block, form.code_tool)
                yield from ((kind, f"Turn {number}: {what}") for kind, what in faults)


def _check_call(block: Block, code_tool: str | None) -> Iterator[_Fault]:
    if code_tool is not None:
        if block.name == code_tool:
            yield from check_code(block.arguments["code"])
        else:
            yield "unknown tool", f"a block calls '{block.name}'; the only tool is {code_tool}."
    elif block.name in TOOLS:
        try:
            TOOLS[block.name].bind(**block.arguments)
        except TypeError as error:
            yield "wrong arguments", f"{error}."
    else:
        yield "unknown tool", f"there is no tool '{block.name}'."


def check_code(code: str) -> Iterator[_Fault]:
    """Every fault of a piece of Python that calls tools, found without running it.

    These are code that does not parse, calls of functions that are neither tools nor builtins nor defined in
    the code, and arguments that a tool does not take.
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
    defined = {name for node in nodes for name in _defined(node)}
    for node in nodes:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id in defined:
            continue
        name, keywords = node.func.id, {each.arg: each.value for each in node.keywords}
        if name not in TOOLS:
            if not hasattr(builtins, name):
                what = f"the code calls '{name}', which is neither a tool nor defined in it."
                yield "unknown tool", what
        elif None not in keywords and not any(isinstance(each, ast.Starred) for each in node.args):
            # What *args and **kwargs hold is known only when the code runs.
            try:
                TOOLS[name].bind(*node.args, **{str(key): value for key, value in keywords.items()})
            except TypeError as error:
                yield "wrong arguments", f"{error}."


def _defined(node: ast.AST) -> Iterator[str]:
    """The names to which a node of the code gives a meaning."""
    match node:
        case ast.Name(ctx=ast.Store(), id=name) | ast.arg(arg=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.alias():
            yield (node.asname or node.name).partition(".")[0]
