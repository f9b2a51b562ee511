"""Tokenizers from GGUF files against the ids that llama.cpp's collection of vocabularies expects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.families import FOLDER

pytest.importorskip("gguf", reason="needs punie[gguf]")

QUICK = ("deepseek-coder", "gpt-2", "llama-bpe", "llama-spm", "starcoder")
SLOW = ("command-r", "deepseek-llm", "falcon", "gemma-4", "mpt", "phi-3", "qwen2", "qwen35", "refact")
"""Vocabularies that take seconds each, or are built as one of the others."""


@pytest.mark.skipif(
    not (FOLDER / "ggml-vocab-gpt-2.gguf").exists(), reason="`make templates` fetches the vocabularies"
)
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.long) for name in SLOW)])
def test_texts_become_the_expected_ids(name: str) -> None:
    """Every text beside a vocabulary becomes the ids beside it, and the ids become the text again."""
    from punie.model.gguf.file import read
    from punie.model.gguf.tokenizer import files

    path = FOLDER / f"ggml-vocab-{name}.gguf"
    texts = Path(f"{path}.inp").read_text("utf-8").split("\n__ggml_vocab_test__\n")
    expected = [[int(each) for each in line.split()] for line in Path(f"{path}.out").read_text().splitlines()]
    built = Tokenizer.from_str(json.dumps(files(read(path).metadata, 1 << 20)["tokenizer.json"]))
    found = [built.encode(text, add_special_tokens=False).ids for text in texts[: len(expected)]]
    assert len(expected) >= 46
    assert found == expected
    assert [built.decode(ids, skip_special_tokens=False) for ids in found] == texts[: len(expected)]
