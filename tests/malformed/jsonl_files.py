"""Surfaces: files of JSON lines that people write or hand on: training data, suites, recorded responses."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from punie.data.load import load_rows
from punie.data.rows import Check
from punie.data.validate import check
from punie.evals.scorers import keyword, returned, taxonomy
from punie.evals.suite import load_suite
from punie.formats import Block, Call, Completion
from punie.formats.code_mode import FORMAT
from punie.results.files import read_samples
from punie.results.scoring import summary
from punie.util.paths import resource
from tests.malformed.mutation import as_json, damaged, nearly
from tests.malformed.surface import Surface
from tests.unit.formats.templates import by_template

RECORD: dict[str, Any] = {
    "id": "git-01", "repeat": 0, "category": "git", "prompt": "What has changed?", "prompt_sha256": "a" * 64,
    "prompt_tokens": 7, "expect": [{"tool": "git_status", "arguments": {"path": "."}}], "match": "any",
    "missing": None, "output": "<tool_call>…</tool_call>", "tokens": [1, 2, 3], "logprobs": [-0.5, -0.25,
    0.0],
    "finish_reason": "stop", "seconds": 0.5, "wrapper": True, "opening": "xml",
    "blocks": [{"name": "execute_code", "problem": None}],
    "calls": [{"tool": "git_status", "arguments": {"path": "."}}], "execution": "ok",
    "scores": {"keyword": {"value": 1.0, "reason": "words"}, "strict": {"value": 1.0, "reason": "correct"}},
    "taxonomy": "correct",
}  # fmt: skip
TURNS: dict[str, Any] = {
    **RECORD, "turn": 2, "turns": 3,
    "earlier": [{**RECORD, "results": ["src/app.py"], "reply": "One file."}],
}  # fmt: skip
ROW: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "You are Punie."},
        {"role": "user", "content": "What has changed?"},
        {"role": "assistant", "content": "<tool_call>\n<function=execute_code>\n<parameter=code>\n"
         "print(git_status(path='src').files)\n</parameter>\n</function>\n</tool_call>"},
    ]
}  # fmt: skip
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather", "description": "The weather of a city.",
        "parameters": {
            "type": "object", "required": ["city"],
            "properties": {
                "city": {"type": "string", "enum": ["Rome", "Oslo"]},
                "days": {"type": "array", "items": {"type": "integer", "minimum": 1}, "default": [1]},
                "more": {"anyOf": [{"$ref": "#/$defs/unit"}, {"type": "null"}]},
            },
            "$defs": {"unit": {"type": "object", "properties": {"unit": {"pattern": "^[CF]$"}}}},
        },
    },
}  # fmt: skip
CALL: dict[str, Any] = {
    "id": "c1", "type": "function",
    "function": {"name": "weather", "arguments": {"city": "Rome", "days": [1], "more": {"unit": "C"}}},
}  # fmt: skip
TALK: list[dict[str, Any]] = [
    {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
    {"role": "user", "content": "Weather?", "name": "ann"},
    {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "Easy.", "weight": 0},
    {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": "Sunny."},
]  # fmt: skip
OLD = {"name": "weather", "arguments": '{"city": "Oslo"}'}
NATIVE_ROW: dict[str, Any] = {
    "system": "S", "tools": [TOOL], "chat_template_kwargs": {"enable_thinking": False},
    "messages": [*TALK, {"role": "assistant", "content": "", "function_call": OLD, "train": True}],
}  # fmt: skip
PAIR: dict[str, Any] = {"tools": json.dumps([TOOL]), "prompt": TALK, "completion": "Sunny."}
ITEM: dict[str, Any] = {
    "id": "lsp-01", "category": "lsp", "prompt": "Where is main?", "match": "in_order", "max_tokens": 96,
    "expect": [{"tool": "goto_definition", "arguments": {"file": "src/app.py", "line": 3}},
               {"tool": "run_command", "arguments": {"command": "ls", "args": ["-l"]}}],
}  # fmt: skip
NATIVE_ITEM: dict[str, Any] = {
    "id": "own-01", "category": "weather", "messages": TALK, "tools": [TOOL],
    "match": "exactly",
    "expect": [{"tool": "weather", "arguments": {"city": {"any_of": ["Rome", "Oslo"]},
                "days": {"any_of": [[1]], "optional": True}}}],
}  # fmt: skip
TURNS_ITEM: dict[str, Any] = {
    "id": "talk-01", "category": "git", "tools": [TOOL],
    "turns": [
        {"messages": TALK, "expect": [{"tool": "weather", "arguments": {"city": "Rome"}}], "match": "all",
         "results": [{"tool": "weather", "content": "Sunny."}], "reply": "It is sunny."},
        {"prompt": "And in Oslo?", "expect": [{"tool": "weather"}], "max_tokens": 96},
    ],
}  # fmt: skip


@functools.cache
def lines(name: str) -> tuple[bytes, ...]:
    """The lines of one of punie's own files."""
    return tuple(resource(name).read_bytes().splitlines(keepends=True))


