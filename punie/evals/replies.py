"""What an OpenAI-compatible server sends back, checked and converted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from punie.util.jsonl import excerpt
from punie.util.plain import parse_json

_ENDINGS = {
    **dict.fromkeys(("stop", "tool_calls", "function_call", "eos", "eos_token", "stop_sequence"), "stop"),
    **dict.fromkeys(("length", "max_tokens"), "length"),
}
"""Finish reasons of a complete response, and their names here; any other is a fault of the server."""
MAX_REPLY = 8 * 2**20
"""Longest reply that is read, in bytes."""
_LONGEST_TEXT = MAX_REPLY // 2
"""Longest text with its calls, as JSON: a record, which holds it up to three times, stays readable."""
_BASE_BYTES, _TOKEN_BYTES = 2**16, 2**10
"""Bytes of a reply besides what was generated, and most bytes of a token with its log-probability."""
_LONGEST_TOKEN = 512
"""Most characters of a token of any vocabulary."""
_LARGEST_COUNT = 2**31
_LOWEST, _HIGHEST = -1e6, 0.01
"""Log-probabilities that can be: half precision rounds some above 0."""
_REMEDY = "start the server without its parser of calls and thoughts, or try the other eval.server.api"


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
    chat: Mapping[str, Any] | None = None
    """What the chat API is sent in place of the prompt: messages, tools and the template's options."""

    @property
    def longest_reply(self) -> int:
        """Most bytes that a reply can have; some servers repeat the prompt in it."""
        return min(MAX_REPLY, _BASE_BYTES + 2 * len(self.prompt.encode()) + _TOKEN_BYTES * self.max_tokens)


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
    calls: tuple[Mapping[str, Any], ...] = ()
    """Calls that stand beside the text, as :meth:`punie.formats.Completion.joined` takes them."""
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
        raise Fault(f"the reply holds no choice: {excerpt(reply, 300)}")
    choice, usage = choices[0], _object(reply, "usage")
    counts = {name: _count(usage, name) for name in ("prompt_tokens", "completion_tokens")}
    given = choice.get("finish_reason")
    ending = _ENDINGS.get(given) if isinstance(given, str) else None
    if ending is None:
        raise Fault(f"the response did not come to its end: finish_reason {excerpt(given)}")
    calls: tuple[Mapping[str, Any], ...] = ()
    tokens, logprobs = _tokens(choice, counts["completion_tokens"])
    if tokens is not None:
        if tokens and ending != "length" and tokens[-1] in tokenizer.eos_token_ids:
            tokens, logprobs = tokens[:-1], logprobs and logprobs[:-1]
        text = _cut(tokenizer.decode(tokens), stop)
    else:
        # Some servers leave the end token in the text, and what they generated after it.
        ends = filter(str.strip, (tokenizer.decode([each]) for each in tokenizer.eos_token_ids))
        text, calls = _parts(choice, ending, counts["completion_tokens"], [*stop, *ends], stop)
    if len(text) > _LONGEST_TOKEN * request.max_tokens or _size([text, *calls]) > _LONGEST_TEXT:
        raise Fault(f"the text has {len(text):,} characters, but {request.max_tokens} tokens were asked for")
    doubts = []
    if model is not None and (named := reply.get("model")) != model:
        doubts.append(f"the reply names the model {excerpt(named)} where {excerpt(model)} was asked for")
    if (counted := counts["prompt_tokens"]) not in (None, request.prompt_tokens):
        doubts.append(f"the server read {counted} prompt tokens where {request.prompt_tokens} were sent")
    return Reply(
        text=text,
        tokens=tokens,
        logprobs=logprobs,
        finish_reason=ending,
        completion_tokens=counts["completion_tokens"],
        seconds=seconds,
        calls=calls,
        doubts=tuple(doubts),
    )


