"""The one check of a training example, on its rendered tokens: `data check`, preflight and training share it.

Errors make an example useless, warnings do not.
"""

from __future__ import annotations

import ast
import builtins
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from punie.data.load import Row
from punie.formats import Call, Format
from punie.formats.chat import Chat, Conversation, Example
from punie.formats.tools import TOOLS, Tool, wrong_arguments
from punie.util.jsonl import excerpt

WARNINGS = (
    "turn order",
    "empty turn",
    "over-long",
    "never ends",
    "control token",
    "dropped",
    "undeclared tool",
    "unused option",
    "stray result",
)
"""Kinds of findings that are warnings; all others are errors."""

NEXT_STEPS = {
    "unknown tool": "correct the call, or declare the tool: tools of the example, or tools.path",
    "wrong arguments": "correct the call, or the tool's schema",
    "calls not readable": "format=prompted writes calls as text, for any template",
    "tool not shown": "format=prompted shows tools under any template",
    "cannot be rendered": "change the example to what the template takes, or leave it out",
    "token out of vocabulary": "use the tokenizer that belongs to the model, or change the text",
    "too long": "raise lora.max_seq_length, or data.too_long=drop",
}
"""What to do about a kind of finding, where its description does not say."""

_WORD = re.compile(r"[A-Za-z0-9]+")
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


@dataclass(frozen=True)
class Checked:
    """What the check made of an example."""

    findings: list[Finding]
    """Every fault."""
    examples: list[Example]
    """Its renderings, cut to length, each with loss; empty if there is an error, or no tokenizer."""
    length: int
    """Tokens of the longest rendering before it was cut; characters without a tokenizer."""


