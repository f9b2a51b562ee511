"""The answers of a server: mlx_lm.server started here, or an endpoint that the user names."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.evals.endpoint import Endpoint
from punie.evals.probe import PROBE_TOKENS, probe
from punie.evals.replies import Reply, Request
from punie.evals.serve import Server, serve
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
    start: Callable[[], contextlib.AbstractContextManager[Server]],
    done: Callable[[int], None],
) -> tuple[list[Reply | str], str | None]:
    """Ask a server for every answer.

    Args:
        asked: The requests.
        texts: By sample id, the prompt as rendered.
        tokenizer: Of the model that the server is to hold.
        probed: That model's :func:`expected` answers.
        sampling: How to draw.
        stop: Texts that end an answer.
        options: Where the server is, and how long to try.
        start: Starts one where ``options`` names none; ``evals.serve.serve`` with its arguments.
        done: Called with the number of requests that are over.

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
        server, url = None, options.url
        if url is None:
            server = open_.enter_context(start())
            url = server.url
        attempts = options.retries + 1
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
        raise ended or PunieError(
            "Not one answer arrived.", where=url, found=answers[0], next_step="see what the server says"
        )
    doubts = dict.fromkeys(doubt for each in answers if isinstance(each, Reply) for doubt in each.doubts)
    reasons = [*dict.fromkeys(each for each in differences if each), *doubts]
    return answers, "; ".join(reasons) or None


def started(
    folder: Path, adapter: Path | None, out: Path, **options: Any
) -> Callable[[], contextlib.AbstractContextManager[Server]]:
    """What starts mlx_lm.server for a model, its log in ``out``."""
    return lambda: serve(folder, adapter=adapter, log=out / "server.log", **options)
