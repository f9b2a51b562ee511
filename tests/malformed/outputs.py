"""Surfaces: what a model writes, parsed and scored, and run in the sandbox; what a server sends back."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import json
import random
from pathlib import Path
from typing import Any, get_args

from punie.evals.replies import Fault, Request, read
from punie.evals.sandbox import Execution, Limits, Outcome, Sandbox
from punie.evals.scorers import keyword, strict, taxonomy
from punie.evals.suite import Expectation, Sample, load_suite
from punie.evals.transport import Received
from punie.formats import Call
from punie.formats.chat import Conversation
from punie.formats.code_mode import FORMAT, parse, wrap
from punie.results import scoring as record
from punie.util.paths import resource
from tests.malformed.mutation import ODD, damaged, nearly
from tests.malformed.surface import Surface
from tests.unit.formats.templates import TEMPLATES, TOOLS, by_template, turn

SUITE = load_suite(resource("data/suites/core27.jsonl"))
CODES = (
    "print(git_status(path='src').files)", "for path in ['a', 'b']:\n    read_file(path)",
    "x = [0] * 10**9", "def f(): return f()\nf()", "while True: pass", "open('here', 'w').write('x')",
    "import os\nos.system('true')", "read_file(path=['a'] * 30_000)",
    "x = []\nx.append(x)\nread_file(path=x)",
    "print('</parameter>')", "git_log(count=10**400)", "raise SystemExit(1)",
    "y = '\\ud800'\nread_file(path=y)",
)  # fmt: skip
ODD_WORDS = (
    *("<tool_call>", "</tool_call>", "<function=", "</parameter>", "<think>", "</think>"),
    *("\n" * 50, "\\ud800"),
)
ODD_VALUES = tuple(each.encode() for each in ODD.values() if len(each) < 1_000)
CALLS = (
    Call("git_status", {"path": "src"}),
    Call("read_file", {"path": ["a", "…"]}),
    Call("git_log", {"count": 5}),
)


def output(rng: random.Random) -> str:
    """An answer in either spelling, its JSON nearly right, its text damaged most of the time."""
    code = rng.choice(CODES)
    if rng.random() < 0.5:
        text = wrap(code)
    else:
        call = {"name": "execute_code", "arguments": {"code": code}}
        text = f"<tool_call>\n{nearly(rng, call)}\n</tool_call>"
    if rng.random() < 0.2:
        prose = ("I would call git_status(path='src').", "<think>hm</think>", "<think>hm", text)
        text = rng.choice(prose) + text
    if rng.random() < 0.6:
        content = damaged(rng, text.encode("utf-8", "replace"), (wrap(code).encode(),))
        text = content.decode("utf-8", "replace")
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(("", *ODD_WORDS)) + text[at:]


@functools.cache
def _written(name: str) -> str:
    """A response of two calls by a template of the tests of formats; one where it takes no more."""
    made = [Call("get_weather", {"city": "Rome", "days": 3, "tags": ["a"]}), Call("math.add", {"a": 1.5})]
    talk = [{"role": "user", "content": "?"}, turn(*made[: 1 if name == "object without a mark" else 2])]
    return by_template(name).answer(Conversation(talk, TOOLS), 1)


def native(rng: random.Random) -> tuple[str, str]:
    """A template's name, and a response in its spelling or another's, damaged most of the time."""
    name = rng.choice(list(TEMPLATES))
    text = _written(name if rng.random() < 0.9 else rng.choice(list(TEMPLATES)))
    if rng.random() < 0.3:
        text = (
            rng.choice(("It rains.\n", "<think>hm</think>", "<think>hm", text, text[: len(text) // 2])) + text
        )
    if rng.random() < 0.8:
        others = _written(rng.choice(list(TEMPLATES))).encode(), *ODD_VALUES
        text = damaged(rng, text.encode(), others).decode("utf-8", "replace")
    at = rng.randrange(len(text) + 1)
    return name, text[:at] + rng.choice(("", *ODD_WORDS)) + text[at:]


def _native(given: tuple[str, str], _folder: Path) -> None:
    name, text = given
    expect = (Expectation("get_weather", {"city": "Rome"}),) * (len(text) % 2)
    sample = Sample("own", "weather", "?", expect, tools=tuple(TOOLS))
    form = by_template(name).format
    found = record.scored(form, sample, text, truncated=len(text) % 3 == 0, sandbox=_sandbox())
    json.dumps(found, ensure_ascii=False, allow_nan=False).encode()


def _score(text: str, _folder: Path) -> None:
    sample = SUITE[len(text) % len(SUITE)]
    completion = parse(text, truncated=len(text) % 2 == 0)
    outcomes = get_args(Outcome)
    execution = None
    if completion.code is not None:
        execution = Execution(CALLS[: len(text) % 4], outcomes[len(text) % len(outcomes)], "words")
    scores = keyword(sample, completion), strict(sample, completion, execution)
    taxonomy(sample, completion, execution)
    if not all(0 <= score.value <= 1 for score in scores):
        raise AssertionError(f"a score that is no share of 1: {scores}")


@functools.cache
def _sandbox() -> Sandbox:
    sandbox = Sandbox(Limits(duration=0.1)).__enter__()
    atexit.register(sandbox.__exit__, None, None, None)
    return sandbox


def _run(text: str, _folder: Path) -> None:
    sample = SUITE[len(text) % len(SUITE)]
    found = record.scored(FORMAT, sample, text, truncated=len(text) % 2 == 0, sandbox=_sandbox())
    json.dumps(found, ensure_ascii=False, allow_nan=False).encode()


class Letters:
    """A tokenizer whose tokens are letters."""

    eos_token_ids = frozenset({0})

    def decode(self, token_ids: Any) -> str:
        """Letters of the ids, modulo the number of those there are."""
        return "".join(chr(token % 0xD800) for token in token_ids)


_CALL = {"id": "c", "type": "function",
         "function": {"name": "execute_code", "arguments": '{"code": "git_status()"}'}}  # fmt: skip
CHOICES: tuple[dict[str, Any], ...] = (
    {"text": "words", "logprobs": {"content": [{"id": 65, "logprob": -0.5}, {"id": 0, "logprob": -1}]}},
    {"text": "", "token_ids": [65, 0], "logprobs": {"tokens": ["A", ""], "token_logprobs": [-0.5, -1]}},
    {"text": "", "tool_calls": [_CALL], "reasoning_content": "hm"},
    {"message": {"role": "assistant", "content": None, "tool_calls": [_CALL, _CALL], "reasoning": "hm"}},
    {
        "message": {
            "content": [{"type": "text", "text": wrap("git_status()")}],
            "function_call": {"name": "f"},
        }
    },
)
"""Choices of the replies of mlx_lm.server, vLLM and others, by both APIs."""


def reply(rng: random.Random) -> bytes:
    """The body of a server's reply, or of its refusal."""
    usage = {"prompt_tokens": 6, "completion_tokens": 2, "total_tokens": 8}
    choice = {
        "index": 0,
        "finish_reason": rng.choice(("stop", "length", "tool_calls")),
        **rng.choice(CHOICES),
    }
    whole = {"object": "text_completion", "model": "default_model", "choices": [choice], "usage": usage}
    if rng.random() < 0.1:
        whole = {"error": {"message": "the model is loading", "code": 503}}
    content = nearly(rng, whole, 3).encode("utf-8", "replace")
    return damaged(rng, content) if rng.random() < 0.2 else content


def _reply(content: bytes, _folder: Path) -> None:
    received = Received(503, {"retry-after": content[:40].decode("latin-1")}, content, "http://host")
    json.dumps([received.words, received.retry_after], ensure_ascii=False, allow_nan=False).encode()
    try:  # as the endpoint does ahead of ``read``
        parsed = json.loads(content)
        json.dumps(parsed, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise Fault("the reply is not JSON") from None
    request = Request("git-01#0", "words", 6, 96)
    found = read(parsed, request, Letters(), stop=("b",), model="m", seconds=0.1)
    scored = record.scored(
        FORMAT, SUITE[0], found.text, truncated=found.finish_reason == "length", sandbox=_sandbox(),
        sent=found.calls,
    )  # fmt: skip
    whole = [dataclasses.asdict(found), scored]
    json.dumps(whole, ensure_ascii=False, allow_nan=False).encode()


SURFACES = (
    Surface("model output", output, _score, 9),
    Surface("model output, run", output, _run, 1),
    Surface("native model output", native, _native, 4),
    Surface("server replies", reply, _reply, 4, refusals=(Fault,)),
)
