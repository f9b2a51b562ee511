"""The one way from chat messages to tokens, for training and for evaluation.

Shape letters: T = tokens of one conversation.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from punie.formats import Message, chosen
from punie.formats.tools import Tool


class ChatTokenizer(Protocol):
    """What punie needs of a tokenizer: Hugging Face's and mlx-lm's wrapper both have it."""

    def apply_chat_template(self, conversation: Sequence[Message], **options: Any) -> Any:
        """Render and tokenize a conversation."""


def format_prompt(
    tokenizer: ChatTokenizer,
    messages: Sequence[Message],
    *,
    tools: Collection[Tool] = (),
    add_generation_prompt: bool = True,
) -> list[int]:
    """Token ids of a conversation as the model's own chat template renders it, (T,).

    Args:
        tokenizer: The model's tokenizer; its chat template decides everything.
        messages: The conversation so far.
        tools: What may be called; the format decides how the template is told.
        add_generation_prompt: End with the opening of an assistant turn.
    """
    turns, options = chosen().template_input(messages, tools)
    return list(
        tokenizer.apply_chat_template(
            turns, add_generation_prompt=add_generation_prompt, tokenize=True, return_dict=False, **options
        )
    )


def render_prompt(
    tokenizer: ChatTokenizer, messages: Sequence[Message], *, tools: Collection[Tool] = ()
) -> str:
    """The text whose tokens ``format_prompt`` gives, for callers that tokenize themselves."""
    turns, options = chosen().template_input(messages, tools)
    return tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, **options)


def format_example(tokenizer: ChatTokenizer, messages: Sequence[Message]) -> tuple[list[int], int]:
    """Token ids of a training example, (T,), and the number of them that belong to the prompt.

    The prompt is everything before the last assistant turn, rendered exactly as in evaluation.

    Raises:
        ValueError: The conversation does not end with an assistant turn, or the template renders the
            prompt differently with and without the response, so that the two cannot be separated.
    """
    if not messages or messages[-1].get("role") != "assistant":
        raise ValueError("the last message is not the assistant's")
    tokens = format_prompt(tokenizer, messages, add_generation_prompt=False)
    return tokens, _prompt_length(tokenizer, messages, len(messages) - 1, tokens)


def format_turns(
    tokenizer: ChatTokenizer, messages: Sequence[Message]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids of a training example, (T,), and the half-open range of every assistant turn in it.

    Raises:
        ValueError: As for ``format_example``, of any of the turns.
    """
    tokens, _ = format_example(tokenizer, messages)
    spans = []
    for index, message in enumerate(messages):
        if message.get("role") == "assistant":
            start = _prompt_length(tokenizer, messages, index, tokens)
            through = format_prompt(tokenizer, messages[: index + 1], add_generation_prompt=False)
            if tokens[: len(through)] != through:
                raise ValueError("the chat template renders a turn differently once another follows it")
            spans.append((start, len(through)))
    return tokens, spans


def _prompt_length(
    tokenizer: ChatTokenizer, messages: Sequence[Message], turn: int, tokens: list[int]
) -> int:
    prompt = format_prompt(tokenizer, messages[:turn])
    if tokens[: len(prompt)] != prompt:
        raise ValueError("the chat template renders the prompt differently once the answer follows it")
    return len(prompt)
