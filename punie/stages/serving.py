"""The answers of a server: mlx_lm.server started here, or an endpoint that the user names."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from punie.evals.endpoint import PROBE_TOKENS, Endpoint, probe
from punie.evals.replies import Reply, Request
from punie.evals.serve import Server
from punie.evals.transport import api_key
from punie.util.errors import PunieError

if TYPE_CHECKING:
    from punie.config.schema import ServerConfig
    from punie.model import generate


PROBES = 4
"""Prompts on which server and model are compared; on one alone, two models may well agree."""


@dataclass(frozen=True)
class Served:
    """What a server gave."""

    answers: Sequence[Reply | str]
    """For each request the reply, or why it is missing."""
    unverified: str | None
    """Why the server may not hold the model; None where its greedy answers were the model's."""
    notes: tuple[str, ...]
    """What it was asked otherwise than the config says."""


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
    asked: Sequence[Request],
    tokenizer: Any,
    probed: Sequence[generate.Answer],
    sampling: generate.Sampling,
    *,
    stop: Sequence[str],
    options: ServerConfig,
    own: contextlib.AbstractContextManager[Server],
    done: Callable[[int], None],
) -> Served:
    """Ask a server for every response: the one of ``options``, else ``own``, which is then started.

    ``probed`` is what :func:`expected` gave for the model that the server is to hold.

    Raises:
        PunieError: No server answers, it refuses the requests, or not one response arrived.
    """
    with contextlib.ExitStack() as open_:
        server = None if options.url else open_.enter_context(own)
        endpoint = open_.enter_context(
            Endpoint(
                options.url or (server.url if server else ""),
                tokenizer,
                model=options.model,
                api=options.api,
                key=api_key(options.api_key_env),
                attempts=options.retries + 1,
                timeout=options.timeout,
            )
        )
        prompts = {each.id: each for each in asked}
        differences = [probe(endpoint, prompts[each.id], each.tokens, each.logprobs) for each in probed]
        answers: list[Reply | str] = []
        for request in asked if endpoint.served else ():
            answers.append(endpoint.answer(request, sampling, stop=stop))
            done(len(answers))
        ended = server.ended() if server is not None else None
    if all(isinstance(each, str) for each in answers):
        reasons = Counter(answers or [endpoint.trouble])
        step = f"see what the server says, and compare eval.server.api={options.api} with what it offers"
        raise ended or PunieError(
            "Not one response arrived.",
            where=f"POST {endpoint.address}",
            found=reasons.most_common(1)[0][0],
            next_step=step,
        )
    doubts = dict.fromkeys(doubt for each in answers if isinstance(each, Reply) for doubt in each.doubts)
    reasons = [*dict.fromkeys(each for each in differences if each), *doubts]
    if options.api == "chat":
        reasons.insert(0, "the server rendered the prompts, with its own chat template")
    return Served(answers, "; ".join(reasons) or None, tuple(endpoint.notes))
