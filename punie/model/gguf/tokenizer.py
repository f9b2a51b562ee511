"""Tokenizers: tokenizer.json and tokenizer_config.json from the metadata of a GGUF file.

A GGUF holds vocabulary and merges (or scores); how text is divided before merging is known by name only. The
patterns are those of the models' own tokenizer.json. docs/howto/model.md names the families.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from punie.model.gguf.file import Metadata, Refused
from punie.util.jsonl import excerpt

Json = dict[str, Any]

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)
"""Types of tokens."""
_LONGEST = 1000
"""Limit on a token; characters. All of its divisions are tried where merges are made from scores."""
ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<turn|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
)
"""Control tokens that end a turn, whether or not a GGUF says so; llama.cpp, too, knows them by their text."""

_SUFFIX = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
)
_CASED_SUFFIX = _CASED.replace("+|", f"+{_SUFFIX}?|") + f"{_SUFFIX}?"
_CASED_REST = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CJK = "[一-龥\u3040-ゟ゠-ヿ]+"
_HAN = "[一-龥ࠀ-一가-\ud7ff]+"


@dataclass(frozen=True)
class Family:
    """How a family of byte-level tokenizers divides text."""

    patterns: tuple[str, ...] = ()
    """Each divides what the ones before it left."""
    gpt2: bool = False
    """GPT-2's pattern follows."""
    last: tuple[str, ...] = ()
    """Patterns after it."""
    digits: bool = False
    """Each digit is by itself, before all else."""
    nfc: bool = False
    """Text is composed by Unicode's NFC."""
    whole_words: bool = False
    """A word that is a token is not built by merges."""
    begins: bool = False
    """A text begins with the first token, unless add_bos_token says otherwise."""


_LLAMA3 = Family((rf"{_SUFFIX}|{_WORD}|\p{{N}}{{1,3}}|{_REST}",), whole_words=True, begins=True)
_QWEN2 = Family((rf"{_SUFFIX}|{_WORD}|\p{{N}}|{_REST}",), nfc=True)
_QWEN35 = Family(
    (
        rf"{_SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
        r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
)
_DIGITS = Family(digits=True, gpt2=True)
_GPT2 = Family(gpt2=True)
_DEEPSEEK3 = Family(
    (
        r"\p{N}{1,3}",
        _CJK,
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    )
)
_GPT4O = Family((rf"{_CASED_SUFFIX}|\p{{N}}{{1,3}}|{_CASED_REST}",))

FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2"), _LLAMA3),
    **dict.fromkeys(("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"), Family(_LLAMA3.patterns)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "solar-open"), _QWEN2),
    "qwen35": _QWEN35,
    **dict.fromkeys(("gpt-2", "phi-2", "olmo", "mpt", "jais", "trillion", "granite-docling"), _GPT2),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), _DIGITS
    ),
    "deepseek-llm": Family(
        (
            r"[\r\n]",
            r"\s?[\p{Lu}\p{Ll}\p{Lt}]+",
            "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+",
            r"\s+$",
            _HAN,
            r"\p{N}+",
        )
    ),
    "deepseek-coder": Family((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _HAN, r"\p{N}")),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm"), _DEEPSEEK3),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "minimax-m2"), _GPT4O),
    "tekken": Family((rf"{_CASED}|\p{{N}}|{_CASED_REST}",), whole_words=True, begins=True),
    "seed-coder": Family(
        (rf"{_SUFFIX}|{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",)
    ),
    "falcon": Family((r"[\p{P}\$\+<=>\^~\|`]+",), gpt2=True, last=("[0-9][0-9][0-9]",)),
}
"""By the name in tokenizer.ggml.pre."""


def files(metadata: Metadata, vocabulary: int) -> dict[str, Json]:
    """The files of the tokenizer, by name; ``vocabulary`` is the number of rows of the embedding.

    Raises:
        Refused: There is no tokenizer, it is of a kind that punie does not read, or its parts do not fit.
    """
    family = require_known(metadata)
    read = _Vocabulary.of(metadata, vocabulary)
    built = _byte_level(read, family) if family else _sentencepiece(read)
    ends = [read.special("eos"), read.special("eot"), read.special("eom"), *map(read.tokens.get, ENDS)]
    stops = sorted({each for each in ends if each is not None})
    named = {f"{name}_token": read.special(key) for name, key in NAMES.items()}
    config: Json = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{name: read.texts[each] for name, each in named.items() if each is not None},
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1 << 30,
    }
    if template := _template(metadata):
        config["chat_template"] = template
    generation: Json = {"bos_token_id": read.special("bos"), "eos_token_id": stops}
    return {
        "tokenizer.json": built,
        "tokenizer_config.json": config,
        "generation_config.json": {
            name: value for name, value in generation.items() if value not in (None, [])
        },
    }


