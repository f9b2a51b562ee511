"""What a completions endpoint sends back, checked and put into punie's terms."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from punie.util.jsonl import excerpt

_ENDINGS = {"stop": "stop", "length": "length", "tool_calls": "stop"}
"""Finish reasons of a whole answer, and what they are called here; any other is a fault of the server."""


class Tokenizer(Protocol):
    """What is needed of mlx-lm's tokenizer wrapper."""

    @property
    def eos_token_ids(self) -> Collection[int]:
        """The tokens that end an answer."""

    def decode(self, token_ids: Any) -> str:
        """The text of token ids."""


@dataclass(frozen=True)
class Request:
    """One answer to ask for."""

    id: str
    """Sample id and repeat: with the evaluation's seed it decides the request's seed."""
    prompt: str
    """As the chat template renders it."""
    prompt_tokens: int
    """How many tokens the prompt is, to see that the server reads as many."""
    max_tokens: int
    """Longest answer, in tokens."""


@dataclass(frozen=True)
class Reply:
    """One answer from the server."""

    id: str
    """The request's."""
    text: str
    """Without the stop text that ended it; decoded from the token ids where there are any, since
    mlx_lm.server takes tool calls and reasoning out of the text it sends."""
    tokens: list[int] | None
    """Generated ids, without the end token; None if the server does not give them."""
    logprobs: list[float] | None
    """Log-probability of each token; None if the server does not give them."""
    finish_reason: str
    """``stop`` or ``length``."""
    completion_tokens: int | None
    """As the server counts them, the end token included; None if it does not."""
    seconds: float
    """From sending the request to the end of the reply."""
    model: str | None
    """The model that the reply names. mlx_lm.server repeats what was asked for, whatever it serves."""
    attempts: int
    """How often it was asked for."""
    doubts: tuple[str, ...] = ()
    """What speaks against the server holding the expected model, in words."""


class Fault(Exception):
    """A reply that cannot be used; the message says why."""


def read(
    reply: object,
    request: Request,
    tokenizer: Tokenizer,
    *,
    stop: Sequence[str],
    model: str | None,
    seconds: float,
    attempts: int,
) -> Reply:
    """The answer in a reply.

    Args:
        reply: What the reply's JSON says.
        request: What was asked for.
        tokenizer: Of the model that the server is expected to hold.
        stop: Texts that end an answer.
        model: The name that was asked for; None if there was none.
        seconds: What the exchange took.
        attempts: How often it was asked for.

    Raises:
        Fault: The reply does not hold a whole answer.
    """
    if not isinstance(reply, dict):
        raise Fault(f"the reply is not an object: {excerpt(reply)}")
    choice = _choice(reply)
    usage = reply["usage"] if isinstance(reply.get("usage"), dict) else {}
    text, tokens, logprobs = choice["text"], None, None
    if pairs := _pairs(choice, usage):
        if choice["finish_reason"] != "length" and pairs[-1][0] in tokenizer.eos_token_ids:
            pairs.pop()
        tokens, logprobs = [token for token, _ in pairs], [logprob for _, logprob in pairs]
        decoded = tokenizer.decode(tokens)
        text = min((decoded.split(word, 1)[0] for word in stop), key=len, default=decoded)
    named = reply.get("model")
    return Reply(
        id=request.id,
        text=text,
        tokens=tokens,
        logprobs=logprobs,
        finish_reason=_ENDINGS[choice["finish_reason"]],
        completion_tokens=_count(usage, "completion_tokens"),
        seconds=seconds,
        model=named if isinstance(named, str) else None,
        attempts=attempts,
        doubts=tuple(_doubts(model, named, request.prompt_tokens, _count(usage, "prompt_tokens"))),
    )


def _doubts(model: str | None, named: object, sent: int, counted: int | None) -> Iterator[str]:
    if model is not None and named != model:
        yield f"the reply names the model {excerpt(named)} where {excerpt(model)} was asked for"
    if counted is not None and counted != sent:
        yield f"the server read {counted} prompt tokens where {sent} were sent"


def _choice(reply: dict[str, Any]) -> dict[str, Any]:
    """The reply's one choice, with a text and a known finish reason."""
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Fault(f"the reply holds no choice: {excerpt(reply)}")
    choice = choices[0]
    if not isinstance(choice.get("text"), str):
        raise Fault(f"the reply's choice holds no text: {excerpt(choice)}")
    ending = choice.get("finish_reason")
    if not isinstance(ending, str) or ending not in _ENDINGS:
        raise Fault(f"the answer did not come to its end: finish_reason {excerpt(ending)}")
    return choice


def _pairs(choice: dict[str, Any], usage: dict[str, Any]) -> list[tuple[int, float]] | None:
    """Token ids with log-probabilities as mlx_lm.server gives them; None if there are none."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list) or not content:
        return None
    if not all(isinstance(each, dict) and _is_id(each.get("id")) for each in content):
        return None
    if not all(isinstance(each.get("logprob"), int | float) for each in content):
        raise Fault("a token in the reply has no log-probability")
    if len(content) != usage.get("completion_tokens", len(content)):
        raise Fault(f"{len(content)} token ids in the reply, whose usage is {excerpt(usage)}")
    return [(each["id"], float(each["logprob"])) for each in content]


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**32


def _count(usage: dict[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if type(value) is int else None