@dataclass(frozen=True)
class Check:
    """How examples are rendered and checked."""

    form: Format
    """How calls are written."""
    chat: Chat | None = None
    """The model's template and tokenizer; None leaves out the checks that need tokens."""
    tools: Mapping[str, Tool] = field(default_factory=dict)
    """What examples without tools of their own may call, by name."""
    limit: int = 2048
    """Longest rendering, in tokens."""
    every_turn: bool = False
    """Whether every assistant turn has loss, or the last one only."""
    mask_prompt: bool = True
    """Whether loss is on responses only."""
    too_long: str = "truncate"
    """What becomes of an example that is longer than the limit: ``truncate``, ``refuse`` or ``drop``."""
    vocabulary: int | None = None
    """Rows of the model's embedding; None if unknown."""
    declared: bool = True
    """Whether examples or the run declare tools. Where nothing does, calls of any tool are taken."""

    def row(self, row: Row, where: str | None = None) -> Checked:
        """Every fault of an example whose shape is right, and its renderings.

        Args:
            row: The example, as :func:`punie.data.load.load_rows` reads it.
            where: File and line for the findings; default the line alone.
        """
        faults = [*_check_turns(row, self.every_turn), *self._check_calls(row)]
        length = sum(len(message["content"]) for message in row.messages) or len(row.text or "")
        examples: list[Example] = []
        if self.chat is not None and not any(kind == "no supervised tokens" for kind, _ in faults):
            try:
                examples = self._render(self.chat, row)
            except Exception as error:  # a chat template is a program of the model's, and may raise anything
                words = excerpt((str(error).splitlines() or [type(error).__name__])[0], 200)
                faults.append(
                    ("cannot be rendered", f"The chat template cannot render the example: {words}.")
                )
            else:
                length = max(len(each.tokens) for each in examples)
                faults += self._check_properties(self.chat, row, examples)
                if self.form.code_tool is None and not {"unknown tool", "wrong arguments"} & {*dict(faults)}:
                    faults += self._check_returns(self.chat, row, examples)
                examples, cut = self._cut(examples)
                faults += cut
        if row.silent and not self.mask_prompt:
            what = (
                "A turn has no loss by its weight, and lora.mask_prompt=false computes loss on every token."
            )
            faults.append(("weight", what))
        place = where or f"line {row.line}"
        findings = [Finding(kind, what, place) for kind, what in dict.fromkeys(faults)]
        return Checked(findings, [] if any(f.severity == "error" for f in findings) else examples, length)

    def _known(self, row: Row) -> Mapping[str, Tool]:
        return {tool.name: tool for tool in row.tools} or self.tools

    def _render(self, chat: Chat, row: Row) -> list[Example]:
        if row.text is not None:
            return [chat.text(row.text)]
        known = () if self.form.code_tool else self._known(row).values()
        talk = Conversation(row.messages, known, row.options)
        found = chat.examples(talk, row.turns(every=self.every_turn))
        if self.mask_prompt:
            return found
        return [Example(each.tokens, [(1, len(each.tokens))], each.text, each.ranges) for each in found[-1:]]

    def _cut(self, examples: Sequence[Example]) -> tuple[list[Example], list[_Fault]]:
        """The renderings with at most ``limit`` tokens, and what was done for that."""
        kept: list[Example] = []
        faults: list[_Fault] = []
        for each in examples:
            tokens, first = len(each.tokens), each.spans[0][0]
            spans = [(max(a, 1), min(b, self.limit)) for a, b in each.spans]
            spans = [(a, b) for a, b in spans if a < b]
            if tokens > self.limit and self.too_long != "truncate":
                kind = "too long" if self.too_long == "refuse" else "dropped"
                what = f"The example has {tokens:,} tokens, of {self.limit:,} allowed"
                faults.append((kind, f"{what} (data.too_long={self.too_long})."))
                continue
            if not spans:
                what = f"The prompt has {first:,} tokens and {self.limit:,} are kept"
                faults.append(("no supervised tokens", f"{what}: nothing of the response is left."))
                continue
            if tokens > self.limit:
                what = f"The example has {tokens:,} tokens; the response is cut off after {self.limit:,}."
                faults.append(("over-long", what))
            kept.append(Example(each.tokens[: self.limit], spans, each.text, each.ranges))
        return kept, faults

    def _check_properties(self, chat: Chat, row: Row, examples: Sequence[Example]) -> Iterator[_Fault]:
        for each in examples:
            if self.vocabulary is not None and max(each.tokens) >= self.vocabulary:
                token = chat.tokenizer.decode([max(each.tokens)])
                what = f"The token {token!r} ({max(each.tokens)}) has no row in the embedding"
                yield "token out of vocabulary", f"{what} ({self.vocabulary} rows)."
            if not all(chat.ends(each.text[a:b]) for a, b in each.ranges):
                yield (
                    "never ends",
                    "The template does not end the response with a token that stops generation.",
                )
        shown = examples[-1].text
        if self.form.code_tool is None and row.text is None:
            for tool in self._known(row).values():
                if tool.name not in shown:
                    yield "tool not shown", f"The template does not show the model the tool '{tool.name}'."
                elif not _is_shown(tool.description, shown):
                    yield (
                        "tool not shown",
                        f"The template does not show the description of the tool '{tool.name}'.",
                    )
        for special in chat.controls:
            if any(special in message["content"] for message in row.messages):
                yield (
                    "control token",
                    f"The content holds {special!r}, which the tokenizer reads as a control token.",
                )
        for name in row.options:
            if name not in chat.template:
                yield "unused option", f"The chat template does not use '{name}' of chat_template_kwargs."

    def _check_returns(self, chat: Chat, row: Row, examples: Sequence[Example]) -> Iterator[_Fault]:
        """Calls that do not come back when what the template wrote of them is parsed."""
        learned = row.turns(every=self.every_turn)
        written = [each.text[a:b] for each in examples for a, b in each.ranges]
        for turn, text in zip(learned, written, strict=False):
            wanted = calls_of(row.messages[turn])
            if not wanted:
                continue
            known = self._known(row)
            found = self.form.parse(chat.unended(text), tools=known.values())
            same = list(found.calls) == wanted if known else _untyped(found.calls) == _untyped(wanted)
            if not same or any(block.problem for block in found.blocks):
                names = ", ".join(call.tool for call in found.calls) or "no call"
                yield (
                    "calls not readable",
                    f"Turn {turn + 1} calls {', '.join(c.tool for c in wanted)}; what the template writes of "
                    f"it ({excerpt(text, 80)!r}) is read as {names}, or with other arguments.",
                )

    def _check_calls(self, row: Row) -> Iterator[_Fault]:
        known = self._known(row)
        for number, message in enumerate(row.messages, 1):
            if message["role"] != "assistant":
                continue
            if message.get("tool_calls") and self.form.code_tool is not None:
                what = f"Turn {number} has tool_calls, and in {self.form.name} calls are code in the content."
                yield "tool calls", what + " Set format=native."
                continue
            for call in calls_of(message):
                for kind, what in self._check_call(call, known):
                    yield kind, f"Turn {number}: {what}"
            content = message["content"]
            for block in self.form.parse(content, tools=known.values()).blocks:
                if block.problem:
                    start = excerpt(content[max(content.find("<"), 0) :])
                    what = f"Turn {number} has a tool-call block that cannot be read: {start}"
                    if self.form.code_tool is not None:
                        yield "malformed wrapper", what
                    else:
                        opening = next(iter(self.form.spellings.values()), "")
                        words = f" (its calls begin with {opening!r})" if opening else ""
                        yield "unreadable call", f"{what}{words}. Move the call to tool_calls."
                    continue
                for kind, what in self._check_block(Call(block.name or "", block.arguments), known):
                    yield kind, f"Turn {number}: {what}"

    def _check_block(self, call: Call, known: Mapping[str, Tool]) -> Iterator[_Fault]:
        code_tool = self.form.code_tool
        if code_tool is None:
            yield from self._check_call(call, known)
        elif call.tool == code_tool:
            yield from check_code(call.arguments["code"], known or TOOLS)
        else:
            what = f"a block calls '{call.tool}'; the only tool is {code_tool}."
            yield "unknown tool", what if call.tool in TOOLS else f"{what} Set format=native for other tools."

    def _check_call(self, call: Call, known: Mapping[str, Tool]) -> Iterator[_Fault]:
        if not known and not self.declared:
            yield "undeclared tool", f"nothing declares '{call.tool}'; its arguments are not checked."
        elif call.tool not in known:
            declared = ", ".join(list(known)[:10]) or "none; give the example tools, or set tools.path"
            yield "unknown tool", f"there is no tool '{call.tool}' (declared: {declared})."
        elif wrong := wrong_arguments(known[call.tool], call.arguments):
            yield "wrong arguments", f"{wrong}."