def require_known(metadata: Metadata) -> Family | None:
    """The family of a byte-level tokenizer; None if it is one of SentencePiece's kind.

    Raises:
        Refused: It is of no kind that punie reads.
    """
    kind, name = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if kind == "gpt2" and isinstance(name, str) and name in FAMILIES:
        return FAMILIES[name]
    if kind in ("llama", "gemma4"):
        return None
    known = "gpt2 (byte-level BPE), llama (SentencePiece BPE) or gemma4"
    raise Refused(
        "The GGUF file has no tokenizer that punie reads.",
        where="tokenizer.ggml.pre" if kind == "gpt2" else "tokenizer.ggml.model",
        found=excerpt(name if kind == "gpt2" else kind),
        expected=", ".join(FAMILIES) if kind == "gpt2" else known,
        next_step="give the model's folder with its tokenizer.json",
    )


NAMES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
"""Special tokens: transformers' name, and the GGUF's."""


@dataclass(frozen=True)
class _Vocabulary:
    """The tokenizer's part of the metadata, checked."""

    metadata: Metadata
    texts: Sequence[str]
    """By id."""
    kinds: Sequence[int]
    tokens: Mapping[str, int]
    """Ids by text."""

    @classmethod
    def of(cls, metadata: Metadata, vocabulary: int) -> _Vocabulary:
        texts, kinds = _listed(metadata, "tokens", str), metadata.get("tokenizer.ggml.token_type")
        if kinds is None:
            kinds = [NORMAL] * len(texts)
        tokens = {text: number for number, text in enumerate(texts)}
        if long := next((text for text in texts if len(text) > _LONGEST), None):
            raise Refused(
                "The tokenizer of the GGUF file is damaged.",
                where="tokenizer.ggml.tokens",
                found=f"a token of {len(long)} characters, {excerpt(long)}",
            )
        if not texts or len(texts) > vocabulary or len(kinds) != len(texts) or len(tokens) != len(texts):
            raise Refused(
                "The tokenizer of the GGUF file does not fit together.",
                where="tokenizer.ggml.tokens",
                found=f"{len(texts)} tokens, {len(tokens)} of them distinct, {len(kinds)} types",
                expected=f"at most {vocabulary}, as the embedding has rows",
            )
        return cls(metadata, texts, kinds, tokens)

    def special(self, name: str) -> int | None:
        """The id of a special token; None if there is none."""
        found = self.metadata.get(f"tokenizer.ggml.{name}_token_id")
        return found if type(found) is int and 0 <= found < len(self.texts) else None

    def flag(self, name: str, default: bool) -> bool:
        found = self.metadata.get(f"tokenizer.ggml.{name}", default)
        return found if type(found) is bool else default

    def added(self) -> list[Json]:
        """Tokens that are found in a text as they are, before it is divided."""
        return [
            {
                "id": number, "content": self.texts[number], "special": kind != USER,
                "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            }
            for number, kind in enumerate(self.kinds)
            if kind in (UNKNOWN, CONTROL, USER) and self.texts[number]
        ]  # fmt: skip

    def whole(self, *, begins: bool, **parts: Any) -> Json:
        """A tokenizer.json of these parts; ``begins`` puts the first token before a text."""
        first = self.special("bos") if self.flag("add_bos_token", begins) else None
        post = None
        if first is not None:
            text = self.texts[first]
            begin = {"SpecialToken": {"id": text, "type_id": 0}}
            a, b = ({"Sequence": {"id": name, "type_id": at}} for at, name in enumerate("AB"))
            post = {
                "type": "TemplateProcessing",
                "single": [begin, a],
                "pair": [begin, a, {"SpecialToken": {"id": text, "type_id": 1}}, b],
                "special_tokens": {text: {"id": text, "ids": [first], "tokens": [text]}},
            }
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": self.added(),
            "post_processor": post,
            **parts,
        }


def _byte_level(read: _Vocabulary, family: Family) -> Json:
    """GPT-2's way: the bytes of a text as printable characters, merged within the pieces of a pattern."""
    return read.whole(
        begins=family.begins,
        normalizer=normalizer(family),
        pre_tokenizer=pre_tokenizer(family),
        decoder={**_LEVEL, "use_regex": True},
        model=_bpe(read.tokens, _merges(read), ignore_merges=family.whole_words),
    )


