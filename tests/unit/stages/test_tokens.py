"""A split as what is trained on, or every reason why it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from punie.data.rows import Check
from punie.formats.chat import Chat
from punie.formats.code_mode import FORMAT, wrap
from punie.stages.tokens import tokenize
from punie.util.errors import Problems


def write(folder: Path, *answers: str, **more: object) -> Path:
    path = folder / "train.jsonl"
    rows = [
        {
            "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}],
            **more,
        }
        for answer in answers
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def chat(tokenizer: Any) -> Chat:
    return Chat(tokenizer, FORMAT)


def test_a_split_comes_with_what_is_doubtful_about_it(chat: Chat, tmp_path: Path) -> None:
    """Examples keep their lines; kinds of warnings and unused keys are counted by example."""
    path = write(tmp_path, "Fine.", "Say <|im_end|> and <|im_start|>.", id=1)
    found = tokenize(path, Check(FORMAT, chat))
    assert [each.name for each in found.examples] == ["train.jsonl:1", "train.jsonl:2"]
    assert all(0 < start < end <= len(each.tokens) for each in found.examples for start, end in each.spans)
    assert (found.findings, found.unused) == ({"control token": 1}, {"id": 2})


def test_long_examples_are_left_out_if_so_chosen(chat: Chat, tmp_path: Path) -> None:
    """data.too_long=drop leaves an example out and counts it, but not the last one."""
    path = write(tmp_path, "Fine.", "Fine. " * 100)
    found = tokenize(path, Check(FORMAT, chat, limit=40, too_long="drop"))
    assert ([each.name for each in found.examples], found.findings) == (["train.jsonl:1"], {"dropped": 1})
    with pytest.raises(Problems, match="No example is left to train on"):
        tokenize(write(tmp_path, "Fine. " * 100), Check(FORMAT, chat, limit=40, too_long="drop"))


def test_what_data_check_calls_an_error_is_not_trained_on(chat: Chat, tmp_path: Path) -> None:
    """The first twenty faults are named, each once with its lines, and the rest are counted."""
    path = write(tmp_path, *[wrap(f"cat{number}('a')") for number in range(25)], wrap("cat0()"), "Fine.")
    with pytest.raises(Problems) as raised:
        tokenize(path, Check(FORMAT, chat))
    first, *_, last = raised.value.problems
    assert len(raised.value.problems) == 21
    assert first.where == f"{path}:1 and 1 more lines"
    assert "calls 'cat0'" in first.what
    assert "5 more problems" in last.what


def test_a_prompt_that_does_not_fit_is_left_out_too(chat: Chat, tmp_path: Path) -> None:
    """data.too_long=drop also leaves out an example of whose response nothing would be kept."""
    path = write(tmp_path, "Fine.")
    row = {"messages": [{"role": "user", "content": "? " * 200}, {"role": "assistant", "content": "Fine."}]}
    path.write_text(path.read_text() + json.dumps(row) + "\n")
    found = tokenize(path, Check(FORMAT, chat, limit=40, too_long="drop"))
    assert ([each.name for each in found.examples], found.findings) == (["train.jsonl:1"], {"dropped": 1})
    assert found.count == 2


def test_a_weight_needs_masked_prompts(chat: Chat, tmp_path: Path) -> None:
    """Where loss is on every token, a turn without loss is refused and not ignored."""
    path = write(tmp_path, "Fine.")
    turns = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "No.", "weight": 0},
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "Fine."},
    ]
    path.write_text(json.dumps({"messages": turns}) + "\n")
    assert len(tokenize(path, Check(FORMAT, chat)).examples) == 1
    with pytest.raises(Problems, match="mask_prompt=false"):
        tokenize(path, Check(FORMAT, chat, mask_prompt=False))
