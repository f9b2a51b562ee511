"""The answers of a server: mlx_lm.server started here, or an endpoint that the user names."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
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


@dataclass
class Service:
    """An open server, and what is known of it by now."""

    endpoint: Endpoint
    own: Server | None
    """None if it is the user's."""
    probed: Sequence[generate.Answer]
    sampling: generate.Sampling
    stop: Sequence[str]
    api: str
    doubts: list[str] = field(default_factory=list)
    """Why the server may not hold the model."""
    answered: bool = False
    """A response has arrived."""

    def ask(self, asked: Sequence[Request], done: Callable[[int], None]) -> Sequence[Reply | str]:
        """For each request the reply, or why it is missing. The first requests hold those that are probed.

        Raises:
            PunieError: The server refuses the requests, or not one response has arrived.
        """
        prompts = {each.id: each for each in asked}
        probed, self.probed = self.probed, ()
        differences = (probe(self.endpoint, prompts[p.id], p.tokens, p.logprobs) for p in probed)
        self.doubts += [each for each in differences if each]
        answers: list[Reply | str] = []
        for request in asked if self.endpoint.served else ():
            answers.append(self.endpoint.answer(request, self.sampling, stop=self.stop))
            done(len(answers))
        replies = [each for each in answers if isinstance(each, Reply)]
        self.doubts += [doubt for each in replies for doubt in each.doubts]
        self.answered |= bool(replies)
        if not self.answered:
            ended = self.own.ended() if self.own is not None else None
            reasons = Counter([each for each in answers if isinstance(each, str)] or [self.endpoint.trouble])
            step = f"see what the server says, and compare eval.server.api={self.api} with what it offers"
            raise ended or PunieError(
                "Not one response arrived.",
                where=f"POST {self.endpoint.address}",
                found=reasons.most_common(1)[0][0],
                next_step=step,
            )
        return answers

    @property
    def unverified(self) -> str | None:
        """Why the server may not hold the model; None where its greedy answers were the model's."""
        rendered = "the server rendered the prompts, with its own chat template"
        return "; ".join(dict.fromkeys([rendered] * (self.api == "chat") + self.doubts)) or None

    @property
    def notes(self) -> list[str]:
        """What it was asked otherwise than the config says."""
        return list(self.endpoint.notes)


def expected(loaded: Any, asked: Sequence[generate.Request]) -> list[generate.Answer]:
    """The greedy answers of the model in this process to some of the requests, as ``probe`` wants them."""
    from punie.model.generate import Request, Sampling, generate

    step = max(len(asked) // PROBES, 1)
    chosen = [Request(each.id, each.prompt, PROBE_TOKENS) for each in asked[::step][:PROBES]]
    greedy = Sampling(temperature=0.0)
    return generate(
        loaded.model, loaded.tokenizer, chosen, greedy, stop=(), batch_size=1, done=lambda _: None
    )


@contextlib.contextmanager
def opened(
    tokenizer: Any,
    probed: Sequence[generate.Answer],
    sampling: generate.Sampling,
    *,
    stop: Sequence[str],
    options: ServerConfig,
    own: contextlib.AbstractContextManager[Server],
) -> Generator[Service]:
    """The server of ``options``, else ``own``, which is then started.

    ``probed`` is what :func:`expected` gave for the model that the server is to hold.

    Raises:
        PunieError: No server answers.
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
        yield Service(endpoint, server, probed, sampling, stop, options.api)
