"""Checks whether a server holds the expected model, by comparing its greedy response with this process's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from punie.evals.endpoint import Endpoint
from punie.evals.replies import Request

PROBE_TOKENS = 24
"""Longest response that is compared, in tokens."""
TOLERANCE = 0.1
"""Largest difference of a token's log-probability, in nats: more than another batch size or kernel causes in
half precision, and less than another fine-tuning does where the tokens happen to be the same."""


def probe(
    endpoint: Endpoint,
    prompt_text: str,
    prompt_ids: Sequence[int],
    expected_ids: Sequence[int],
    expected_logprobs: Sequence[float] | None = None,
) -> str | None:
    """Compare a greedy response of the server with the one that the expected model gives in this process.

    Args:
        endpoint: The server.
        prompt_text: A prompt as rendered.
        prompt_ids: The same prompt's tokens.
        expected_ids: The greedy response to it in this process with ``max_tokens=PROBE_TOKENS``, no stop
            texts, and without the end token.
        expected_logprobs: The log-probability of each; compared if the server gives them, too.

    Returns:
        Why the server may not hold that model; None if it gave the same token ids.
    """
    from punie.model.generate import Sampling

    request = Request("identity probe", prompt_text, len(prompt_ids), PROBE_TOKENS)
    reply = endpoint.answer(request, Sampling(temperature=0.0))
    expected = list(expected_ids)
    if isinstance(reply, str):
        return f"the identity probe got no reply: {reply}"
    if reply.doubts:
        return "; ".join(reply.doubts)
    if not expected:
        return "the expected response to the identity probe is empty, so nothing is compared"
    if reply.tokens is None:
        outcome = "agree" if reply.text == endpoint.tokenizer.decode(expected) else "differ"
        return f"the server gives no token ids; the texts of a greedy response {outcome}"
    if reply.tokens != expected:
        pairs = zip(reply.tokens, expected, strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return f"the token ids of a greedy response differ from position {same} on"
    logprobs = zip(reply.logprobs or (), expected_logprobs or (), strict=False)
    apart = max((abs(one - other) for one, other in logprobs), default=0.0)
    if apart > TOLERANCE:
        return f"the log-probabilities of a greedy response differ by up to {apart:.2f} nats"
    return None
