"""Build an embedded model from its seed: tokenizer, pretraining, and the files of an mlx-lm model."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from punie.embedded.cards import write_card
from punie.embedded.conversations import Corpus, chain
from punie.embedded.phrasings import Values, draw_task, draws
from punie.embedded.specs import SPECIAL, Spec
from punie.formats.code_mode import wrap
from punie.formats.tools import TOOLS
from punie.model import blas
from punie.util.files import write_json, write_text
from punie.util.progress import Bar

ADDED = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
"""Texts that are one token each."""
CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8")

# A word keeps the space before it only inside prose. Names are split at their joints (load_config,
# LoadConfig, src/app.py), and a joint is a token of its own, so that a name has the same tokens in a request
# and in a call, and the model can copy it token by token.
_PIECES = Regex(
    r"</?[a-z]+[=>]| = | [a-z]+(?=[ ,?;:\n]|\.?$|\.\s)|[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]|\n+| |[_/.$`]"
    r"|[^\sA-Za-z0-9_/.$`]+|\s+"
)
_CONVERSATIONS = 5_000
"""Conversations that the tokenizer learns from."""
_CARD = """\
# {name}: a {model_type} model that comes with punie

Built by `punie tiny build {name}`, trained from random weights on generated conversations about the 26 tools
of `punie/formats/tools.py`. It knows the tools by name and answers in prose or with plain calls. Fine-tuning
teaches it the tool-call format, which puts code into `execute_code`. It is only useful for studying
fine-tuning and evaluation. Figures are in `docs/tiny-models.md`.

A rebuild with the same recipe, libraries and machine gives files with these digests.
"""


def build(spec: Spec, out: Path, *, seed: int = 0, bar: Bar = lambda done, note="": None) -> Path:
    """Build a model folder and return it; on one machine with one set of libraries, always the same bytes.

    An existing folder is replaced once the new one is complete. ``seed`` decides initial weights and corpus.
    """
    blas.activate()
    import mlx.core as mx
    from mlx.utils import tree_flatten

    from punie.embedded.pretrain import new_model, pretrain

    tokenizer = train_tokenizer(_texts(spec, seed), spec.vocabulary)
    model = new_model(spec, seed)
    pretrain(model, tokenizer, spec, seed=seed, bar=bar)
    ids = {"eos_token_id": SPECIAL[-1], "pad_token_id": SPECIAL[0]}
    ids = {name: tokenizer.token_to_id(token) for name, token in ids.items()}
    recipe = asdict(spec)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        folder = Path(scratch) / out.name
        folder.mkdir()
        flat = dict(tree_flatten(model.parameters()))
        weights = {name: flat[name].astype(mx.bfloat16) for name in sorted(flat)}
        (folder / "model.safetensors").touch()  # mlx would let nobody else write it
        mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
        write_json(folder / "config.json", spec.config() | ids)
        write_json(folder / "generation_config.json", ids | {"do_sample": False})
        save_tokenizer(tokenizer, folder, longest=spec.context)
        write_card(folder, _CARD.format(**recipe), {"seed": seed, "recipe": recipe, **_surroundings()})
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)
    return out


def _surroundings() -> dict[str, Any]:
    """The libraries and the machine, which decide the bytes too."""
    from punie.run.capture import capture

    about = capture()
    return {
        "libraries": {name: about.packages[name] for name in ("mlx", "mlx-lm", "numpy", "tokenizers")},
        "machine": {"chip": about.machine and about.machine.chip, "blas": blas.activate().source},
    }


def _texts(spec: Spec, seed: int) -> Iterator[str]:
    """Texts for the tokenizer: the corpus, and code in the tool-call format, which the model never sees."""
    corpus = Corpus(seed, spec.novel / 3)
    for _ in range(_CONVERSATIONS):
        for message in corpus.conversation():
            yield message["content"]
    values = Values(draws("wrapped", seed))
    for tool in TOOLS:
        for _ in range(20):
            yield wrap(chain([draw_task(tool, "train", values)]))


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learn the merges from texts; the same texts in the same order give the same tokenizer.

    ``vocabulary`` is the number of tokens, special and added ones included.
    """
    tokenizer = Tokenizer(models.BPE())
    pieces = pre_tokenizers.Split(_PIECES, behavior="isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(ADDED),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in ADDED])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, *, longest: int) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja; ``longest`` is in tokens."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": SPECIAL[-1],
        "pad_token": SPECIAL[0],
        "bos_token": None,
        "model_max_length": longest,
        "clean_up_tokenization_spaces": False,
    }
    write_text(folder / "tokenizer.json", json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False))
    write_json(folder / "tokenizer_config.json", config)
    write_text(folder / "chat_template.jinja", CHAT_TEMPLATE)
