"""Bring a run's model where people use it.

punie export outputs/runs/NAME/ID my-model                   the quantized MLX model that was scored
punie export outputs/runs/NAME/ID my-model --to gguf         base and adapter as a GGUF file, for llama.cpp
punie export outputs/runs/NAME/ID my-model --to ollama       the same, with a Modelfile
punie export outputs/runs/NAME/ID MODELS/me/my-model --to lmstudio   in LM Studio's folder MODELS
punie export outputs/runs/NAME/ID my-adapter --to peft       the adapter alone, for transformers

A GGUF file holds the sum of base and adapter, computed in float32 and written as --type says, not the
quantized weights that were scored. --prove runs the result in llama.cpp or PEFT, and compares prompts, greedy
answers and log-probabilities with base and adapter as punie computes them. The exit code is 1 if they differ.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from punie.commands.overrides import path_of
from punie.commands.reproduce import plan_again
from punie.results.run import Run
from punie.store.artifacts import Store
from punie.store.keys import differences
from punie.store.leases import lease
from punie.util.errors import PunieError
from punie.util.files import write_text
from punie.util.jsonl import excerpt

if TYPE_CHECKING:
    from punie.results.records import ArtifactFiles
    from punie.stages.proof import Compared
    from punie.store.artifacts import Artifact

TARGETS = {"mlx": None, "gguf": "llama.cpp", "ollama": "llama.cpp", "lmstudio": "llama.cpp", "peft": "peft"}
"""By name, the runtime that proves it."""
TYPES = ("f16", "bf16", "q8_0")
_CALLED = {"quantize": "model", "train": "adapter"}
_CONTEXT = 4096
"""Tokens of Ollama's context, if they are enough."""
_SHOWN = 10
"""Prompts that a proof shows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("run", type=path_of, metavar="RUN", help="a finished run's directory")
    parser.add_argument("out", type=path_of, metavar="DIR", help="the folder to make")
    parser.add_argument("--to", choices=TARGETS, default="mlx", help="what to make (default: mlx)")
    words = "type of the weights of a GGUF file (default: f16); mlx is for LM Studio on a Mac"
    parser.add_argument("--type", choices=(*TYPES, "mlx"), help=words)
    words = "llama.cpp's pre-tokenizer, where the model's own has no name there; prompts may get other tokens"
    parser.add_argument("--pre", metavar="NAME", help=words)
    words = "compare the result with punie's own, on the suite or N of its prompts"
    parser.add_argument("--prove", nargs="?", type=int, const=0, metavar="N", help=words)
    parser.add_argument("--store", type=path_of, metavar="DIR", help="the store (default: the run's own)")
    words = "build the model again if it is gone; this may train again"
    parser.add_argument("--rebuild", action="store_true", help=words)


def run(arguments: argparse.Namespace) -> int:
    """Export; a model that is gone is first built again, if that is asked for."""
    out: Path = arguments.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PunieError("The folder to export to is not empty.", where=out, next_step="name a new folder")
    quantized = arguments.to == "mlx" or (arguments.to == "lmstudio" and arguments.type == "mlx")
    _require_options(arguments, quantized=quantized)
    source = Run(arguments.run).require_finished()
    with contextlib.ExitStack() as leases:
        made = _quantized if quantized else _tuned
        return made(arguments, source, leases)


def _require_options(arguments: argparse.Namespace, *, quantized: bool) -> None:
    """Refuse options that the target has no use for, and a proof without its runtime."""
    useless = {
        "--type": arguments.type
        and (arguments.to in ("mlx", "peft") or quantized != (arguments.type == "mlx")),
        "--pre": arguments.pre and (quantized or arguments.to == "peft"),
        "--prove": arguments.prove is not None and quantized,
    }
    for option in (option for option, wrong in useless.items() if wrong):
        proved = "these files are those that were scored, digest by digest" if option == "--prove" else None
        raise PunieError(f"{option} is not for --to {arguments.to}.", where=option, found=proved)
    if arguments.prove is not None:
        if arguments.prove < 0:
            raise PunieError("--prove takes a number of prompts.", found=arguments.prove)
        from punie.model import runtimes

        runtimes.require(TARGETS[arguments.to] or "")


def _quantized(arguments: argparse.Namespace, source: Run, leases: contextlib.ExitStack) -> int:
    """Copy the model that was scored out of the store."""
    from punie.results.pages.report import model_card

    out: Path = arguments.out
    if "quantize" not in source.results.artifacts:
        raise PunieError(
            f"The run scored the {source.results.target} model; it has no quantized one to export.",
            where=arguments.run,
            next_step="run it with eval.target=quantized",
        )
    artifact = _artifact(arguments, source, "quantize", leases)
    published = artifact.digests

    def make(made: Path) -> str:
        for name in published:
            (made / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(artifact.file(name), made / name)
        return model_card(source, folder=out.name, quantize=artifact.info, files=published)

    _publish(out, make)
    print(f"{out}  {artifact.size / 1e6:.1f} MB, {len(published)} files and README.md")
    print(f"next: python -m mlx_lm generate --model {out} --prompt hello")
    return 0


def _tuned(arguments: argparse.Namespace, source: Run, leases: contextlib.ExitStack) -> int:
    """Write base and adapter in another form, and prove it if that is asked for."""
    from punie.results.pages.report import exported_card
    from punie.stages.inputs import base_folder

    if "train" not in source.results.artifacts:
        raise PunieError(
            "The run trained nothing that could be exported.",
            where=arguments.run,
            found=f"it scored the {source.results.target} model",
            next_step="run it with eval.target=quantized or adapter",
        )
    adapter = _artifact(arguments, source, "train", leases)
    steps = plan_again(source, Store(arguments.store or source.store))[1].by_name
    settings, base, was = steps["evaluate"].settings, steps["base"], source.results.artifacts["base"].key
    if was != base.key:
        raise base.problem or PunieError(
            "The base model is not the one that was trained on.",
            where=f"base/{was}",
            found=f"base/{base.key}",
            next_step="put the model's files back as they were, or run the config again and export that run",
        )
    from punie.model import blas

    blas.activate(settings.runtime.blas)  # before what follows imports mlx
    from punie.model import load

    out, model, folder = arguments.out, arguments.out, base_folder(settings)
    if arguments.to == "peft":
        from punie.model import peft

        # With an adapter to start from, the base is the sum of it and the repo's model.
        name = (not settings.model.adapter and settings.model.repo) or str(folder.absolute())

        def make(made: Path) -> str:
            count = peft.write(folder, adapter.path, made, base_key=was, base_name=name)
            print(f"{out}  {count} layers of {name}")
            return exported_card(source, "an adapter for peft", made, base=name)

    else:
        from punie.model.gguf.write import write

        kind = arguments.type or "f16"
        model = out / f"{out.name}-{kind.upper()}.gguf"

        def make(made: Path) -> str:
            path, name = made / model.name, source.config.name
            types = write(folder, adapter.path, path, base_key=was, name=name, kind=kind, pre=arguments.pre)
            held = ", ".join(f"{count} {each}" for each, count in sorted(types.items()))
            print(f"{model}  {path.stat().st_size / 1e6:.1f} MB, tensors: {held}")
            if arguments.to == "ollama":
                write_text(made / "Modelfile", _modelfile(source, settings, folder, model.name))
            return exported_card(source, f"a GGUF file of type {kind.upper()}", made, file=model.name)

    _publish(out, make)
    for line in _notes(arguments, source, settings.model.template_args, load.tokenizer(folder)):
        print(line)
    if arguments.prove is None:
        return 0
    from punie.stages.proof import prove

    runtime = TARGETS[arguments.to] or ""
    return told(runtime, prove(settings, adapter.path, runtime, model, arguments.prove or None))


def _notes(
    arguments: argparse.Namespace, source: Run, options: Mapping[str, Any], tokenizer: Any
) -> Iterator[str]:
    """What the result is not, and what to do with it."""
    out = arguments.out
    if "enable_thinking" in str(tokenizer.chat_template):  # mlx-lm's default, and llama.cpp has its own
        options = {"enable_thinking": tokenizer.has_thinking, **options}
    if "quantize" in source.results.artifacts:
        yield "note: base and adapter, not the quantized weights that were scored"
    if arguments.pre:
        yield f"note: text is divided as by {arguments.pre}, not as in training"
    if options and arguments.to != "peft":
        yield f"note: prompts as in training need chat_template_kwargs={json.dumps(options)}"
    if arguments.to == "ollama":
        yield "note: Ollama does not run the model's chat template; Modelfile says what it does instead"
        yield f"next: ollama create {shlex.quote(out.name)} -f {shlex.quote(str(out / 'Modelfile'))}"
    elif arguments.to == "lmstudio":
        yield "next: LM Studio lists it if DIR is PUBLISHER/MODEL in its models folder (~/.lmstudio/models)"
    elif arguments.to == "gguf":
        yield f"next: llama-server --jinja -m {shlex.quote(str(next(out.glob('*.gguf'))))}"
    else:
        yield f"next: PeftModel.from_pretrained(base, {str(out)!r})"


def _modelfile(source: Run, settings: Any, folder: Path, file: str) -> str:
    """An Ollama Modelfile with the parameters of the evaluation.

    Raises:
        PunieError: A text cannot be written into it.
    """
    from punie.model import folders, load
    from punie.results.pages.report import modelfile
    from punie.stages import chats

    tokenizer = load.tokenizer(folder)
    stops = [*tokenizer.convert_ids_to_tokens(sorted(tokenizer.eos_token_ids)), *settings.eval.stop]
    system = chats.system_prompt(settings, settings.eval.system_prompt)
    if wrong := [text for text in (*stops, system) if '"""' in text]:
        raise PunieError("A Modelfile cannot hold this text.", found=excerpt(wrong[0]), next_step="--to gguf")
    longest = max(turn.prompt_tokens for sample in source.samples for turn in sample.reached)
    context = max(_CONTEXT, 1 << (longest + source.results.sampling.max_tokens).bit_length())
    context = min(context, folders.context(folders.read_config(folder)) or context)
    return modelfile(file=file, stops=stops, system=system, sampling=source.results.sampling, context=context)


