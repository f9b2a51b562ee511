"""The build of an embedded model, its tokenizer, and the models that come with punie."""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from tokenizers import Tokenizer

from punie.commands import tiny as command
from punie.embedded.build import ADDED, build, save_tokenizer, train_tokenizer
from punie.embedded.cards import contradicts, read_record
from punie.embedded.conversations import Corpus
from punie.embedded.generate import generate
from punie.embedded.specs import SPECIAL, SPECS
from punie.formats.chat import Chat, Conversation
from punie.formats.code_mode import FORMAT
from punie.model import load
from punie.store.keys import file_digest
from punie.util.errors import PunieError
from punie.util.paths import resource

FILES = {
    "README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
    "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return build(replace(SPECS["tiny"], steps=3), tmp_path_factory.mktemp("models") / "tiny")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(["build", *map(str, words)]))


@pytest.mark.long
@pytest.mark.parametrize("name", SPECS)
def test_a_recipe_gives_the_same_bytes_in_every_process(name, tmp_path):
    """Two processes that hash strings differently build bit-identical files."""
    for number in "12":
        words = ["tiny", "build", name, "--steps", "6", "--out", str(tmp_path / number / name)]
        environment = {**os.environ, "PYTHONHASHSEED": number}
        subprocess.run([sys.executable, "-m", "punie", *words], env=environment, check=True, cwd=tmp_path)
    assert contents(tmp_path / "1" / name) == contents(tmp_path / "2" / name)


def test_a_build_is_a_folder_that_mlx_lm_loads(short):
    """The folder holds the files of a model and nothing else, and mlx-lm loads it in bfloat16."""
    assert set(contents(short)) == FILES
    loaded = load.load(short)
    assert str(loaded.model.layers[0].self_attn.q_proj.weight.dtype) == "mlx.core.bfloat16"


def test_pretraining_reads_what_the_chat_template_renders(short):
    """Conversations are tokenized in pretraining exactly as the chat template renders them."""
    from punie.embedded.pretrain import encode

    tokenizer = Tokenizer.from_file(str(short / "tokenizer.json"))
    chat = Chat(load.tokenizer(short), FORMAT)
    for row in generate(seed=1, train_rows=60, valid_rows=1)["train"]:
        (example,) = chat.examples(Conversation(row["messages"]), [len(row["messages"]) - 1])
        ids, said = encode(tokenizer, row["messages"])
        assert ids == example.tokens
        assert all(said[example.spans[0][0] : -1])
        assert not said[-1]


def test_a_recipe_without_steps_is_refused(tmp_path):
    """--steps 0 is an error with its remedy, and leaves nothing behind."""
    with pytest.raises(PunieError, match="steps"):
        run("tiny", "--steps", 0, "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SPECS)
def test_shipped_models_are_small_and_as_recorded(name):
    """A shipped model has at most 4 MB, matrices of groups of 64, and the recipe and files of its card."""
    folder = resource(f"data/models/{name}")
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 4_000_000
    config = json.loads((folder / "config.json").read_text())
    widths = [config["hidden_size"], config["intermediate_size"], config.get("moe_intermediate_size", 64)]
    assert all(width % 64 == 0 for width in [*widths, config["num_attention_heads"] * config["head_dim"]])
    built = read_record(folder)
    assert built is not None
    assert built["recipe"] == asdict(SPECS[name])
    assert built["sha256"] == {file: file_digest(folder / file) for file in FILES - {"README.md"}}


def test_a_rebuild_is_compared_to_the_earlier_record():
    """Other files from the same recipe and machine contradict; from another machine they do not."""
    record = {"seed": 0, "machine": {"chip": "A"}, "sha256": {"model.safetensors": "1"}}
    other = record | {"sha256": {"model.safetensors": "2"}}
    assert contradicts(record, other)
    assert not contradicts(record, record)
    assert not contradicts(record, other | {"machine": {"chip": "B"}})
    assert not contradicts(record, None)


def test_the_command_builds_with_another_seed(short, tmp_path, capsys):
    """punie tiny build NAME --steps N --seed S --out DIR writes the folder and prints each file's digest."""
    assert run("tiny", "--steps", 3, "--seed", 1, "--out", tmp_path / "model") == 0
    built = read_record(tmp_path / "model")
    assert built is not None
    assert built["sha256"]["model.safetensors"] in capsys.readouterr().out
    assert contents(tmp_path / "model")["model.safetensors"] != contents(short)["model.safetensors"]


@pytest.fixture(scope="module")
def tokenizer():
    corpus = Corpus(0, 0.1)
    return train_tokenizer((each["content"] for _ in range(300) for each in corpus.conversation()), 640)


@pytest.fixture(scope="module")
def loaded(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_tokenizer(tokenizer, folder, longest=2048)
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


def test_the_chat_template_marks_every_turn(loaded, tokenizer):
    """A tool's result is a user turn, the response is opened, and mlx-lm stops at <|im_end|> only."""
    assert loaded.eos_token_ids == {tokenizer.token_to_id("<|im_end|>")}
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "A"},
        {"role": "tool", "content": "R"},
    ]
    assert Chat(loaded, FORMAT).prompt(Conversation(messages)) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\nR\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("name", SPECS)
def test_the_shipped_tokenizers_fit_the_data(name):
    """With a shipped tokenizer no example of the data is longer than 512 tokens."""
    shipped = Tokenizer.from_file(str(resource(f"data/models/{name}/tokenizer.json")))
    rows = generate(seed=0)["train"]
    assert max(sum(len(shipped.encode(m["content"]).ids) + 5 for m in row["messages"]) for row in rows) < 512
