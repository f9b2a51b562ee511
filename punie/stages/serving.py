"""The answers of a server: mlx_lm.server started here, or an endpoint that the user names."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from punie.evals.endpoint import PROBE_TOKENS, Endpoint, probe
from punie.evals.replies import Reply, Request
from punie.evals.serve import Server
from punie.util.errors import PunieError

if TYPE_CHECKING:
    from punie.config.schema import ServerConfig
    from punie.model import generate


PROBES = 4
"""Prompts on which server and model are compared; on one alone, two models may well agree."""


def expected(loaded: Any, asked: Sequence[generate.Request]) -> list[generate.Answer]:
    """The greedy answers of the model in this process to some of the requests, as ``probe`` wants them."""
    from punie.model.generate import Request, Sampling, generate

    step = max(len(asked) // PROBES, 1)
    chosen = [Request(each.id, each.prompt, PROBE_TOKENS) for each in asked[::step][:PROBES]]
    greedy = Sampling(temperature=0.0)
    return generate(
        loaded.model, loaded.tokenizer, chosen, greedy, stop=(), batch_size=1, done=lambda _: None
    )


def answer(
    asked: Sequence[generate.Request],
    texts: Mapping[str, str],
    tokenizer: Any,
    probed: Sequence[generate.Answer],
    sampling: generate.Sampling,
    *,
    stop: Sequence[str],
    options: ServerConfig,
    own: contextlib.AbstractContextManager[Server],
    done: Callable[[int], None],
) -> tuple[list[Reply | str], str | None]:
    """Ask a server for every response: the one of ``options``, else ``own``, which is then started.

    ``texts`` are the rendered prompts by sample id; ``probed`` is what :func:`expected` gave for the model
    that the server is to hold.

    Returns:
        For each request the reply or why it is missing; and why the server may not hold the model, or None
        where its greedy answers were the model's, token for token.

    Raises:
        PunieError: No server answers, or not one answer arrived.
    """
    requests = [
        Request(each.id, texts[each.id.rpartition("#")[0]], len(each.prompt), each.max_tokens)
        for each in asked
    ]
    with contextlib.ExitStack() as open_:
        server = None if options.url else open_.enter_context(own)
        url, attempts = options.url or (server.url if server else ""), options.retries + 1
        endpoint = open_.enter_context(
            Endpoint(url, tokenizer, model=options.model, attempts=attempts, timeout=options.timeout)
        )
        prompts = {each.id: (text.prompt, each.prompt) for each, text in zip(asked, requests, strict=True)}
        differences = [probe(endpoint, *prompts[each.id], each.tokens, each.logprobs) for each in probed]
        answers: list[Reply | str] = []
        for request in requests:
            answers.append(endpoint.answer(request, sampling, stop=stop))
            done(len(answers))
        ended = server.ended() if server is not None else None
    if all(isinstance(each, str) for each in answers):
        step = "see what the server says"
        raise ended or PunieError("Not one answer arrived.", where=url, found=answers[0], next_step=step)
    doubts = dict.fromkeys(doubt for each in answers if isinstance(each, Reply) for doubt in each.doubts)
    reasons = [*dict.fromkeys(each for each in differences if each), *doubts]
    return answers, "; ".join(reasons) or None
