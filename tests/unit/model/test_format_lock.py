"""The exact format lock, against sampling and against the definition."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from punie.formats.code_mode import FORMAT, wrap
from punie.model import format_lock
from punie.model.format_lock import Branch
from punie.model.generate import Request, Sampling, generate

TEMPERATURES = (0.0, 0.3, 0.7, 1.0, 1.5)


def draw(loaded: Any, prompt: list[int], sampling: Sampling, count: int, length: int) -> list[list[int]]:
    requests = [Request(f"x#{index}", prompt, length) for index in range(count)]
    found = generate(
        loaded.model, loaded.tokenizer, requests, sampling, stop=(), batch_size=128, done=lambda _: None
    )
    return [answer.tokens for answer in found]


@pytest.fixture(scope="module")
def openings(loaded: Any, prompts: list[list[int]]) -> list[Branch]:
    """Two-token beginnings that the base model likes, as if they were spellings of a wrapper."""
    found = {tuple(draw(loaded, p, Sampling(0.0), 1, 2)[0]) for p in prompts}
    found |= {tuple(tokens) for tokens in draw(loaded, prompts[0], Sampling(1.5), 12, 2) if len(tokens) == 2}
    return [Branch(str(pair), pair[:1], pair[1:]) for pair in sorted(found)]


@pytest.mark.parametrize("truncation", [{}, {"top_p": 0.8}, {"top_k": 3}, {"min_p": 0.1}])
def test_exact_and_sampled_agree(
    loaded: Any, prompts: list[list[int]], openings: list[Branch], truncation: dict[str, Any]
) -> None:
    """The share of 600 sampled answers that open in a listed way is within 4 standard errors of the lock: no
    truncation is only recorded."""
    sampling = Sampling(0.9, **truncation)
    (locks,) = format_lock.format_lock(
        loaded.model, openings, prompts[:2], temperatures=[0.9], samplings=[sampling]
    )
    listed = {(*branch.tokens, *branch.last) for branch in openings}
    for prompt, lock in zip(prompts, locks, strict=False):
        exact = float(lock.total[0])
        drawn = [tuple(tokens) in listed for tokens in draw(loaded, prompt, sampling, 600, 2)]
        error = math.sqrt(max(exact * (1 - exact), 1e-9) / 600)
        assert abs(sum(drawn) / 600 - exact) < 4 * error + 1e-6


def test_the_curve_is_the_definition(loaded: Any, prompts: list[list[int]], openings: list[Branch]) -> None:
    """Every probability is the product of softmax(z/T) along the tokens, each from a pass of its own."""
    (locks,) = format_lock.format_lock(
        loaded.model, openings, prompts, temperatures=TEMPERATURES, samplings=[Sampling(1.0)]
    )
    for prompt, lock in zip(prompts, locks, strict=True):
        for branch in openings:
            expected = np.ones(len(TEMPERATURES))
            margin = math.inf
            for position, token in enumerate([*branch.tokens, *branch.last]):
                text = [*prompt, *branch.tokens[:position]]
                z = np.array(loaded.model(mx.array([text]))[0, -1], dtype=np.float64)
                margin = min(margin, z[token] - np.delete(z, token).max())
                for index, t in enumerate(TEMPERATURES):
                    scaled = np.exp((z - z.max()) / t) if t else (z == z.max()).astype(float)
                    expected[index] *= scaled[token] / scaled.sum()
            assert lock.curves[branch.name] == pytest.approx(expected, rel=1e-3, abs=1e-9)
            if branch is openings[0]:
                assert lock.margin == pytest.approx(margin, abs=1e-3)


class HalfPieces:
    """A tokenizer whose last piece of a text is no text by itself, as bytes of a character are."""

    def get_vocab(self) -> dict[str, int]:
        return {"<": 0, "a": 1, "half": 2}

    def batch_decode(self, rows: list[list[int]]) -> list[str]:
        return [{0: "<", 1: "a", 2: ""}[token] for (token,) in rows]

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [0, 2]


def test_half_a_character_ends_only_itself() -> None:
    """A last piece that decodes to nothing is completed by its own token, not by every other."""
    assert format_lock.branches(HalfPieces(), {"x": "<é"}) == [Branch("x", (0,), (2,))]


def test_branches_are_what_a_model_writes(tokenizer: Any) -> None:
    """The canonical branch is how training's answers begin, token for token."""
    found = {each.name: each for each in format_lock.branches(tokenizer, FORMAT.spellings)}
    answer = tokenizer.encode(wrap("print(1)"), add_special_tokens=False)
    canonical = next(iter(found.values()))
    assert tuple(answer[: len(canonical.tokens)]) == canonical.tokens
    assert answer[len(canonical.tokens)] in canonical.last
    for name, branch in found.items():
        for last in branch.last:
            assert tokenizer.decode([*branch.tokens, last]).startswith(FORMAT.spellings[name])


def test_overlapping_spellings_are_refused(tokenizer: Any) -> None:
    """Probabilities of texts of which one begins another must not be added up."""
    with pytest.raises(ValueError, match="beginning of another"):
        format_lock.branches(tokenizer, {"short": "<tool_call>", "long": "<tool_call>\n"})


@pytest.mark.parametrize("seed", [27, 28, 34, 38])
def test_a_certain_spelling_has_probability_1(seed: int) -> None:
    """Rounding of 5,000 small probabilities leads no further."""
    rng = np.random.default_rng(seed)
    rows = mx.array(rng.normal(-25, 3, (3, 5000)).astype(np.float32))
    rows[mx.arange(3), mx.array([3, 4, 5])] = 3.0
    logits = {(): rows[0], (3,): rows[1], (3, 4): rows[2]}
    spelling = Branch("certain", (3, 4), (5, 6))
    curves = format_lock._curves(logits, [spelling], [0.0, 0.2, 0.5, 0.7, 1.0], Sampling(1.0))
    lock = format_lock.Lock(curves, 28.0)
    assert curves["certain"] == pytest.approx(1.0, abs=1e-6)
    assert (lock.total <= 1).all()
