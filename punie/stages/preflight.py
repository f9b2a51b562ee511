"""preflight: reports together all problems that can be known before weights load.

The inputs are checked once, and the result is this stage's artifact; the machine (``machine``: memory, disk)
is checked before every run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from punie import formats
from punie.config.schema import Config, ModelConfig
from punie.model import resolve
from punie.model.device import device_kind
from punie.model.resolve import NotCached, read_config
from punie.stages import answering, tokens
from punie.stages.contract import Contents, Inputs, Stage
from punie.stages.inputs import SPLITS, base_folder, data_digests, data_folder, suite_digest, suite_path
from punie.stages.memory import weights_shortage
from punie.stages.slices import Preflight
from punie.util.errors import DataError, Problems, PunieError, each_problem
from punie.util.files import disk_shortage, write_json
from punie.util.progress import Reporter

SINGLE_TOKENS = ("<|im_start|>", "<|im_end|>")
"""A Qwen-style model must have these as single tokens, and those of the tool-call format."""


def contents(settings: Preflight) -> Contents:
    """Digests of data, suite and tokenizer; a model that is not here yet is checked when it is."""
    found: Contents = {
        "data": data_digests(settings.data.path),
        "suite": suite_digest(settings.eval.suite),
        "system_prompt": answering.system_prompt(settings.eval.system_prompt),
    }
    if settings.lora.select == "best_eval":
        found["select_suite"] = suite_digest(settings.lora.select_suite)
    try:
        folder = base_folder(settings.model)
    except NotCached:
        return found
    return found | {"tokenizer": resolve.tokenizer_contents(folder), "layers": _depth(settings.model)}


def run(settings: Preflight, inputs: Inputs, out: Path, reporter: Reporter) -> Contents:
    """Check data, suite and tokenizer against each other; write preflight.json.

    Raises:
        Problems: Everything that would make the run fail or its score meaningless.
    """
    from punie.data.load import load_rows
    from punie.evals.suite import load_suite

    problems: list[PunieError] = []
    warnings: list[str] = []

    def attempt(load: Callable[[Path], list[Any]], path: Path) -> list[Any] | None:
        try:
            return load(path)
        except PunieError as error:
            problems.extend(each_problem(error))
            return None

    folder = data_folder(settings.data.path)
    loaded = {name: rows for name in SPLITS if (rows := attempt(load_rows, folder / name)) is not None}
    problems += _counts(settings, loaded)
    problems += _recipe(settings)
    suite = attempt(load_suite, suite_path(settings.eval.suite)) or []
    longest: dict[str, int] = {}
    if not problems:
        warnings += _overlaps(loaded, suite, answering.system_prompt(settings.eval.system_prompt))
        problems += _rendering(settings, suite, longest)
    if problems:
        raise Problems("The run cannot start:", problems)
    for warning in warnings:
        reporter.line(f"  note: {warning}", style="yellow")
    found = {
        "rows": {name: len(rows) for name, rows in loaded.items()},
        "prompts": len(suite),
        "longest": longest,
        "warnings": warnings,
    }
    write_json(out / "preflight.json", found)
    return found


def machine(config: Config, needed_bytes: int, parameters: int | None) -> Iterator[PunieError]:
    """What this machine lacks for the run, each with what would help."""
    if found := disk_shortage(Path(config.store.dir), needed_bytes, "the stages to run"):
        yield found
    sizes = _config(config.model)
    sparse_and_plain = bool(sizes.get("num_experts")) and "quantization" not in sizes
    if device_kind() == "cpu" and not config.runtime.cpu_float32 and sparse_and_plain:
        yield PunieError(
            "MLX on a CPU cannot compute experts in half precision.",
            where="runtime.cpu_float32=false",
            next_step="runtime.cpu_float32=true, or a quantized or dense model",
        )
    if config.quantize.bits is not None and config.eval.target == "quantized":
        yield from _undivided(sizes, config.quantize.group_size)
    if config.eval.server.url:
        from punie.evals.endpoint import checked_url

        try:
            checked_url(config.eval.server.url)
        except PunieError as error:
            yield error
    if found := weights_shortage(config, parameters):
        yield found


def _undivided(sizes: Mapping[str, Any], group: int) -> Iterator[PunieError]:
    """Layers whose inputs the quantization's groups do not divide, as far as config.json says."""
    inputs = ["hidden_size", "moe_intermediate_size"] + ["intermediate_size"] * (not sizes.get("num_experts"))
    found = {name: sizes.get(name) for name in inputs}
    odd = [f"{name} {size}" for name, size in found.items() if isinstance(size, int) and size % group]
    if odd:
        yield PunieError(
            "The group size does not divide the model's layers.",
            where=f"quantize.group_size={group}",
            found=", ".join(odd),
            next_step="quantize.group_size=32, or quantize=none",
        )


def _config(model: ModelConfig) -> resolve.ModelJson:
    """The model's config.json; empty if it cannot be read yet."""
    try:
        return read_config(base_folder(model))
    except PunieError:
        return {}


