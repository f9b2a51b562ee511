"""Generation: what a response depends on, and what it does not."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import pytest

from punie.model import generate
from punie.model.generate import Answer, Request, Sampling


@pytest.fixture(scope="module")
def requests(prompts: list[list[int]]) -> list[Request]:
    """Two requests for each prompt, side by side, with limits of their own."""
    return [
        Request(f"{index}#{repeat}", prompt, 20 + 3 * index)
        for index, prompt in enumerate(prompts)
        for repeat in range(2)
    ]


def run(loaded: Any, requests: Sequence[Request], sampling: Sampling, **options: Any) -> dict[str, Answer]:
    options = {"stop": (), "batch_size": 8, "done": lambda _: None} | options
    answers = generate.generate(loaded.model, loaded.tokenizer, requests, sampling, **options)
    return {each.id: each for each in answers}


def tokens(answers: dict[str, Answer]) -> dict[str, list[int]]:
    return {name: answer.tokens for name, answer in sorted(answers.items())}


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_neither_batch_size_nor_order_changes_an_answer(
    loaded: Any, requests: list[Request], temperature: float
) -> None:
    """At 0 and at 0.7, responses are the same one by one, in batches of 3 and 8, and shuffled."""
    sampling = Sampling(temperature, seed=5)
    shuffled = random.Random(0).sample(requests, len(requests))
    found = [tokens(run(loaded, requests, sampling, batch_size=size)) for size in (1, 3, 8)]
    found.append(tokens(run(loaded, shuffled, sampling, batch_size=3)))
    assert all(each == found[0] for each in found)


def test_what_prompts_share_is_read_once(
    loaded: Any, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The common prefix is read once, a repeated prompt's rest once, and no response changes by it."""
    read: list[int] = []
    original = generate.read

    def counted(model: Any, text: Sequence[int], **options: Any) -> list[Any]:
        read.append(len(text))
        return original(model, text, **options)

    monkeypatch.setattr(generate, "read", counted)
    shared = run(loaded, requests, Sampling(0.7))
    prefix = generate.shared_prefix([each.prompt for each in requests])
    assert read == [len(prefix), *(len(each.prompt) - 1 - len(prefix) for each in requests[::2])]
    alone = {name: answer for each in requests for name, answer in run(loaded, [each], Sampling(0.7)).items()}
    assert tokens(shared) == tokens(alone)


def test_long_prompts_are_read_with_those_of_their_length(
    loaded: Any, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where padding would be much, the longest prompts come first, fewer at once, and no response changes."""
    lengths = random.Random(0).choices(range(100, 3000), k=100)
    made = [Request(f"{at}#0", [at] * length, 8) for at, length in enumerate(lengths)]
    ordered, size = generate.arranged(made, 64)
    sizes = [len(each.prompt) for each in ordered]
    assert sizes == sorted(lengths, reverse=True)
    batches = [sizes[start : start + size] for start in range(0, 100, size)]
    assert sum(max(batch) * len(batch) for batch in batches) <= 1.1 * sum(lengths)
    assert generate.arranged(requests, 8) == (requests, 8)
    before = tokens(run(loaded, requests, Sampling(0.7)))
    monkeypatch.setattr(generate, "PADDING", 0)
    assert [*generate.arranged(requests, 8)[0]] != requests
    assert tokens(run(loaded, requests, Sampling(0.7))) == before


def test_repeats_and_seeds_are_sampled_independently(loaded: Any, requests: list[Request]) -> None:
    """Repeats of a prompt differ at temperature 1, and so do seeds; the same seed gives the same tokens."""
    first, again, other = (run(loaded, requests, Sampling(1.0, seed=seed)) for seed in (0, 0, 1))
    assert tokens(first) == tokens(again)
    assert tokens(first) != tokens(other)
    assert any(first[f"{index}#0"].tokens != first[f"{index}#1"].tokens for index in range(4))


def test_limits_are_each_requests_own(loaded: Any, requests: list[Request]) -> None:
    """A response that its limit ends has as many tokens as the limit, and says so; none has more."""
    cut = [dataclasses.replace(each, max_tokens=3 + index) for index, each in enumerate(requests)]
    answers = run(loaded, cut, Sampling(0.0))
    left = {each.id: each.max_tokens - len(answers[each.id].tokens) for each in cut}
    ended = {name for name, answer in answers.items() if answer.finish_reason == "length"}
    assert ended
    assert min(left.values()) == 0
    assert {left[name] for name in ended} == {0}


@pytest.fixture(scope="module")
def greedy(loaded: Any, requests: list[Request]) -> dict[str, Answer]:
    return run(loaded, requests, Sampling(0.0))


def test_a_stop_text_ends_a_response_wherever_tokens_end(
    loaded: Any, requests: list[Request], greedy: dict[str, Answer]
) -> None:
    """A stop text counts as text: across tokens and within one, and what follows it is not generated."""
    longest = max((answer.text for answer in greedy.values()), key=len)
    word = longest[len(longest) // 2 :][:3]
    for name, answer in run(loaded, requests, Sampling(0.0), stop=(word,)).items():
        assert answer.text == greedy[name].text.split(word)[0]
        if word in greedy[name].text:
            assert answer.finish_reason == "stop"
            assert word in loaded.tokenizer.decode(answer.tokens)
            assert word not in loaded.tokenizer.decode(answer.tokens[:-1])


def test_logprobs_are_the_models_own(loaded: Any, requests: list[Request], greedy: dict[str, Answer]) -> None:
    """A recorded log-probability is what a teacher-forced pass over prompt and answer gives."""
    import mlx.core as mx
    import numpy as np

    request, answer = requests[0], greedy[requests[0].id]
    text = request.prompt + answer.tokens
    logits = loaded.model(mx.array([text[:-1]]))[0]
    logprobs = np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
    positions = range(len(request.prompt) - 1, len(text) - 1)
    expected = [logprobs[position, text[position + 1]] for position in positions]
    assert answer.logprobs == pytest.approx(expected, abs=1e-4)
    assert all(a.logprobs is None for a in run(loaded, requests, Sampling(0.0), logprobs=False).values())
