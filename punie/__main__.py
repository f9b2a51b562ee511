"""The command line: ``python -m punie`` runs a subcommand, or else a Hydra run."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import logging
import os
import shlex
import sys
import traceback
from pathlib import Path
from types import ModuleType

from punie import __version__
from punie.util.errors import PunieError
from punie.util.interrupts import heeded
from punie.util.printable import printable, without_passwords
from punie.util.streams import unbroken

COMMANDS = {
    "plan": "what a run would do: cached stages, stages to run and why, disk space",
    "resume": "finish a sweep that was interrupted or has failed jobs",
    "doctor": "Python, device, BLAS, memory, disk, versions, and how to fix each problem",
    "diff": "what differs between two runs, sweeps or configs, and which responses changed",
    "summarize": "compare runs and sweeps: tables, intervals and verdicts",
    "reproduce": "repeat a run in a fresh store, and compare every digest",
    "prereg": "register a phase before it runs: a results document with its criteria",
    "record": "fill in a registered document from a run",
    "data": "build or check a data set",
    "tools": "check a file of tools: a table of them, and what is wrong with their schemas",
    "suite": "take over the items of BFCL as suites",
    "store": "list, verify or clean the artifacts",
    "show": "a finished run: scores, sampling, and the digests behind them",
    "ship": "whether a run's model may replace its base, by criteria fixed before it ran",
    "rescore": "score a run's recorded responses again, without a model",
    "export": "a run's model for mlx-lm, llama.cpp, Ollama, LM Studio or PEFT, with a model card",
    "export-inspect": "write a run's responses and scores as an Inspect log",
    "track": "send a run or a sweep to MLflow, TensorBoard, Trackio or Weights & Biases, again or afterwards",
    "tiny": "rebuild an embedded model",
}
"""Each is a module of ``punie.commands`` with ``add_arguments(parser)`` and ``run(arguments)``, which returns
an exit code, or the command line of a Hydra run. A dash in a name is an underscore in the module's."""

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run punie with a command line, without the program's name; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    logging.raiseExceptions = False  # no traceback when a log cannot be written to a full disk
    with unbroken():
        return _main(arguments)


def _main(arguments: list[str]) -> int:
    try:
        with heeded():
            return _dispatch(arguments)
    except KeyboardInterrupt:
        again = f"next     punie {shlex.join(arguments)}".rstrip()
        return _fail(
            f"interrupted; the same command continues from the finished stages\n  {again}", INTERRUPTED
        )
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of the tokenizers crate is no Exception
        if os.environ.get("PUNIE_DEBUG") == "1":
            traceback.print_exc()
        return _fail(_worded(error), getattr(error, "exit_code", 1))


def _dispatch(arguments: list[str]) -> int:
    if arguments and arguments[0] in COMMANDS:
        name, *rest = arguments
        result: int | list[str] = _module(name).run(_arguments(parser(name), rest))
        return result if isinstance(result, int) else _hydra(result)
    if arguments == ["--version"]:
        print(f"punie {__version__}")
        return 0
    if "--help" in arguments or "-h" in arguments:
        from punie.commands.help import text

        print(text(COMMANDS), end="")
        return 0
    if {"-sc", "--shell-completion"} & {*arguments}:
        from punie.commands.help import complete

        return complete(COMMANDS, lambda: _hydra(arguments))
    return _hydra(arguments)


def parser(name: str) -> argparse.ArgumentParser:
    """The parser of a subcommand's arguments."""
    module = _module(name)
    found = argparse.ArgumentParser(
        prog=f"punie {name}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(found)
    return found


def _arguments(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """The arguments of a subcommand; its options may stand between its overrides."""
    try:
        return parser.parse_intermixed_args(words)
    except TypeError:  # it has actions of its own, for which Python cannot do that
        return parser.parse_args(words)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"punie.commands.{name.replace('-', '_')}")


def _hydra(arguments: list[str]) -> int:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig

    from punie.config import compat
    from punie.config import compose as composing
    from punie.config.command import CommandLine
    from punie.main import task
    from punie.run.directory import require_free, writing

    line = CommandLine.read(arguments, COMMANDS)
    if not line.shows:  # checked before Hydra creates a folder; what it raises later is not about the config
        if composing.sweeps(line):
            with composing.multirun(line.arguments):
                pass
        elif (folder := composing.composition(line.arguments).folder) is not None:
            require_free(Path(folder))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors, which are worded below
    sys.argv = [sys.argv[0], *line.arguments]
    failures: list[BaseException] = []

    @functools.wraps(task)
    def job(composed: DictConfig) -> float | None:
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            from punie.sweep.job import run_job

            return run_job(composed)
        try:
            runtime = HydraConfig.get().runtime
            with contextlib.chdir(runtime.cwd), writing(Path(runtime.output_dir)):  # whatever hydra.job.chdir
                return task(composed)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            failures.append(error)  # raised below: Hydra would print a message of its own
            return None

    entry = hydra.main(
        config_path=composing.prepare(),
        config_name=line.config_name,
        **compat.version_base(),
    )
    try:
        entry(job)()
    except compat.RAISED as error:  # of Hydra, as the run's own are in failures
        if isinstance(error.__cause__, OSError):  # the log file cannot be opened
            raise error.__cause__ from None
        if isinstance(error, compat.FAULTS) or line.shows:
            raise composing.translate(error) from error
        raise
    if failures:
        raise failures[0]
    return 0


def _fail(message: str, code: int) -> int:
    lines = [printable(line) for line in without_passwords(message).split("\n")]  # it may quote any input
    print("punie: " + "\n".join(lines), file=sys.stderr)
    return code


def _worded(error: BaseException) -> str:
    """What is told of an error, without a traceback."""
    if isinstance(error, PunieError):
        return str(error)
    if isinstance(error, OSError):
        return _os_error(error)
    from punie.util.jsonl import excerpt

    if isinstance(error, ModuleNotFoundError) and not (error.name or "punie").startswith("punie"):
        return str(
            PunieError(
                f"This Python lacks the package {error.name}.",
                where=sys.executable,
                next_step="take the Python that punie is installed in, such as .venv/bin/python, "
                "or install it: pip install punie",
            )
        )
    *_, frame = traceback.extract_tb(error.__traceback__)
    return str(
        PunieError(
            "An unexpected error.",
            where=f"{frame.filename}:{frame.lineno}",
            found=f"{type(error).__name__}: {excerpt(str(error), 300)}",
            next_step="PUNIE_DEBUG=1 before the same command shows the traceback",
        )
    )


def _os_error(error: OSError) -> str:
    from punie.util.jsonl import excerpt

    where = f"\n  where    {excerpt(str(error.filename), 300)}" if error.filename else ""
    remedy = "check the path, its permissions and the free disk space"
    return f"{error.strerror or error}{where}\n  next     {remedy}"


if __name__ == "__main__":
    sys.exit(main())