def _parts(
    choice: Mapping[str, Any], ending: str, count: int | None, ends: Sequence[str], stop: Sequence[str]
) -> tuple[str, tuple[Mapping[str, Any], ...]]:
    """The text and the calls of a choice without token ids.

    A thought that the server has taken out of the text is put in front of it again.
    """
    message = _object(choice, "message")
    text = next((each for each in (choice.get("text"), message.get("content")) if each is not None), None)
    if isinstance(text, list) and all(isinstance(each, dict) for each in text):
        text = "".join(part for each in text if isinstance(part := each.get("text"), str))
    calls = _calls(message) or _calls(choice)
    names = ("reasoning_content", "reasoning")
    thoughts = [holder.get(name) for holder in (message, choice) for name in names]
    thought = next((each for each in thoughts if isinstance(each, str) and each.strip()), "")
    if not isinstance(text, str | None) or (text is None and not calls and not thought and not message):
        raise Fault(f"the reply's choice holds no text: {excerpt(choice)}")
    text = text or ""
    if thought and not calls and not text.strip():
        if ending == "length":
            return f"<think>\n{thought}", ()
        raise Fault(f"the text is empty beside a thought of {len(thought)} characters; {_REMEDY}")
    # A token is a byte of the text or more, but for the end token, the stop text, and white space or an empty
    # thought that a server has taken off.
    most = len(text.encode()) + max(map(len, stop), default=0) + (8 if text.strip() else 1)
    if not calls and not thought and (not text.strip() if count is None else count > most):
        number = "an unknown number of" if count is None else count
        raise Fault(f"the text has {len(text)} characters, but {number} tokens were generated; {_REMEDY}")
    text = _cut(text, ends)
    return (f"<think>\n{thought}\n</think>\n\n{text}" if thought else text), calls


def _calls(holder: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The calls beside a text: a name, and arguments as an object or as text that is no object's JSON."""
    listed = holder.get("tool_calls") or ([holder["function_call"]] if holder.get("function_call") else [])
    if not isinstance(listed, list):
        raise Fault(f"the calls in the reply are not a list: {excerpt(listed)}")
    found = []
    for each in listed:
        function = each.get("function", each) if isinstance(each, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str):
            raise Fault(f"a call in the reply has no name: {excerpt(each)}")
        arguments = function.get("arguments") or {}
        if isinstance(arguments, str):
            with contextlib.suppress(ValueError):
                value = parse_json(arguments)
                json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
                arguments = value if isinstance(value, dict) else arguments
        elif not isinstance(arguments, dict):
            raise Fault(f"the arguments of a call in the reply are no object: {excerpt(arguments)}")
        found.append({"name": name, "arguments": arguments})
    return tuple(found)


def _tokens(choice: Mapping[str, Any], count: int | None) -> tuple[list[int] | None, list[float] | None]:
    """Token ids and log-probabilities as mlx_lm.server, llama.cpp or vLLM gives them; None without ids."""
    held, given = _object(choice, "logprobs"), choice.get("token_ids")
    content = held.get("content")
    entries = (
        [each if isinstance(each, dict) else {} for each in content] if isinstance(content, list) else []
    )
    ids: list[Any] = given if isinstance(given, list) and given else [each.get("id") for each in entries]
    if not ids or not all(map(_is_id, ids)):
        return None, None
    values: Any = [each.get("logprob") for each in entries] or held.get("token_logprobs")
    if values is not None:
        if not isinstance(values, list) or not all(isinstance(each, int | float) for each in values):
            raise Fault("a token in the reply has no log-probability")
        wrong = next((each for each in values if not _LOWEST <= each <= _HIGHEST), None)
        if wrong is not None:
            raise Fault(f"a log-probability in the reply cannot be: {excerpt(wrong)}")
    if count not in (None, len(ids)) or (values is not None and len(values) != len(ids)):
        raise Fault(f"{len(ids)} token ids in the reply, whose usage counts {count} tokens")
    return ids, None if values is None else [float(each) for each in values]


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value < _LARGEST_COUNT


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    if type(value) not in (int, float):
        return None
    if type(value) is int and 0 <= value < _LARGEST_COUNT:
        return value
    raise Fault(f"a number in the reply cannot be: {name} {excerpt(value)}")


def _cut(text: str, ends: Iterable[str]) -> str:
    """A text up to the first of some others."""
    return min((text.split(end, 1)[0] for end in ends), key=len, default=text)


def _size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())


def _object(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object under a key; empty if there is none."""
    value = holder.get(name)
    return value if isinstance(value, dict) else {}