def told(runtime: str, found: Sequence[Compared]) -> int:
    """Print a proof; the exit code."""
    from tabulate import tabulate

    other = [each for each in found if each.rendering]
    differ = [each for each in found if each.difference]
    rows = [
        (each.item, kind, text, gap)
        for each in found
        for kind, text, gap in (
            ("prompt", each.rendering, ""),
            ("answer", each.difference, f"{each.gap:.4f}"),
        )
        if text
    ]
    if rows:
        headers = ["prompt", "differs", "first different token", "gap (nats)"]
        print(tabulate(rows[:_SHOWN], headers, "simple", disable_numparse=True))
        print(f"… and {len(rows) - _SHOWN} more\n" * (len(rows) > _SHOWN), end="")
    tokens = sum(each.answered for each in found)
    if runtime == "peft":
        print(f"{runtime}: {len(found)} prompts, given as tokens")
    else:
        print(f"{runtime}: {len(found) - len(other)} of {len(found)} prompts have the tokens of training")
    ties = sum(each.alike for each in differ)
    print(
        f"{runtime}: {len(found) - len(differ)} of {len(found)} greedy answers are equal token for token, "
        f"{ties} differ at a tie ({tokens} tokens)"
    )
    print(
        f"{runtime}: largest difference of a token's log-probability {max(e.logprob for e in found):.5f} nats"
    )
    proved = not other and ties == len(differ)
    print("Proved." if proved else "Not proved.")
    return 0 if proved else 1


