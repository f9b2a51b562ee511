import argparse
import json

import pytest

from punie.commands import tiny as command
from punie.embedded import model_card as card
from punie.embedded.build import build
from punie.embedded.generate import generate
from punie.embedded.specs import SPECS
from punie.formats.prompts import format_example
from punie.model import blas, load
from punie.util.errors import PunieError
from punie.util.paths import resource

FILES = {
    "README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
    "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip

blas.activate()


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return build("tiny", tmp_path_factory.mktemp("models") / "tiny", steps=3)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_a_recipe_gives_the_same_bytes_twice(name, tmp_path):
    """A shortened recipe built twice gives bit-identical files, the card with the digests included."""
    first, second = (build(name, tmp_path / number / name, steps=6) for number in "12")
    assert contents(first) == contents(second)


def test_another_seed_gives_other_weights(short, tmp_path):
    """The seed decides the weights."""
    other = build("tiny", tmp_path / "tiny", seed=1, steps=3)
    assert contents(other)["model.safetensors"] != contents(short)["model.safetensors"]


def test_a_build_is_a_folder_that_mlx_lm_loads(short):
    """The folder holds what a model needs and nothing else, and mlx-lm loads it in bfloat16."""
    assert set(contents(short)) == FILES
    loaded = load.load(short)
    assert str(loaded.model.layers[0].self_attn.q_proj.weight.dtype) == "mlx.core.bfloat16"


def test_a_build_tells_its_progress(tmp_path):
    """Every step is told, with its loss."""
    told = []
    build("tiny_dense", tmp_path / "dense", steps=2, progress=lambda done, note="": told.append((done, note)))
    assert [done for done, _ in told] == [1, 2]
    assert all(note.startswith("loss ") for _, note in told)


def test_pretraining_reads_what_the_chat_template_renders(short):
    """Conversations are tokenized in pretraining exactly as the shipped chat template renders them."""
    from tokenizers import Tokenizer

    from punie.embedded.pretrain import encode

    tokenizer = Tokenizer.from_file(str(short / "tokenizer.json"))
    wrapper = load.tokenizer(short)
    for row in generate(seed=1, train_rows=60, valid_rows=1)[0]:
        tokens, prompt = format_example(wrapper, row["messages"])
        ids, said = encode(tokenizer, row["messages"])
        assert ids == tokens
        assert all(said[prompt:-1])
        assert not said[-1]


@pytest.mark.parametrize(("name", "steps"), [("huge", None), ("tiny", 0)])
def test_what_cannot_be_built_is_refused(name, steps, tmp_path):
    """An unknown name or a recipe without steps is an error for people, and leaves nothing behind."""
    with pytest.raises(PunieError):
        build(name, tmp_path / "out", steps=steps)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SPECS)
def test_shipped_models_are_small_and_quantizable(name):
    """A shipped model is at most 4 MB, and every matrix splits into groups of 64."""
    folder = resource(f"data/models/{name}")
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 4_000_000
    config = json.loads((folder / "config.json").read_text())
    widths = [config["hidden_size"], config["intermediate_size"], config.get("moe_intermediate_size", 64)]
    assert all(width % 64 == 0 for width in widths)
    assert config["num_attention_heads"] * config["head_dim"] % 64 == 0


@pytest.mark.parametrize("name", SPECS)
def test_shipped_models_are_what_their_cards_say(name):
    """The digests on a shipped card are those of the files, and its recipe is the one in the code."""
    import dataclasses

    from punie.store.keys import file_digest

    folder = resource(f"data/models/{name}")
    built = card.read(folder)
    assert built is not None
    assert built["recipe"] == dataclasses.asdict(SPECS[name])
    assert built["sha256"] == {file: file_digest(folder / file) for file in FILES - {"README.md"}}


def test_a_rebuild_is_held_to_the_earlier_record():
    """Other files from the same recipe and machine contradict; from another machine they do not."""
    record = {"seed": 0, "machine": {"chip": "A"}, "sha256": {"model.safetensors": "1"}}
    other = record | {"sha256": {"model.safetensors": "2"}}
    assert card.contradicts(record, other)
    assert not card.contradicts(record, record)
    assert not card.contradicts(record, other | {"machine": {"chip": "B"}})
    assert not card.contradicts(record, None)


def test_the_command_builds_and_prints_digests(tmp_path, capsys):
    """punie tiny build NAME --steps N --out DIR writes the folder and prints each file's digest."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    out = tmp_path / "model"
    assert command.run(parser.parse_args(["build", "tiny", "--steps", "2", "--out", str(out)])) == 0
    built = card.read(out)
    assert built is not None
    assert built["sha256"]["model.safetensors"] in capsys.readouterr().out