def _is_shown(description: str, text: str) -> bool:
    """Whether a rendering holds a description: as it is, as JSON, or broken up, word by word."""
    if description in text or json.dumps(description)[1:-1] in text:
        return True
    return all(word in text for word in _WORD.findall(description))


def _untyped(calls: Sequence[Call]) -> list[tuple[str, dict[str, str]]]:
    """Calls with their values as text, for tools of which no schema says the types."""
    values = [
        {key: each if isinstance(each, str) else json.dumps(each) for key, each in call.arguments.items()}
        for call in calls
    ]
    return [(call.tool, each) for call, each in zip(calls, values, strict=True)]


def calls_of(message: Mapping[str, object]) -> list[Call]:
    """The calls of a turn's ``tool_calls``."""
    listed = message.get("tool_calls")
    return [
        Call(each["function"]["name"], each["function"]["arguments"])
        for each in (listed if isinstance(listed, list) else [])
    ]


def _check_turns(row: Row, every: bool) -> Iterator[_Fault]:
    ids = set[str]()
    for number, message in enumerate(row.messages, 1):
        if not message["content"].strip() and not message.get("tool_calls"):
            if number == len(row.messages):
                yield "no supervised tokens", "The last response is empty, so there is nothing to learn."
            else:
                yield "empty turn", f"Turn {number} ({message['role']}) is empty."
        ids |= {call["id"] for call in message.get("tool_calls", ())}
        if message["role"] == "tool" and message.get("tool_call_id") not in ids:
            yield "stray result", f"Turn {number} is the result of no call before it."
        if message["role"] in ("system", "developer") and number > 1:
            yield "turn order", f"Turn {number} is a system turn; many templates take one only at the start."
    if row.messages and not row.turns(every=True):
        yield "no supervised tokens", "Every assistant turn has weight 0, so there is nothing to learn."
    elif row.messages and not row.turns(every=every):
        yield (
            "no supervised tokens",
            "The last response has weight 0; lora.supervise=all_turns learns the others.",
        )


def check_code(code: str, known: Mapping[str, Tool]) -> Iterator[_Fault]:
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
        if name not in known:
            if not hasattr(builtins, name):
                yield "unknown tool", f"the code calls '{name}', which is neither a tool nor defined in it."
            continue
        keywords = {each.arg: each.value for each in node.keywords}
        # What *args and **kwargs hold is known only when the code runs.
        if None not in keywords and not any(isinstance(each, ast.Starred) for each in node.args):
            try:
                known[name].bind(*node.args, **{str(key): value for key, value in keywords.items()})
            except TypeError as error:
                yield "wrong arguments", f"{error}."


def _defined(node: ast.AST) -> str | None:
    """The name that a node of the code defines, if it defines one."""
    if isinstance(node, ast.Name):
        return node.id if isinstance(node.ctx, ast.Store) else None
    if isinstance(node, ast.alias):
        return (node.asname or node.name).partition(".")[0]
    if isinstance(node, ast.arg):
        return node.arg
    return getattr(node, "name", None)  # of functions, classes, handlers and patterns
