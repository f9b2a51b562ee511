"""What a completions endpoint sends back, checked and converted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from punie.util.jsonl import excerpt

_ENDINGS = {"stop": "stop", "length": "length", "tool_calls": "stop"}
"""Finish reasons of a complete response, and their names here; any other is a fault of the server."""


class Tokenizer(Protocol):
    """The part of mlx-lm's tokenizer wrapper that is needed."""

    @property
    def eos_token_ids(self) -> Collection[int]:
        """The tokens that end a response."""

    def decode(self, token_ids: Any) -> str:
        """The text of token ids."""


@dataclass(frozen=True)
class Request:
    """One response to ask for."""

    id: str
    """Sample id and repeat: with the evaluation's seed it decides the request's seed."""
    prompt: str
    """As the chat template renders it."""
    prompt_tokens: int
    """Number of its tokens, which the server should count too."""
    max_tokens: int
    """Longest response, in tokens."""


@dataclass(frozen=True)
class Reply:
    """One response from the server."""

    text: str
    """Without the stop text that ended it; decoded from the token ids if there are any, because
    mlx_lm.server removes tool calls and reasoning from the text it sends."""
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
    doubts: tuple[str, ...] = ()
    """Signs that the server does not hold the expected model, in words."""


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
) -> Reply:
    """The response in a reply.

    Args:
        reply: What the reply's JSON says.
        request: The request.
        tokenizer: Of the model that the server should hold.
        stop: Texts that end a response.
        model: The model name that was sent; None if there was none.
        seconds: Duration of the exchange.

    Raises:
        Fault: The reply does not hold a complete response.
    """
    if not isinstance(reply, dict):
        raise Fault(f"the reply is not an object: {excerpt(reply)}")
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Fault(f"the reply holds no choice: {excerpt(reply)}")
    choice, usage = choices[0], _object(reply, "usage")
    text, ending = choice.get("text"), choice.get("finish_reason")
    if not isinstance(text, str):
        raise Fault(f"the reply's choice holds no text: {excerpt(choice)}")
    if not isinstance(ending, str) or ending not in _ENDINGS:
        raise Fault(f"the response did not come to its end: finish_reason {excerpt(ending)}")
    tokens, logprobs = _tokens(choice, usage)
    if tokens and logprobs:
        if ending != "length" and tokens[-1] in tokenizer.eos_token_ids:
            tokens, logprobs = tokens[:-1], logprobs[:-1]
        decoded = tokenizer.decode(tokens)
        text = min((decoded.split(word, 1)[0] for word in stop), key=len, default=decoded)
    doubts = []
    if model is not None and (named := reply.get("model")) != model:
        doubts.append(f"the reply names the model {excerpt(named)} where {excerpt(model)} was asked for")
    counted = _count(usage, "prompt_tokens")
    if counted not in (None, request.prompt_tokens):
        doubts.append(f"the server read {counted} prompt tokens where {request.prompt_tokens} were sent")
    return Reply(
        text=text,
        tokens=tokens,
        logprobs=logprobs,
        finish_reason=_ENDINGS[ending],
        completion_tokens=_count(usage, "completion_tokens"),
        seconds=seconds,
        doubts=tuple(doubts),
    )


def _tokens(
    choice: Mapping[str, Any], usage: Mapping[str, Any]
) -> tuple[list[int], list[float]] | tuple[None, None]:
    """Token ids and log-probabilities as mlx_lm.server gives them; None if there are none."""
    content = _object(choice, "logprobs").get("content")
    if not isinstance(content, list) or not content:
        return None, None
    if not all(isinstance(each, dict) and _is_id(each.get("id")) for each in content):
        return None, None
    if not all(isinstance(each.get("logprob"), int | float) for each in content):
        raise Fault("a token in the reply has no log-probability")
    if len(content) != usage.get("completion_tokens", len(content)):
        raise Fault(f"{len(content)} token ids in the reply, whose usage is {excerpt(usage)}")
    return [each["id"] for each in content], [float(each["logprob"]) for each in content]


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**32


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if type(value) is int else None


def _object(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object under a key; empty if there is none."""
    value = holder.get(name)
    return value if isinstance(value, dict) else {}
