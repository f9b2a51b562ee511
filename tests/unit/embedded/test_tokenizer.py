"""The tokenizer of the embedded models."""

import json

import pytest
from tokenizers import Tokenizer

from punie.embedded.corpus import Corpus
from punie.embedded.generate import generate
from punie.embedded.specs import SPECS
from punie.embedded.tokenizer import ADDED, SPECIAL, save, train
from punie.formats.prompts import format_prompt
from punie.model import load
from punie.util.paths import resource


@pytest.fixture(scope="module")
def tokenizer():
    corpus = Corpus(0, 0.1)
    return train((each["content"] for _ in range(300) for each in corpus.conversation()), 640)


@pytest.fixture(scope="module")
def loaded(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save(tokenizer, folder, longest=2048)
    (folder / "config.json").write_text(json.dumps(SPECS["tiny"].config()))
    return load.tokenizer(folder)


@pytest.mark.parametrize("token", SPECIAL + ADDED)
def test_markers_are_single_tokens(tokenizer, token):
    """Every control token and every added one is a single token, also inside text."""
    assert len(tokenizer.encode(token).ids) == 1
    assert tokenizer.encode(f"a{token}b").tokens[1] == token


@pytest.mark.parametrize(
    "text", ["", "naïve café 日本 🙂", "a\r\n\tb  c", "<tool_call>x</tool_call>", "\x00\x7f"]
)
def test_any_text_survives_the_tokenizer(tokenizer, text):
    """Bytes that training never saw are encoded and decoded without loss."""
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_a_name_has_the_same_tokens_in_a_request_and_in_a_call(tokenizer):
    """The tokens of a path and of a symbol do not depend on what stands around them."""
    for name in ("src/api/routes.py", "load_config", "OrderService"):
        alone = tokenizer.encode(name).tokens
        for text in (f"open {name} now", f'call("{name}")', f"see `{name}`.", f"{name}: what is it?"):
            tokens = tokenizer.encode(text).tokens
            assert any(tokens[at : at + len(alone)] == alone for at in range(len(tokens))), (text, tokens)


def test_the_same_texts_give_the_same_tokenizer():
    """Training twice on the same texts gives the same vocabulary and merges."""
    texts = [row["messages"][1]["content"] for row in generate(seed=0, train_rows=200, valid_rows=1)["train"]]
    assert train(texts, 400).to_str() == train(texts, 400).to_str()


def test_the_chat_template_marks_every_turn(loaded, tokenizer):
    """A tool's result is a user turn, the response is opened, and mlx-lm stops at <|im_end|> only."""
    assert loaded.eos_token_ids == {tokenizer.token_to_id("<|im_end|>")}
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "A"},
        {"role": "tool", "content": "R"},
    ]
    assert loaded.decode(format_prompt(loaded, messages)) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nR\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("name", SPECS)
def test_the_shipped_tokenizers_fit_the_data(name):
    """With a shipped tokenizer no example of the data is longer than 512 tokens."""
    shipped = Tokenizer.from_file(str(resource(f"data/models/{name}/tokenizer.json")))
    rows = generate(seed=0)["train"]
    assert max(sum(len(shipped.encode(m["content"]).ids) + 5 for m in row["messages"]) for row in rows) < 512