def jsonl(rights: Sequence[dict[str, Any]], *names: str) -> Callable[[random.Random], bytes]:
    """Makes files of a few lines: nearly right ones, or lines of real files that were damaged.

    Args:
        rights: Right lines of several kinds; a file has one kind.
        names: Real files; without any, the right lines serve.
    """

    def make(rng: random.Random) -> bytes:
        right = rng.choice(rights)
        if rng.random() < 0.6:
            text = "".join(
                nearly(rng, {**right, **({"id": f"{number}"} if "id" in right else {})}) + "\n"
                for number in range(rng.randint(1, 3))
            )
            content = text.encode("utf-8", "surrogatepass" if rng.random() < 0.5 else "replace")
            return damaged(rng, content) if rng.random() < 0.1 else content
        real: Sequence[bytes] = (as_json(right).encode() + b"\n",) * 3
        if names:
            real = lines(rng.choice(names))
        begin = rng.randrange(len(real))
        return damaged(rng, b"".join(real[begin : begin + rng.randint(1, 4)]), real)

    return make


def _train(content: bytes, folder: Path) -> None:
    path = folder / "train.jsonl"
    path.write_bytes(content)
    for row in load_rows(path):
        "".join(f"{message['role']}: {message['content']}" for message in row.messages).encode()


@functools.cache
def _native() -> Check:
    chat = by_template("tagged")
    return Check(chat.format, chat)


def _check(content: bytes, folder: Path) -> None:
    path = folder / "train.jsonl"
    path.write_bytes(content)
    suites = {"core": {"git-01": "What has changed?"}}
    for checks in (Check(FORMAT), _native()):
        check(folder, checks, suites=suites).render().encode("utf-8", "replace")


def _suite(content: bytes, folder: Path) -> None:
    path = folder / "suite.jsonl"
    path.write_bytes(content)
    for sample in (turn for item in load_suite(path) for turn in item.turns):
        json.dumps(
            [sample.id, sample.prompt, [each.arguments for each in sample.expect]], ensure_ascii=False
        ).encode()
        for score in (keyword, taxonomy):
            score(sample, Completion("…", (Block("weather", {"city": "Rome"}),), has_block=True), None)
        if sample.results:
            returned(sample, [Call("weather", {"city": "Rome"})])


def _records(content: bytes, folder: Path) -> None:
    path = folder / "samples.jsonl"
    path.write_bytes(content)
    samples = read_samples(path)
    if any(sample.answered for sample in samples):
        summary(samples)


ROWS = (ROW, NATIVE_ROW, PAIR)
SPLITS = ("data/code_mode/train.jsonl", "data/code_mode/valid.jsonl")
SUITES = ("data/suites/core27.jsonl", "data/suites/wide270.jsonl", "data/suites/turns12.jsonl")
SURFACES = (
    Surface("training data", jsonl(ROWS, *SPLITS), _train, 6),
    Surface("data check", jsonl(ROWS, *SPLITS), _check, 2),
    Surface("suites", jsonl((ITEM, NATIVE_ITEM, TURNS_ITEM), *SUITES), _suite, 6),
    Surface("recorded responses", jsonl((RECORD, TURNS)), _records, 6),
)
