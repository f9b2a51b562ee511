"""The chat of a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from punie.config import resolve
from punie.config.compose import compose
from punie.formats.chat import Conversation
from punie.model import load
from punie.stages import chats, evaluate, preflight
from punie.stages.answering import too_long
from punie.util.errors import Problems, PunieError
from punie.util.jsonl import SHOWN
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


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["eval=core27"], {}),
        (["eval=mixed"], {"no_call": 2}),
        (["eval=mixed_native", "format=native"], {}),
    ],
)
def test_what_was_judged_otherwise_is_in_the_key(given: list[str], expected: dict) -> None:
    """Code that fails was right where no call is expected: only such suites of code have another key."""
    settings = evaluate.STAGE.settings(resolve(compose(given)))
    found = evaluate.contents(settings)
    assert {key: value for key, value in found.items() if key == "no_call"} == expected


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


def test_what_preflight_says_of_tools_options_and_the_context(tmp_path: Path) -> None:
    """Undeclared and unseen tools and an unused option are notes; what exceeds the context is refused."""
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "book", "arguments": "{}"}}]}
    rows = [{"messages": [{"role": "user", "content": f"Book {number}"}, call]} for number in range(20)]
    for split in ("train", "valid"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    item = {"id": "a", "category": "x", "prompt": "Book it.", "expect": [{"tool": "git_status"}]}
    (tmp_path / "suite.jsonl").write_text(json.dumps(item) + "\n")
    model = shutil.copytree(resource("data/models/tiny"), tmp_path / "model")
    given = ["data=jsonl", f"data.path={tmp_path}", f"eval.suite={tmp_path}/suite.jsonl", "model=local"]
    given += [f"model.path={model}", "+model.template_args.thinks=false", f"store.dir={tmp_path}/store"]
    settings = preflight.STAGE.settings(resolve(compose([*given, "lora.num_layers=-1"])))
    found = preflight.run(settings, {}, tmp_path, Reporter())
    notes = "\n".join(found["warnings"])
    assert "train.jsonl: 20 examples: calls of tools that nothing declares" in notes
    assert "the suite expects calls of tools that no training example shows: git_status" in notes
    assert "the chat template does not use model.template_args.thinks" in notes
    assert found["opening"].startswith("<tool_call>")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 10}))
    with pytest.raises(Problems) as raised:
        preflight.run(settings, {}, tmp_path, Reporter())
    assert [each.where for each in raised.value.problems] == ["suite item a", "lora.max_seq_length=2048"]


def test_of_many_items_that_do_not_fit_the_first_are_listed() -> None:
    """A suite for a larger context gives a screen of problems, and how many more there are."""
    found = too_long([(f"item-{number}", 100, 8) for number in range(300)], 64)
    assert [found[0].where, len(found), found[-1].what] == [
        "suite item item-0", SHOWN + 1, "… and 280 more items do not fit.",
    ]  # fmt: skip
    assert too_long([("item", 100, 8)], None) == []
