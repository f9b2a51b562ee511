"""The one way from chat messages to tokens, for training and for evaluation alike.

Shape letters: T = tokens of one conversation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Message = Mapping[str, Any]
"""``{"role": "system" | "user" | "assistant" | "tool", "content": str}``."""


class ChatTokenizer(Protocol):
    """What punie needs of a tokenizer: Hugging Face's and mlx-lm's wrapper both have it."""

    def apply_chat_template(self, conversation: Sequence[Message], **options: Any) -> Any:
        """Render and tokenize a conversation."""


def format_prompt(
    tokenizer: ChatTokenizer, messages: Sequence[Message], *, add_generation_prompt: bool = True
) -> list[int]:
    """Token ids of a conversation as the model's own chat template renders it, (T,).

    Args:
        tokenizer: The model's tokenizer; its chat template decides everything.
        messages: The conversation so far.
        add_generation_prompt: End with the opening of an assistant turn.
    """
    tokens = tokenizer.apply_chat_template(
        list(messages), add_generation_prompt=add_generation_prompt, tokenize=True, return_dict=False
    )
    return list(tokens)


def format_example(tokenizer: ChatTokenizer, messages: Sequence[Message]) -> tuple[list[int], int]:
    """Token ids of a training row, (T,), and the number of them that belong to the prompt.

    The prompt is everything before the last assistant turn, rendered exactly as evaluation renders it.

    Raises:
        ValueError: The conversation does not end with an assistant turn, or the template renders the
            prompt differently with and without the answer, so that the two cannot be told apart.
    """
    if not messages or messages[-1].get("role") != "assistant":
        raise ValueError("the last message is not the assistant's")
    prompt = format_prompt(tokenizer, messages[:-1])
    tokens = format_prompt(tokenizer, messages, add_generation_prompt=False)
    if tokens[: len(prompt)] != prompt:
        raise ValueError("the chat template renders the prompt differently once the answer follows it")
    return tokens, len(prompt)
