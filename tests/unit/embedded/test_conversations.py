"""The corpus of the embedded models."""

import re
from itertools import pairwise

import pytest

from punie.embedded.conversations import MARKS, Corpus
from punie.embedded.generate import generate
from punie.formats.tools import TOOLS


@pytest.fixture(scope="module")
def conversations():
    corpus = Corpus(0, 0.3)
    return [corpus.conversation() for _ in range(3000)]


def answers(conversations):
    return [each["content"] for messages in conversations for each in messages if each["role"] == "assistant"]


def test_the_call_format_is_mentioned_and_never_used(conversations):
    """The tokens of the tool-call format occur only where a user asks to repeat them, in random order."""
    for messages in conversations:
        for request, answer in pairwise(messages):
            if any(mark in answer["content"] for mark in MARKS):
                assert answer["role"] == "user" or request["content"] == f"repeat: {answer['content']}"
    text = "\n".join(answers(conversations))
    assert all(mark in text for mark in MARKS)
    assert not re.search(r"<function=execute_code|<parameter=code", text)


def test_every_tool_is_named_and_called(conversations):
    """Each tool occurs in answers both as a call and in prose."""
    said = answers(conversations)
    for tool in TOOLS:
        assert sum(answer.startswith(f"{tool}(") for answer in said) > 10
        assert sum(tool in answer and f"{tool}(" not in answer for answer in said) > 5


def test_a_corpus_is_a_function_of_its_seed():
    """One seed gives the same conversations twice; another seed gives others."""
    first, again, other = (Corpus(seed, 0.3) for seed in (1, 1, 2))
    drawn = [[each.conversation() for _ in range(20)] for each in (first, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_turns_alternate_and_are_no_validation_example(conversations):
    """User and assistant take turns, the assistant last, and no request is one of the validation split."""
    for messages in conversations:
        roles = [each["role"] for each in messages]
        assert roles[-1] == "assistant"
        assert all(first != second for first, second in pairwise(roles))
    asked = {each["content"].casefold() for messages in conversations for each in messages}
    assert not asked & {row["messages"][1]["content"].casefold() for row in generate(seed=0)["valid"]}
