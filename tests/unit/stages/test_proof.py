"""What a proof finds where a runtime and punie differ."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from punie.model.runtimes import Answer, Request
from punie.stages.proof import TOLERANCE, Compared, compared

END, OTHER_END = 2, 3
REQUEST = Request([1, 5, 6], "abc", {}, 8, [END, OTHER_END])
ANSWER = Answer([7, 8], [-0.1, -0.2], True, "abc", [1, 5, 6])
AGREES = [(-0.1, 7, -0.1), (-0.2, 8, -0.2), (-0.3, END, -0.3)]


class Letters:
    """Decodes a token to a letter."""

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(ord("a") + each) for each in ids)


def found(own: list[tuple[float, int, float]] = AGREES, **changed: Any) -> Compared:
    answer = dataclasses.replace(ANSWER, **changed)
    said = answer.tokens + [END] * answer.ended
    return compared("item", Letters(), REQUEST, answer, said, own[: len(said)])


def test_equal_answers_are_equal() -> None:
    """The same prompt, tokens and log-probabilities: nothing differs; any end of a turn is one."""
    assert found() == Compared("item", 3, None, 2, None, 0.0, 0.0)
    assert found([*AGREES[:2], (-0.9, OTHER_END, -0.3)]) == found()


@pytest.mark.parametrize(
    ("own", "words", "gap"),
    [
        ([AGREES[0], (-0.205, 9, -0.2), AGREES[2]], "token 2: 'j' here, 'i' there", 0.005),
        ([(-0.1, 4, -0.05), AGREES[1], AGREES[2]], "token 1: 'e' here, 'h' there", 0.05),
        ([*AGREES[:2], (-9.0, 9, -0.5)], "token 3: 'j' here, 'c' there", 8.5),
    ],
)
def test_the_first_token_that_differs_is_named(
    own: list[tuple[float, int, float]], words: str, gap: float
) -> None:
    """An answer differs where punie finds another token likelier, also at the end; a tie is no difference."""
    result = found(own)
    assert result.difference == words
    assert result.gap == pytest.approx(gap)
    assert result.alike == (gap < TOLERANCE)


def test_log_probabilities_are_compared_throughout() -> None:
    """The largest difference counts, also after the first token that differs."""
    assert found([AGREES[0], (-0.7, 9, -0.2), AGREES[2]]).logprob == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"ids": [1, 4, 6], "rendered": "aec"}, "token 2: 'f' here, 'e' there (another text)"),
        ({"ids": [0, 1, 5, 6]}, "token 1: 'b' here, 'a' there (the same text)"),
        ({"ids": [1, 5]}, "token 3: 'g' here, nothing there (the same text)"),
        ({"ids": None, "rendered": None}, None),
    ],
)
def test_a_prompt_that_is_rendered_otherwise_is_named(changed: dict[str, Any], words: str | None) -> None:
    """The first token of a prompt that the runtime does not have, and whether its text differs, too."""
    assert found(**changed).rendering == words
