"""``punie export`` as GGUF file, for Ollama and for PEFT; in the real runtimes, if they are installed.

CONTRIBUTING says how to run the tests of the runtimes.
"""

from __future__ import annotations

import contextlib
import datetime
from pathlib import Path

import httpx2
import pytest

from punie.__main__ import main
from punie.formats.chat import Conversation
from punie.model import load
from punie.model.gguf.convert import convert
from punie.model.runtimes import NEEDS, installed
from punie.stages import chats
from tests import families
from tests.conftest import World, read_json
from tests.processes import punie

gguf_files = pytest.importorskip("tests.gguf_files", reason="needs punie[gguf]")
DENSE = ("model=tiny_dense", "data=native_tools", "eval=native27", "lora.iters=60", "lora.save_every=60",
         "eval.temperature=0", "eval.max_tokens=32")  # fmt: skip


def export(world: World, run: Path, out: Path, *options: str) -> int:
    """Export where the run ran, to which relative paths of its config belong."""
    with contextlib.chdir(world.cwd):
        return main(["export", str(run), str(out), *options])


def test_a_tokenizer_without_a_name_is_refused(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embedded model's tokenizer has none in llama.cpp, which is said; nothing is left behind."""
    assert export(world, world.first, tmp_path / "out", "--to", "gguf") == 1
    assert "--pre NAME" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_ollama_gets_a_file_and_the_parameters_of_the_evaluation(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The GGUF file is the model; the Modelfile says how the run was evaluated, and has no template."""
    out = tmp_path / "mine"
    assert export(world, world.first, out, "--to", "ollama", "--pre", "qwen2", "--type", "q8_0") == 0
    said = capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"mine-Q8_0.gguf", "Modelfile", "README.md"}
    for words in ("not the quantized weights", "divided as by qwen2", "ollama create mine"):
        assert words in said
    lines = (out / "Modelfile").read_text().splitlines()
    for line in ("FROM ./mine-Q8_0.gguf", "PARAMETER temperature 0.7", "PARAMETER repeat_penalty 1.0",
                 'PARAMETER stop """<|im_end|>"""'):  # fmt: skip
        assert line in lines
    assert not any(line.startswith("TEMPLATE") for line in lines)
    assert any(line.startswith('SYSTEM """') for line in lines)  # that of code_mode
    (back := tmp_path / "back").mkdir()
    convert(out / "mine-Q8_0.gguf", back, dtype="float32")
    folder = read_json(world.first / "results.json")["identity"]
    assert load.tokenizer(back).eos_token_ids == {2}
    assert read_json(back / "config.json")["model_type"] == "qwen3_moe"
    card = (out / "README.md").read_text()
    assert folder["prompts"] in card
    assert "whose weights were rounded otherwise" in card


def test_experts_are_not_for_peft(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The embedded model's adapter is on its experts, too: refused by the first layer's name."""
    assert export(world, world.first, tmp_path / "out", "--to", "peft") == 1
    assert "model.layers." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.runtimes
@pytest.mark.parametrize("runtime", NEEDS)
@pytest.mark.parametrize("tuned", ["lora", "dora"])
def test_the_runtime_answers_as_punie_does(
    world: World, tmp_path: Path, runtime: str, tuned: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Greedy answers are equal token for token; PEFT is proved, and llama.cpp has other tokens of prompts."""
    if not installed(runtime):
        pytest.skip(f"needs {runtime}; see CONTRIBUTING")
    done = punie(*DENSE, f"lora.fine_tune_type={tuned}", cwd=world.cwd)
    assert done.code == 0, done.err
    llama = runtime == "llama.cpp"
    options = ("--to", "gguf", "--pre", "qwen2") if llama else ("--to", "peft")
    code = export(world, world.cwd / done.run_directory, tmp_path / "out", *options, "--prove", "6")
    said = capsys.readouterr().out
    assert code == (1 if llama else 0), said
    assert "6 of 6 greedy answers are equal token for token" in said
    assert ("(the same text)" in said) == llama
    largest = float(said.partition("log-probability ")[2].split()[0])
    assert largest < (0.05 if llama else 1e-3)


DATED = {"meta-llama-Llama-3.1-8B-Instruct", "meta-llama-Llama-3.3-70B-Instruct"}
"""Templates with a date of their own: llama.cpp gives them today's."""
ESCAPED = {"meetkai-functionary-medium-v3.1"}
"""Templates that mark text as safe, for which transformers escapes the quotes of the text beside it."""


@pytest.mark.runtimes
def test_llama_cpp_renders_tools_as_transformers_does(tmp_path: Path) -> None:
    """Every template renders messages and tools to the same text, but for those named above."""
    xllamacpp = pytest.importorskip("xllamacpp", reason="needs llama.cpp; see CONTRIBUTING")
    if not (paths := sorted(families.FOLDER.glob("*.jinja"))):
        pytest.skip("needs the templates; see CONTRIBUTING")
    gguf_files.write(tmp_path / "m.gguf", "llama")
    (folder := tmp_path / "model").mkdir()
    convert(tmp_path / "m.gguf", folder, dtype="float32")
    tokenizer = load.tokenizer(folder)
    given = {"template_date": datetime.date.today().isoformat(), "enable_thinking": True}
    talk = Conversation([families.user("Größe? <b> it's 5 & more")], families.TOOLS)
    same, other, wrong = set(), set(), set()
    for path in paths:
        tokenizer.chat_template = path.read_text("utf-8")
        try:
            chat = chats.build(tokenizer, "native", given)
            prompt, request = chat.prompt(talk), chat.request(talk)
        except Exception:  # families.REASONS has the templates that do not work without options
            continue
        options = xllamacpp.CommonParams()
        options.model.path, options.chat_template = str(tmp_path / "m.gguf"), tokenizer.chat_template
        options.n_ctx, options.port, options.use_jinja, options.warmup = 64, 0, True, False
        server, own = xllamacpp.Server(options), request["chat_template_kwargs"]
        dated = {"date_string": "26 Jul 2024"} if path.stem in DATED else {}
        with httpx2.Client(base_url=server.listening_address, trust_env=False) as client:
            found, told = (
                client.post("/apply-template", json=request | {"chat_template_kwargs": own | each}).json()
                for each in ({}, dated)
            )
        (same if found.get("prompt") == prompt else other).add(path.stem)
        if told.get("prompt") != prompt:
            wrong.add(path.stem)
    print(f"{len(same)} of {len(same | other)} templates")
    assert wrong == ESCAPED
    assert other == DATED | ESCAPED
    assert len(same) > 40
