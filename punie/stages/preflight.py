"""preflight: reports together all problems that can be known before weights load.

The inputs are checked once, and the result is this stage's artifact; ``machine`` is checked before every run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from punie.formats.tools import TOOLS, Tool
from punie.model import folders
from punie.model.folders import read_config
from punie.model.resolve import NotCached
from punie.stages import chats, machine, tokens
from punie.stages.contract import READING, Contents, Inputs, Stage
from punie.stages.inputs import (
    SPLITS,
    Settings,
    base_folder,
    conversion,
    data_digests,
    data_folder,
    suite_digest,
    suite_path,
)
from punie.stages.slices import Preflight
from punie.util.errors import DataError, Problems, PunieError, each_problem
from punie.util.files import write_json
from punie.util.progress import Reporter

MEANING = {
    "over-long": "the response is cut off at lora.max_seq_length (data.too_long decides)",
    "dropped": "left out, being over lora.max_seq_length (data.too_long=drop)",
    "never ends": "the template does not end the response with a token that stops generation",
    "control token": "the content holds a control token of the tokenizer",
    "turn order": "a system turn that is not the first",
    "empty turn": "an empty turn",
    "unused option": "chat_template_kwargs that the chat template does not use",
    "stray result": "a tool's result without a call before it",
    "undeclared tool": "calls of tools that nothing declares, so the prompt shows none and arguments are not "
    "checked (tools.path)",
}
"""What is doubtful about examples, by the kind of finding."""
PROPERTIES = {
    "the prompt of training is that of evaluation": {"cannot be rendered"},
    "the prompt shows every tool": {"tool not shown", "undeclared tool"},
    "calls are read back as they are": {"calls not readable"},
    "responses end with a token that stops generation": {"never ends", "over-long"},
    "every token has a row in the embedding": {"token out of vocabulary"},
    "no control token in the content": {"control token"},
}
"""What makes examples fit the model, and the kinds of findings without which an example has it."""


def contents(settings: Preflight) -> Contents:
    """Digests of data, suite and tokenizer; a model that is not here yet is checked when it is."""
    found: Contents = {
        "data": data_digests(settings.data),
        "suite": suite_digest(settings.eval.suite),
        "system_prompt": chats.system_prompt(settings, settings.eval.system_prompt),
        **chats.contents(settings),
    }
    if settings.lora.select == "best_eval":
        found["select_suite"] = suite_digest(settings.lora.select_suite)
    try:
        folder = base_folder(settings)
    except NotCached:
        return found
    config = read_config(folder)
    return found | {
        "tokenizer": folders.tokenizer_contents(folder),
        "layers": folders.depth(config),
        "context": folders.context(config),
    }


def acquire(settings: Preflight, reporter: Reporter) -> None:
    """Download the data set into the hub's cache."""
    from punie.data import hub

    data = settings.data
    hub.download(data.repo or "", data.revision, data.config, reporter.line)


