"""The chat of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from punie.config import resolve
from punie.config.compose import compose
from punie.formats.chat import Conversation
from punie.model import load
from punie.stages import chats, preflight
from punie.util.errors import Problems, PunieError
from punie.util.paths import resource
from punie.util.progress import Reporter


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


@pytest.mark.parametrize(
    ("date", "template", "what"),
    [
        ("tomorrow", "{{- strftime_now('%Y') }}", "date is none"),
        ("2024-02-29", "{{- strftime_now(form) }}", "cannot fix"),
    ],
)
def test_a_date_that_cannot_be_fixed_is_refused(date: str, template: str, what: str) -> None:
    """A date that is none, or one that a template asks for by a variable, is an error in words."""
    tokenizer = load.tokenizer(resource("data/models/tiny"))
    tokenizer.chat_template = template
    with pytest.raises(PunieError, match=what):
        chats.build(tokenizer, "code_mode", {"template_date": date})


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {}),
        ({"system": "Be brief."}, {"rows": 2}),
        ({"tools": []}, {"format": "native"}),
    ],
)
def test_what_decides_how_examples_are_read_is_in_the_key(more: dict, expected: dict, tmp_path: Path) -> None:
    """Keys that earlier versions left unread, and tools, change the key; other examples keep theirs."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Fine."}]
    for split in ("train", "valid"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"messages": turns, **more}) + "\n")
    config = resolve(compose(["data=jsonl", f"data.path={tmp_path}"]))
    assert chats.contents(preflight.STAGE.settings(config)) == expected


def test_code_mode_refuses_items_whose_tools_it_cannot_call(tmp_path: Path) -> None:
    """The sandbox has the embedded tools; an item with others would score 0 whatever is answered."""
    declared = [{"name": "get_weather"}]
    item = {"id": "w", "category": "x", "prompt": "Rome?", "expect": [{"tool": "get_weather"}]}
    suite = tmp_path / "own.jsonl"
    suite.write_text(json.dumps({**item, "tools": declared}) + "\n")
    settings = preflight.STAGE.settings(resolve(compose([f"eval.suite={suite}", f"store.dir={tmp_path}"])))
    with pytest.raises(Problems, match="Code calls the embedded tools only") as raised:
        preflight.run(settings, {}, tmp_path, Reporter())
    assert "get_weather" in str(raised.value)
