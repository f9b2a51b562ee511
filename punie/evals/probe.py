"""Whether a server holds the expected model: its greedy answer against the one given in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from punie.evals.endpoint import Endpoint, Missing, Request

PROBE_TOKENS = 24
"""Longest answer that is compared, in tokens."""
TOLERANCE = 0.1
"""Most that the log-probability of a token may differ, in nats: more than another batch or kernel makes of
it in half precision, and less than another fine-tuning does where the answers happen to be the same."""


@dataclass(frozen=True)
class Verdict:
    """Whether the server was seen to hold the expected model."""

    verified: bool
    """Whether it gave the same token ids as the model in this process."""
    reason: str
    """What was compared and how it came out, in words."""


def probe(
    endpoint: Endpoint,
    prompt_text: str,
    prompt_ids: Sequence[int],
    expected_ids: Sequence[int],
    expected_logprobs: Sequence[float] | None = None,
) -> Verdict:
    """Compare a greedy answer of the server with the one that the expected model gives in this process.

    Args:
        endpoint: The server.
        prompt_text: A prompt as rendered.
        prompt_ids: The same prompt's tokens.
        expected_ids: The greedy answer to it in this process with ``max_tokens=PROBE_TOKENS``, no stop
            texts, and without the end token.
        expected_logprobs: The log-probability of each; compared where the server gives them, too.
    """
    from punie.model.generate import Sampling

    request = Request("identity probe", prompt_text, len(prompt_ids), PROBE_TOKENS)
    reply = endpoint.answer(request, Sampling(temperature=0.0))
    expected = list(expected_ids)
    if isinstance(reply, Missing):
        return Verdict(False, f"the identity probe got no reply: {reply.reason}")
    if reply.doubts:
        return Verdict(False, "; ".join(reply.doubts))
    if not expected:
        return Verdict(False, "the expected answer to the identity probe is empty, which tells nothing")
    if reply.tokens is None:
        outcome = "agree" if reply.text == endpoint.tokenizer.decode(expected) else "differ"
        return Verdict(False, f"the server gives no token ids; the texts of a greedy answer {outcome}")
    if reply.tokens != expected:
        return Verdict(
            False,
            f"the token ids of a greedy answer differ from position {_agreement(reply.tokens, expected)} on",
        )
    apart = _apart(reply.logprobs, expected_logprobs)
    if apart > TOLERANCE:
        return Verdict(False, f"the log-probabilities of a greedy answer differ by up to {apart:.2f} nats")
    return Verdict(True, f"all {len(expected)} token ids of a greedy answer agree")


def _apart(one: Sequence[float] | None, two: Sequence[float] | None) -> float:
    """The largest difference of two answers' log-probabilities; 0 where one has none."""
    return max((abs(a - b) for a, b in zip(one or (), two or (), strict=False)), default=0.0)


def _agreement(one: Sequence[int], two: Sequence[int]) -> int:
    """How many tokens two answers have in common at their beginning."""
    length = min(len(one), len(two))
    return next((index for index in range(length) if one[index] != two[index]), length)