def run(settings: Preflight, inputs: Inputs, out: Path, reporter: Reporter) -> Contents:
    """Check data, suite and tokenizer against each other; write preflight.json.

    Raises:
        Problems: Everything that would make the run fail or its score meaningless.
    """
    from punie.data.convert import notes
    from punie.data.load import load_rows
    from punie.evals.suite import load_suite

    problems: list[PunieError] = []
    converted = conversion(settings.data)
    assumed = [] if converted is None else [*notes(converted.info, settings.data.repo or settings.data.path)]

    def attempt(load: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns; None if it raises, and its problems are noted."""
        try:
            return load(*arguments)
        except PunieError as error:
            problems.extend(each_problem(error))

    folder, system = (
        data_folder(settings.data),
        chats.system_prompt(settings, settings.eval.system_prompt),
    )
    read = {name: attempt(load_rows, folder / name) for name in SPLITS}
    loaded = {name: examples for name, examples in read.items() if examples is not None}
    sizes = {name: len(value) for name, value in loaded.items()}
    problems += _unfit(settings, sizes)
    tools = attempt(chats.tools, settings) or ()
    suite = attempt(load_suite, suite_path(settings.eval.suite), tools) or []
    if chats.name(settings) == "code_mode":
        problems += _not_embedded(suite)
    warnings = [] if problems else _overlaps(*loaded.values(), suite, system)
    if not problems and chats.name(settings) != "code_mode":
        warnings += _unseen(loaded[SPLITS[0]], suite, tools)
    rendered = {} if problems else _rendered(settings, suite, system, attempt)
    if problems:
        for note in assumed:
            reporter.line(f"  note: {note}", style="yellow")
        raise Problems("The run cannot start:", problems)
    if rendered.get("format") not in (None, "code_mode"):
        for line in _properties(rendered["splits"]).splitlines():
            reporter.line(f"  {line}")
    warnings += _doubts(rendered.get("splits", {}))
    warnings += [f"the chat template does not use {each}" for each in rendered.pop("ignored", ())]
    warnings += assumed
    for warning in warnings:
        reporter.line(f"  note: {warning}", style="yellow")
    found = {"rows": sizes, "prompts": len(suite), "longest": {}, "warnings": warnings} | rendered
    write_json(out / "preflight.json", found)
    return found


def _depth(settings: Settings) -> int | None:
    """Number of the model's layers; None if it cannot be read, which another check reports."""
    return folders.depth(machine.model_json(settings))


def _unfit(settings: Preflight, sizes: Mapping[str, int]) -> Iterator[PunieError]:
    """What of the splits' sizes, the recipe, the model and the suites does not fit together."""
    data, lora, depth, (train, valid) = settings.data, settings.lora, _depth(settings), SPLITS
    for name, expected in ((train, data.expected_train), (valid, data.expected_valid)):
        if expected is not None and sizes.get(name, expected) != expected:
            yield DataError(
                "The split does not have the expected number of examples.",
                where=f"{data.path or data.repo}/{name}",
                found=f"{sizes[name]} examples",
                expected=f"{expected} examples (data.expected_{name.partition('.')[0]})",
            )
    if sizes.get(train, lora.batch_size) < lora.batch_size:
        yield DataError(
            "A batch is larger than the training set.",
            where="lora.batch_size",
            found=lora.batch_size,
            expected=f"at most {sizes[train]}",
        )
    if sizes.get(train, data.min_examples) < data.min_examples:
        yield DataError(
            "There are too few training examples.",
            where=f"{data.path or data.repo}/{train}",
            found=sizes[train],
            expected=f"at least {data.min_examples} (data.min_examples)",
        )
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


def _not_embedded(suite: list[Any]) -> Iterator[PunieError]:
    """Items whose tools code cannot call: the sandbox has the embedded ones."""
    for sample in suite:
        if others := sorted({tool.name for tool in sample.tools} - TOOLS.keys()):
            yield DataError(
                "Code calls the embedded tools only.",
                where=f"suite item {sample.id}, format=code_mode",
                found=", ".join(others),
                next_step="format=native, with examples whose calls are tool_calls",
            )


def _overlaps(train: list[Any], valid: list[Any], suite: list[Any], system: str) -> list[str]:
    """What makes a score less meaningful: examples in both splits, suite prompts in the training data, a
    system prompt that is not in it."""

    def normalized(text: str) -> str:
        return " ".join(text.split()).casefold()

    trained, checked = (
        {json.dumps([example.text, *map(dict, example.messages)], sort_keys=True) for example in examples}
        for examples in (train, valid)
    )
    asked = {normalized(m["content"]) for each in train for m in each.messages if m["role"] == "user"}
    leaked = [name for item in suite for name, turn in item.named_turns if normalized(turn.prompt) in asked]
    systems = (next((m["content"] for m in each.messages if m["role"] == "system"), "") for each in train)
    untrained = system not in systems
    warnings = {
        f"{len(trained & checked)} validation examples are also in the training data": trained & checked,
        f"suite prompts that are in the training data: {', '.join(leaked)}": leaked,
        "the evaluation's system prompt is in no training example (eval.system_prompt)": untrained,
    }
    return [warning for warning, applies in warnings.items() if applies]


def _unseen(train: list[Any], suite: list[Any], tools: Iterable[Tool]) -> Iterator[str]:
    """Tools that the suite asks for and no training example shows the model."""
    given = {tool.name for tool in tools}
    shown = {name for each in train for name in ({tool.name for tool in each.tools} or given)}
    wanted = {call.tool for item in suite for turn in item.turns for call in turn.expect}
    if unseen := sorted(wanted - shown):
        listed = ", ".join(unseen[:5]) + (f" and {len(unseen) - 5} more" if len(unseen) > 5 else "")
        yield f"the suite expects calls of tools that no training example shows: {listed}"


def _rendered(
    settings: Preflight, suite: list[Any], system: str, attempt: Callable[..., Any]
) -> dict[str, Any]:
    """What examples and prompts are under the model's tokenizer: lengths, and how many have each property.

    Noted as problems are examples that cannot be trained on, and prompts that do not render.
    """
    from punie.model.load import tokenizer
    from punie.stages import answering

    try:
        folder = base_folder(settings)
    except NotCached:
        return {}
    if (loaded := attempt(tokenizer, folder)) is None or (
        chat := attempt(chats.chat, settings, loaded)
    ) is None:
        return {}

    def count(text: str) -> int:
        return len(loaded.encode(text, add_special_tokens=False))

    limit = folders.context(read_config(folder))

    def longest_prompt() -> int:
        try:
            rendered = [
                (*item.named_turns[number - 1], chat.prompt(asked))
                for item, number, asked in answering.prompts(chat.format, suite, system=system)
            ]
        except Exception as error:  # as for examples: the template is a program of the model's
            raise PunieError(
                "The suite's prompts do not render.",
                where="chat template",
                found=(str(error).splitlines() or [type(error).__name__])[0],
                next_step="eval.system_prompt='' if the template takes no system turn" if system else None,
            ) from error
        sizes = [(name, count(text), turn.max_tokens or 1) for name, turn, text in rendered]
        if found := answering.too_long(sizes, limit):
            raise Problems("The suite does not fit the model:", found)
        return max(size for _, size, _ in sizes)

    def fit(longest: int) -> None:
        if limit is not None and longest > limit:
            raise DataError(
                "An example is longer than the model's context.",
                where=f"lora.max_seq_length={settings.lora.max_seq_length}",
                found=f"{longest:,} tokens",
                expected=f"at most {limit:,} (max_position_embeddings)",
                next_step=f"lora.max_seq_length={limit}; data.too_long says what becomes of longer examples",
            )

    digests = folders.tokenizer_contents(folder)
    splits = {name: attempt(tokens.tokenized, settings, name, loaded, digests) for name in SPLITS}
    infos = {name: each.info for name, each in splits.items() if each is not None}
    longest = {
        "row": max((each["longest"] for each in infos.values()), default=0),
        "prompt": attempt(longest_prompt),
    }
    attempt(fit, longest["row"])
    doubts = {
        name: {"examples": each.get("examples", each["rows"])}
        | {key: each.get(key, {}) for key in ("findings", "unused")}
        for name, each in infos.items()
    }
    ignored = [
        f"model.template_args.{each}" for each in settings.model.template_args if each not in chat.template
    ]
    opening = next(iter(chat.format.spellings.values()), "")
    return {
        "format": chat.format.name,
        "opening": opening,
        "longest": longest,
        "splits": doubts,
        "ignored": ignored,
    }


def _properties(splits: Mapping[str, Any]) -> str:
    """How many examples of each split have each property, as a table."""
    from tabulate import tabulate

    def share(split: Mapping[str, Any], kinds: Iterable[str]) -> str:
        count = split["examples"]
        return f"{count - sum(split['findings'].get(kind, 0) for kind in kinds)}/{count}"

    rows = [[name, *(share(each, kinds) for each in splits.values())] for name, kinds in PROPERTIES.items()]
    return tabulate(rows, ["examples", *splits], colalign=("left", *["right"] * len(splits)))


def _doubts(splits: Mapping[str, Any]) -> Iterator[str]:
    """What is doubtful about the examples of each split, in words."""
    for name, split in splits.items():
        for kind, count in split["findings"].items():
            yield f"{name}: {count:,} examples: {MEANING.get(kind, kind)}"
        for key, count in split["unused"].items():
            yield f"{name}: nothing reads the key '{key}' of {count:,} examples"


STAGE = Stage(
    name="preflight",
    version=2,
    reads=Preflight,
    needs=lambda _: (),
    sources=lambda _: (
        "data",
        "evals",
        *READING,
        "model/folders.py",
        "stages/machine.py",
        "stages/preflight.py",
        "stages/tokens.py",
    ),
    contents=contents,
    acquire=acquire,
    run=run,
    libraries=("transformers", "tokenizers"),
)