_LEVEL: Json = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}


def normalizer(family: Family) -> Json | None:
    """The normalizer of a family in tokenizer.json."""
    return {"type": "NFC"} if family.nfc else None


def pre_tokenizer(family: Family) -> Json:
    """How a family divides text, in tokenizer.json."""
    steps: list[Json] = [{"type": "Digits", "individual_digits": True}] if family.digits else []
    steps += [_split({"Regex": each}, "Isolated") for each in family.patterns]
    steps.append({**_LEVEL, "use_regex": family.gpt2})
    steps += [_split({"Regex": each}, "Isolated") for each in family.last]
    return {"type": "Sequence", "pretokenizers": steps}


def _sentencepiece(read: _Vocabulary) -> Json:
    """SentencePiece's way: spaces as ▁, merged by score or by rank, and bytes for what has no token."""
    unknown = read.special("unknown")
    prefix = read.flag("add_space_prefix", read.metadata["tokenizer.ggml.model"] == "llama")
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    steps = [{"type": "Prepend", "prepend": "▁"}, space] if prefix else [space]
    back: list[Json] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        back.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    ranked = "tokenizer.ggml.merges" in read.metadata
    return read.whole(
        begins=True,
        normalizer={"type": "Sequence", "normalizers": steps},
        pre_tokenizer=None if prefix else _split({"String": " "}, "MergedWithPrevious"),
        decoder={"type": "Sequence", "decoders": back},
        model=_bpe(
            read.tokens,
            _merges(read) if ranked else _merges_by_score(read),
            unk_token=None if unknown is None else read.texts[unknown],
            fuse_unk=True,
            byte_fallback=True,
        ),
    )


def _split(pattern: Json, behavior: str) -> Json:
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": False}


def _bpe(vocab: Mapping[str, int], merges: Sequence[Sequence[str]], **options: Any) -> Json:
    plain = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
    }  # fmt: skip
    return {**plain, **options, "vocab": vocab, "merges": merges}


def _merges(read: _Vocabulary) -> list[tuple[str, str]]:
    """The pairs that are merged, the first ones first."""
    found = []
    for merge in _listed(read.metadata, "merges", str):
        left, _, right = merge[1:].partition(" ")  # a part is not empty, and may begin with a space
        left = merge[:1] + left
        if left not in read.tokens or right not in read.tokens or left + right not in read.tokens:
            raise Refused(
                "The tokenizer of the GGUF file merges what are not tokens.",
                where="tokenizer.ggml.merges",
                found=excerpt(merge),
            )
        found.append((left, right))
    return found


def _merges_by_score(read: _Vocabulary) -> list[tuple[str, str]]:
    """The pairs that give a token, those of the best token first, as SentencePiece merges."""
    scores = read.metadata.get("tokenizer.ggml.scores")
    if scores is None or len(scores) != len(read.texts):
        raise Refused(
            "The tokenizer of the GGUF file does not fit together.",
            where="tokenizer.ggml.scores",
            found=f"{0 if scores is None else len(scores)} scores",
            expected=len(read.texts),
        )
    plain = {text for text, kind in zip(read.texts, read.kinds, strict=True) if kind not in (CONTROL, BYTE)}
    pairs = [
        (-scores[number], len(text[:at]), read.tokens[text[:at]], text[:at], text[at:])
        for number, text in enumerate(read.texts)
        if text in plain
        for at in range(1, len(text))
        if text[:at] in plain and text[at:] in plain
    ]
    pairs.sort(key=lambda pair: (pair[0], -pair[1], pair[2]))
    return [(left, right) for *_, left, right in pairs]


def _template(metadata: Metadata) -> str | list[Json] | None:
    """The chat template; a list if there are several, by name."""
    whole = metadata.get("tokenizer.chat_template")
    prefix = "tokenizer.chat_template."
    named = [
        {"name": name.removeprefix(prefix), "template": text}
        for name, text in metadata.items()
        if name.startswith(prefix) and isinstance(text, str)
    ]
    if not isinstance(whole, str):
        return None
    return [{"name": "default", "template": whole}, *named] if named else whole


def _listed(metadata: Metadata, name: str, of: type) -> list[Any]:
    found = metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(found, list) or not all(isinstance(each, of) for each in found):
        raise Refused(
            "The GGUF file has no whole tokenizer.",
            where=f"tokenizer.ggml.{name}",
            found=excerpt(found),
            expected="a list of texts",
        )
    return found