def _counts(settings: Preflight, rows: Mapping[str, list[Any]]) -> Iterator[PunieError]:
    """Splits whose size does not fit the config or the recipe."""
    data, (train, valid) = settings.data, SPLITS
    found = {name: len(value) for name, value in rows.items()}
    for name, expected in ((train, data.expected_train), (valid, data.expected_valid)):
        if name in found and expected is not None and found[name] != expected:
            yield DataError(
                "The split does not have the expected number of examples.",
                where=f"{data.path}/{name}",
                found=f"{found[name]} examples",
                expected=f"{expected} examples (data.expected_{name.partition('.')[0]})",
            )
    if train in found and found[train] < settings.lora.batch_size:
        yield DataError(
            "A batch is larger than the training set.",
            where="lora.batch_size",
            found=settings.lora.batch_size,
            expected=f"at most {found[train]}",
        )
    if train in found and found[train] < data.min_examples:
        yield DataError(
            "There are too few training examples.",
            where=f"{data.path}/{train}",
            found=found[train],
            expected=f"at least {data.min_examples} (data.min_examples)",
        )


def _recipe(settings: Preflight) -> Iterator[PunieError]:
    """What the recipe asks of the model and of the suites."""
    lora = settings.lora
    depth = _depth(settings.model)
    if depth is not None and lora.num_layers > depth:
        yield PunieError(
            "The adapter has more layers than the model.",
            where="lora.num_layers",
            found=lora.num_layers,
            expected=f"at most {depth}",
            next_step=f"lora.num_layers={depth}, or -1 for all",
        )
    if lora.select == "best_eval" and suite_digest(lora.select_suite) == suite_digest(settings.eval.suite):
        yield DataError(
            "A checkpoint must not be selected by the suite that is evaluated.",
            where="lora.select_suite",
            found=lora.select_suite,
            next_step="lora.select_suite=select52, or lora.select=best_val",
        )


def _depth(model: ModelConfig) -> int | None:
    """Number of the model's layers; None if it cannot be read, which another check reports."""
    depth = _config(model).get("num_hidden_layers")
    return depth if isinstance(depth, int) else None


def _overlaps(rows: Mapping[str, list[Any]], suite: list[Any], system: str) -> list[str]:
    """What makes a score less meaningful: examples in both splits, suite prompts in the training data, a
    system prompt that is not in it."""
    train, valid = (
        [json.dumps(list(map(dict, row.messages)), sort_keys=True) for row in rows[name]] for name in SPLITS
    )
    warnings = []
    if shared := len(set(train) & set(valid)):
        warnings.append(f"{shared} validation examples are also in the training data")
    asked = {
        " ".join(message["content"].split()).casefold()
        for row in rows[SPLITS[0]]
        for message in row.messages
        if message["role"] == "user"
    }
    leaked = [sample.id for sample in suite if " ".join(sample.prompt.split()).casefold() in asked]
    if leaked:
        warnings.append(f"suite prompts that are in the training data: {', '.join(leaked)}")
    trained = {
        next((m["content"] for m in row.messages if m["role"] == "system"), None) for row in rows[SPLITS[0]]
    }
    if system not in trained:
        warnings.append("the evaluation's system prompt is in no training example (eval.system_prompt)")
    return warnings


def _rendering(settings: Preflight, suite: list[Any], longest: dict[str, int]) -> list[PunieError]:
    """Examples that lose their response, and markers that are not single tokens, under the model's tokenizer.

    The tokens of the longest example and of the longest prompt are put into ``longest``.
    """
    from punie.model.load import tokenizer

    try:
        folder = base_folder(settings.model)
        loaded = tokenizer(folder)
    except NotCached:
        return []
    except PunieError as error:
        return [error]
    problems: list[PunieError] = []
    whole = (*SINGLE_TOKENS, *formats.chosen().single_tokens)
    split = [text for text in whole if len(loaded.encode(text, add_special_tokens=False)) != 1]
    if split:
        problems.append(
            PunieError(
                "The tokenizer splits markers of the tool-call format.",
                where="tokenizer of model",
                found=", ".join(split),
                next_step="use a model of the Qwen3 family, or one whose tokenizer has these tokens",
            )
        )
    for name in SPLITS:
        try:
            rows = tokens.tokenized(settings, name, loaded, resolve.tokenizer_contents(folder))
            longest["row"] = max(longest.get("row", 0), rows.info["longest"])
        except PunieError as error:
            problems += each_problem(error)
    try:
        prompts = answering.texts(
            loaded, suite, system=answering.system_prompt(settings.eval.system_prompt)
        ).values()
    except Exception as error:  # as for rows: the template is a program of the model's
        found = (str(error).splitlines() or [type(error).__name__])[0]
        problems.append(PunieError("The suite's prompts do not render.", where="chat template", found=found))
        return problems
    longest["prompt"] = max(len(loaded.encode(text, add_special_tokens=False)) for text in prompts)
    return problems


STAGE = Stage(
    name="preflight",
    version=2,
    reads=Preflight,
    needs=lambda _: (),
    contents=contents,
    run=run,
    libraries=("transformers", "tokenizers"),
)
