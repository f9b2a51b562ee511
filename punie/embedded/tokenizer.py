"""The tokenizer of the embedded models: a byte-level BPE with a Qwen-style chat template."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from punie.util.files import write_json, write_text

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""Control tokens; the first is the padding, the last ends a turn."""

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


def train(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learn the merges from texts; the same texts in the same order give the same tokenizer.

    Args:
        texts: The texts.
        vocabulary: Number of tokens, special and added ones included.
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


def save(tokenizer: Tokenizer, folder: Path, *, longest: int) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja.

    Args:
        tokenizer: From ``train``.
        folder: Where to write.
        longest: The longest sequence the model takes, in tokens.
    """
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
