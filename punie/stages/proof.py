"""Compares an exported model, in the runtime that it is for, with base and adapter as punie computes them.

The runtime renders and tokenizes each prompt of the run's suite, and answers it greedily. Then punie reads
every answer: as long as each token is the likeliest to it, too, both answer alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.stages import answering, chats
from punie.stages.inputs import base_folder, suite_path
from punie.stages.slices import Evaluate

if TYPE_CHECKING:
    from punie.model.runtimes import Answer, Request

TOLERANCE = 0.01
"""Difference of two log-probabilities, in nats, below which either token may be the likelier one."""


@dataclass(frozen=True)
class Compared:
    """One prompt."""

    item: str
    tokens: int
    """Of the prompt."""
    rendering: str | None
    """The first token of the prompt that the runtime renders otherwise; None if there is none."""
    answered: int
    """Tokens of the answer."""
    difference: str | None
    """The first token of the answer that is not punie's; None if there is none."""
    gap: float
    """How much likelier punie's token is to it than the runtime's; nats."""
    logprob: float
    """Largest difference of a token's log-probability; nats."""

    @property
    def alike(self) -> bool:
        """Whether the answers are the same, or would be but for a tie."""
        return self.gap < TOLERANCE


def prove(
    settings: Evaluate, adapter: Path, runtime: str, model: Path, most: int | None = None
) -> list[Compared]:
    """Compare prompts of the run's suite, ``most`` of them, evenly spread; None: all.

    Raises:
        PunieError: The runtime is not installed, or cannot run the model.
    """
    from punie.evals.suite import load_suite
    from punie.model import fidelity, generate, load, runtimes

    folder, options = base_folder(settings), settings.eval
    tokenizer = load.tokenizer(folder)
    chat = chats.chat(settings, tokenizer)
    suite = load_suite(suite_path(options.suite), chats.tools(settings))
    system = chats.system_prompt(settings, options.system_prompt)
    turns = list(answering.prompts(chat.format, suite, system=system))
    turns = turns[:: max(1, len(turns) // most)][:most] if most else turns
    ends = sorted(tokenizer.eos_token_ids, key=lambda each: each != tokenizer.eos_token_id)
    requests = [
        runtimes.Request(
            chat.prompt_tokens(asked),
            chat.prompt(asked),
            chat.request(asked),
            item.named_turns[number - 1][1].max_tokens or options.max_tokens,
            ends,
        )
        for item, number, asked in turns
    ]
    answers = runtimes.ask(runtime, model, folder, requests)
    loaded = load.load(
        folder, adapter=adapter, float32=settings.runtime.float32, threads=settings.runtime.threads
    )
    shared = generate.shared_prefix([request.prompt for request in requests])
    cache, found = generate.read(loaded.model, shared), []
    for (item, number, _), request, answer in zip(turns, requests, answers, strict=True):
        said = answer.tokens + ends[:1] * answer.ended
        own = fidelity.choices(loaded.model, request.prompt, said, len(shared), cache) if said else []
        name = item.named_turns[number - 1][0]
        found.append(compared(name, tokenizer, request, answer, said, own))
    return found


def compared(
    name: str,
    tokenizer: Any,
    request: Request,
    answer: Answer,
    said: Sequence[int],
    own: Sequence[tuple[float, int, float]],
) -> Compared:
    """Compare an answer with punie's ``fidelity.choices`` for the tokens that the runtime ``said``."""
    difference, gap = None, 0.0
    for at, (token, (logprob, best, highest)) in enumerate(zip(said, own, strict=True)):
        ending = at == len(answer.tokens) and best in request.ends
        if token != best and not ending:
            difference, gap = _shown(tokenizer, at, best, token), highest - logprob
            break
    changes = [abs(theirs - ours) for theirs, (ours, *_) in zip(answer.logprobs, own, strict=False)]
    return Compared(
        name,
        len(request.prompt),
        _rendering(tokenizer, request, answer),
        len(answer.tokens),
        difference,
        gap,
        max(changes, default=0.0),
    )


def _rendering(tokenizer: Any, request: Request, answer: Answer) -> str | None:
    """The first token of a prompt that the runtime renders otherwise."""
    if answer.ids is None or answer.ids == request.prompt:
        return None
    pairs = enumerate(zip_longest(request.prompt, answer.ids))
    at, (ours, theirs) = next((at, pair) for at, pair in pairs if pair[0] != pair[1])
    cause = "the same text" if answer.rendered == request.text else "another text"
    return f"{_shown(tokenizer, at, ours, theirs)} ({cause})"


def _shown(tokenizer: Any, at: int, ours: int | None, theirs: int | None) -> str:
    texts = ["nothing" if each is None else repr(tokenizer.decode([each])) for each in (ours, theirs)]
    return f"token {at + 1}: {texts[0]} here, {texts[1]} there"