def _publish(out: Path, make: Callable[[Path], str]) -> None:
    """Make a folder whole or not at all; ``make`` fills it and returns its README."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        made = Path(scratch) / out.name
        made.mkdir()
        write_text(made / "README.md", make(made))
        made.replace(out)


def _artifact(
    arguments: argparse.Namespace, source: Run, stage: str, leases: contextlib.ExitStack
) -> Artifact:
    """The run's model or adapter, with the files that were scored; built again if that is asked for.

    Nothing deletes it before ``leases`` ends.

    Raises:
        PunieError: It is gone, or is another one.
    """
    store, recorded = Store(arguments.store or source.store), source.results.artifacts[stage]
    leases.enter_context(lease(store, stage, recorded.key))
    artifact = store.find(stage, recorded.key)
    if artifact is None and not arguments.rebuild:
        raise _missing(arguments, store, source.results.artifacts, stage)
    artifact = artifact or _rebuilt(source, store, stage, recorded.key)
    artifact.verify_once()
    now, then = (
        {name: sha for name, sha in files.items() if stage == "quantize" or name.startswith("adapter")}
        for files in (artifact.digests, recorded.files)
    )
    if other := differences(now, then):
        raise PunieError(
            f"The {_CALLED[stage]} in the store is not the one that was scored.",
            where=artifact.path,
            found=", ".join(name for name, *_ in other),
            next_step="run the same config again, and export that run",
        )
    return artifact


def _missing(
    arguments: argparse.Namespace, store: Store, named: Mapping[str, ArtifactFiles], stage: str
) -> PunieError:
    """The error for a model that is gone: what else is gone, and the command that builds it again."""
    stages = ("train", "quantize") if stage == "quantize" else ("train",)
    gone = [s for s in stages if s in named and not store.find(s, named[s].key)]
    again = {"train": "trains", "quantize": "fuses and quantizes"}.get(
        "".join(gone), "trains, fuses and quantizes"
    )
    options = ["--to", arguments.to] if arguments.to != "mlx" else []
    command = shlex.join(["punie", "export", str(arguments.run), str(arguments.out), *options, "--rebuild"])
    if arguments.store:
        command += f" --store {shlex.quote(str(arguments.store))}"
    return PunieError(
        f"The run's {_CALLED[stage]} is not in the store.",
        where=store.root,
        found="no " + " and no ".join(f"{stage}/{named[stage].key}" for stage in gone),
        next_step=f"{command} {again} again; or name another store: --store DIR",
    )


def _rebuilt(source: Run, store: Store, stage: str, key: str) -> Artifact:
    """The run's model or adapter, built again.

    Raises:
        PunieError: Its inputs have changed since, so that it would not be the same.
    """
    from punie.run import pipeline
    from punie.util.progress import Reporter

    config, plan = plan_again(source, store)
    step = plan.by_name[stage]
    if step.key != key:
        raise PunieError(
            f"The run's {_CALLED[stage]} is not in the store and cannot be built again.",
            where=f"{stage}/{key}",
            found=f"the same config now gives {step.key}",
            next_step="run the config again and export that run, or give the run's store: --store DIR",
        )
    pipeline.run(plan, config, store, Reporter(), wanted=(stage,))
    assert step.artifact is not None  # noqa: S101 - it was wanted
    return step.artifact
