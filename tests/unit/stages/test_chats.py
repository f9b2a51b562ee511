"""The chat of a run."""

from __future__ import annotations

import pytest

from punie.formats.chat import Conversation
from punie.model import load
from punie.stages import chats
from punie.util.paths import resource


@pytest.mark.parametrize("form", ["native", "prompted", "code_mode"])
def test_the_date_is_the_configs(form: str) -> None:
    """A template that asks for the date gets ``model.template_date``, in the format that it asks for."""
    tokenizer = load.tokenizer(resource("data/models/tiny"))
    tokenizer.chat_template = """{%- if strftime_now is defined %}
{{- strftime_now('%d %b %Y') + ' ' + strftime_now("%Y") }}{%- endif %}
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
    chat = chats.build(tokenizer, form, {"template_date": "2024-02-29"})
    assert chat.prompt(Conversation([{"role": "user", "content": "Hi"}])).startswith(
        "29 Feb 2024 2024<|im_start|>"
    )
