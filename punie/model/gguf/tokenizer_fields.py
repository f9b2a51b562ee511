"""Tokenizers, written: the metadata from which ``tokenizer`` makes the same tokenizer.json again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from punie.model.gguf import tokenizer
from punie.model.gguf.file import Metadata, Refused
from punie.model.gguf.tokenizer import Json
from punie.util.jsonl import excerpt

_BYTES = re.compile(r"<0x[0-9A-F]{2}>")
_DIVISION = {"normalizer", "pre_tokenizer", "ignore_merges"}
"""What a family decides."""


def fields(given: Any, vocabulary: int, *, pre: str | None = None) -> dict[str, Any]:
    """The metadata of a tokenizer of transformers; ``tokenizer.files`` undoes it, which is checked.

    ``vocabulary`` is the number of rows of the embedding. ``pre`` names the family that is to divide text if
    the tokenizer's way has no name; prompts may then have other tokens.

    Raises:
        Refused: llama.cpp has no such tokenizer.
    """
    whole = _effects(json.loads(given.backend_tokenizer.to_str()))
    texts, merges = whole["tokens"], whole["merges"]
    if beyond := [text for text, number in texts.items() if number >= vocabulary]:
        raise Refused(
            "The tokenizer has tokens for which the model's embedding has no row.",
            where="tokenizer.json",
            found=f"{excerpt(beyond[0])}, one of {len(beyond)}",
            expected=f"ids below {vocabulary}",
        )
    found: dict[str, Any] = {"model": "llama"}
    if not whole["byte_fallback"]:
        found = {"model": "gpt2", "pre": pre or _named(whole), "merges": [" ".join(pair) for pair in merges]}
    special = {text: flags[0] for text, flags in whole["added"].items()}
    unknown = getattr(given, "unk_token", None) if whole["byte_fallback"] else None
    filler = {f"[PAD{number}]": number for number in {*range(vocabulary)} - {*texts.values()}}
    every = dict(sorted((texts | filler).items(), key=lambda each: each[1]))

    def kind(text: str) -> int:
        if text == unknown:
            return tokenizer.UNKNOWN
        if text in special:
            return tokenizer.CONTROL if special[text] else tokenizer.USER
        if text in filler:
            return tokenizer.UNUSED
        return tokenizer.BYTE if whole["byte_fallback"] and _BYTES.fullmatch(text) else tokenizer.NORMAL

    found |= {"tokens": list(every), "token_type": [kind(text) for text in every]}
    if whole["byte_fallback"]:
        ranks = {"".join(pair): -float(rank) for rank, pair in reversed([*enumerate(merges)])}
        found["scores"] = [ranks.get(text, -float(len(merges))) for text in every]
        found["add_space_prefix"] = any(step["type"] == "Prepend" for step in whole["normalizer"])
    ids = {key: getattr(given, f"{name}_token_id", None) for name, key in tokenizer.NAMES.items()}
    ends = sorted({*given.eos_token_ids} - {ids["eos"]} - {texts.get(text) for text in tokenizer.ENDS})
    ids |= dict(zip(("eot", "eom"), ends, strict=False))
    found |= {f"{key}_token_id": number for key, number in ids.items() if number is not None}
    framed = given.backend_tokenizer.encode("a")
    found["add_bos_token"] = framed.ids[0] == ids["bos"] and bool(framed.special_tokens_mask[0])
    result = {f"tokenizer.ggml.{key}": value for key, value in found.items()}
    template = given.chat_template
    for name, text in ({"default": template} if isinstance(template, str) else template).items():
        if ids["bos"] is None and "bos_token" in text:
            raise Refused(
                "The chat template writes bos_token, which the tokenizer does not have.",
                where=f"chat template {name}",
                found="nothing is written in training; llama.cpp would write its token 11",
                next_step="take {{ bos_token }} out of the template, and run again",
            )
        result[f"tokenizer.chat_template{'' if name == 'default' else f'.{name}'}"] = text
    _require_same(whole, result, vocabulary, {*given.eos_token_ids}, set() if pre is None else _DIVISION)
    return result


def _effects(built: Json) -> Json:
    """What of a tokenizer.json decides the tokens of a text, in a form that can be compared."""
    model = built["model"]
    if model["type"] != "BPE":
        raise Refused("llama.cpp has no such tokenizer.", found=model["type"], expected="BPE")
    flags = ("special", "lstrip", "rstrip", "single_word")
    added = {each["content"]: each for each in built["added_tokens"]}
    pairs = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"]]
    return {
        "normalizer": list(_steps(built["normalizer"])),
        "pre_tokenizer": list(_steps(built["pre_tokenizer"])),
        "added": {text: [each[flag] for flag in flags] for text, each in added.items()},
        "tokens": model["vocab"] | {text: each["id"] for text, each in added.items()},
        "merges": [tuple(pair) for pair in pairs],
        "byte_fallback": model["byte_fallback"],
        "ignore_merges": model["ignore_merges"],
    }


def _steps(part: Json | None) -> Iterator[Json]:
    """The steps of a normalizer or pre-tokenizer, without what changes offsets only."""
    if part is None:
        return
    if part["type"] == "Sequence":
        for each in part.get("normalizers", part.get("pretokenizers", ())):
            yield from _steps(each)
    else:
        yield {key: value for key, value in part.items() if key != "trim_offsets"}


def _named(whole: Json) -> str:
    """The name of the family that divides text as a tokenizer does.

    Raises:
        Refused: There is none.
    """
    for name, family in tokenizer.FAMILIES.items():
        steps = {"normalizer": tokenizer.normalizer(family), "pre_tokenizer": tokenizer.pre_tokenizer(family)}
        same = all(list(_steps(part)) == whole[key] for key, part in steps.items())
        if same and family.whole_words == whole["ignore_merges"]:
            return name
    raise Refused(
        "llama.cpp has no name for the way in which the model's tokenizer divides text.",
        where="tokenizer.json, pre_tokenizer",
        found=excerpt([each.get("pattern", each["type"]) for each in whole["pre_tokenizer"]]),
        expected=f"that of one of {', '.join(tokenizer.FAMILIES)}",
        next_step="--pre NAME takes one of these: the weights are right, but prompts may get other tokens; "
        "--prove shows which",
    )


def _require_same(whole: Json, written: Metadata, vocabulary: int, ends: set[int], decided: set[str]) -> None:
    """Refuse a tokenizer that is not read back as it was; but for what was ``decided``."""
    read = tokenizer.files(written, vocabulary)
    back = _effects(read["tokenizer.json"])
    for each in [text for text in back["tokens"] if text not in whole["tokens"]]:
        del back["tokens"][each]
    if whole["byte_fallback"]:  # of splits of the same token, the order is lost, and does not matter
        for each in (whole, back):
            each["merges"] = [set(each["merges"]), list(dict.fromkeys("".join(p) for p in each["merges"]))]
    wrong = [key for key in whole.keys() - decided if whole[key] != back[key]]
    if lost := ends - set(read["generation_config.json"].get("eos_token_id", ())):
        wrong.append(f"the end tokens {sorted(lost)}")
    if wrong:
        raise Refused(
            "A GGUF file cannot hold the model's tokenizer.",
            where="tokenizer.json",
            found=f"other {', '.join(sorted(wrong))} when read back",
        )
