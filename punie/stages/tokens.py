"""The data as tokens: rendered by the model's own chat template, every row checked, kept by content.

Tokenized splits are artifacts of the store (``tokens``), shared by preflight and training, by every run
over the same data and tokenizer, and by the workers of a training.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.model.device import version
from punie.model.folders import vocabulary
from punie.stages import chats
from punie.stages.contract import READING, Contents
from punie.stages.inputs import SPLITS, base_folder, data_digests, data_folder
from punie.stages.slices import Preflight, Train
from punie.store.artifacts import Artifact, Store
from punie.store.keys import SCHEMA, artifact_key
from punie.store.leases import lease
from punie.store.sources import sourced
from punie.util.errors import DataError, Problems

if TYPE_CHECKING:
    from punie.data.rows import Check

VERSION = 2
FILE = "rows.safetensors"
_SHOWN = 20
_SOURCES = (*READING, "stages/tokens.py", "train/batches.py")


def tokenized(
    settings: Preflight | Train,
    split: str,
    tokenizer: Any,
    tokenizer_digests: dict[str, str],
    *,
    leases: contextlib.ExitStack | None = None,
) -> Artifact:
    """The tokenized examples of a split such as ``train.jsonl``; ``batches.load_rows`` reads them.

    Nothing deletes them before ``leases`` ends.

    Raises:
        Problems: Examples that cannot be trained on, the first twenty of them.
    """
    material = _material(settings, split, tokenizer_digests)

    def build(out: Path) -> Contents:
        from punie.train.batches import save_rows

        folder = data_folder(settings.data)
        checks = check(settings, tokenizer, [folder / name for name in SPLITS])
        tokenized = tokenize(folder / split, checks)
        save_rows(out / FILE, tokenized.examples)
        lengths = [len(each.tokens) for each in tokenized.examples]
        found = {
            "rows": len(lengths),
            "examples": tokenized.count,
            "tokens": sum(lengths),
            "longest": max(lengths),
        }
        return found | {"findings": dict(tokenized.findings), "unused": dict(tokenized.unused)}

    store = Store(Path(settings.store.dir))
    if leases is not None:
        leases.enter_context(lease(store, "tokens", artifact_key(material)))
    artifact, _ = store.get_or_build("tokens", material, build)
    return artifact


def known(settings: Preflight | Train, split: str, tokenizer_digests: dict[str, str]) -> Artifact | None:
    """The tokenized examples of a split, if the store has them."""
    material = _material(settings, split, tokenizer_digests)
    return Store(Path(settings.store.dir)).find("tokens", artifact_key(material))


def _material(settings: Preflight | Train, split: str, tokenizer_digests: dict[str, str]) -> Contents:
    lora = settings.lora
    material = {
        "schema": SCHEMA,
        "stage": "tokens",
        "version": VERSION,
        "settings": {
            "lora.max_seq_length": lora.max_seq_length,
            "lora.mask_prompt": lora.mask_prompt,
            "lora.supervise": lora.supervise,
            **({"data.too_long": settings.data.too_long} if settings.data.too_long != "truncate" else {}),
            **chats.decisive_options(settings),
        },
        "contents": {
            "data": data_digests(settings.data)[split],
            "tokenizer": tokenizer_digests,
            **chats.contents(settings),
        },
        "libraries": {name: version(name) for name in ("transformers", "tokenizers")},
    }
    return sourced(material, *_SOURCES)


def check(settings: Preflight | Train, tokenizer: Any, files: Iterable[Path]) -> Check:
    """The check of examples that a run's settings ask for.

    ``files`` hold the examples. Where none of them declares tools, calls of undeclared ones are allowed.

    Raises:
        PunieError: The tools cannot be read, or the template does not work with the format.
    """
    from punie.data.rows import Check

    lora, chat = settings.lora, chats.chat(settings, tokenizer)
    return Check(
        chat.format,
        chat,
        {tool.name: tool for tool in chats.tools(settings)},
        limit=lora.max_seq_length,
        every_turn=lora.mask_prompt and lora.supervise == "all_turns",
        mask_prompt=lora.mask_prompt,
        too_long=settings.data.too_long,
        vocabulary=vocabulary(base_folder(settings)),
        declared=chats.declares(settings, files),
    )


@dataclass(frozen=True)
class Tokenized:
    """A split that can be trained on."""

    examples: list[Any]
    """Each as ``batches.Row``, cut to length, with at least one token with loss."""
    count: int
    """Examples in the file; one of several turns may be rendered several times, and a long one left out."""
    findings: Counter[str]
    """Number of examples by what is doubtful about them."""
    unused: Counter[str]
    """Number of examples by the keys that nothing reads."""


def tokenize(path: Path, check: Check) -> Tokenized:
    """Every example of a file.

    Raises:
        Problems: Examples that cannot be trained on, the first twenty of them.
    """
    from punie.data.load import load_rows, unused_keys
    from punie.data.rows import NEXT_STEPS
    from punie.train.batches import Row

    rows = load_rows(path)
    examples, findings = [], Counter[str]()
    lines: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        name = f"{path.name}:{row.line}"
        checked = check.row(row, name)
        errors = [each for each in checked.findings if each.severity == "error"]
        for each in errors:
            lines.setdefault((each.kind, each.what), []).append(row.line)
        findings.update({each.kind for each in checked.findings} - {each.kind for each in errors})
        examples += [Row(name, each.tokens, tuple(each.spans)) for each in checked.examples]
    problems = [
        DataError(
            what,
            where=f"{path}:{first}" + (f" and {len(more):,} more lines" if more else ""),
            next_step=NEXT_STEPS.get(kind),
        )
        for (kind, what), (first, *more) in lines.items()
    ]
    if not problems and not examples:
        problems.append(DataError("No example is left to train on.", where=path.name, found=dict(findings)))
    if problems:
        more = len(problems) - _SHOWN
        listed = problems[:_SHOWN]
        if more > 0:
            listed.append(
                DataError(f"… and {more:,} more problems of {path.name}.", next_step="punie data check")
            )
        raise Problems(f"{path} cannot be trained on:", listed)
    return Tokenized(examples, len(rows), findings, unused_keys(rows))
