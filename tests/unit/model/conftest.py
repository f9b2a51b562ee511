"""The embedded model, loaded once, and prompts for it."""

from __future__ import annotations

from typing import Any

import pytest

from punie.formats.chat import Chat, Conversation
from punie.formats.code_mode import FORMAT
from punie.model import load
from punie.util.paths import resource

QUESTIONS = (
    "show me the git status of src",
    "what does punie do?",
    "rename foo to bar in a.py",
    "find uses of x",
)


@pytest.fixture(scope="package")
def loaded() -> Any:
    return load.load(resource("data/models/tiny"), float32=True)


@pytest.fixture(scope="package")
def prompts(loaded: Any) -> list[list[int]]:
    system = {"role": "system", "content": "You are Punie."}
    chat = Chat(loaded.tokenizer, FORMAT)
    return [chat.prompt_tokens(Conversation([system, {"role": "user", "content": q}])) for q in QUESTIONS]
