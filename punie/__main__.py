"""The command line: ``python -m punie`` runs a subcommand, or else a Hydra run."""

from __future__ import annotations

import argparse
import functools
import importlib
import logging
import os
import shlex
import sys
from types import ModuleType

from punie import __version__
from punie.util.errors import PunieError
from punie.util.interrupts import heeded
from punie.util.printable import printable, without_passwords

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
    "export": "copy a run's quantized model out of the store, with a model card",
    "export-inspect": "write a run's responses and scores as an Inspect log",
    "tiny": "rebuild an embedded model",
}
"""Each is a module of ``punie.commands`` with ``add_arguments(parser)`` and ``run(arguments)``, which returns
an exit code, or the command line of a Hydra run. A dash in a name is an underscore in the module's."""

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run punie with a command line, without the program's name; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    logging.raiseExceptions = False  # no traceback when a log cannot be written to a full disk
    try:
        with heeded():
            return _dispatch(arguments)
    except KeyboardInterrupt:
        again = f"next     punie {shlex.join(arguments)}".rstrip()
        return _fail(
            f"interrupted; the same command continues from the finished stages\n  {again}", INTERRUPTED
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # such as `punie ... | head`
        return 0
    except (PunieError, OSError) as error:
        if os.environ.get("PUNIE_DEBUG") == "1":
            import traceback

            traceback.print_exc()
        message = str(error) if isinstance(error, PunieError) else _os_error(error)
        return _fail(message, getattr(error, "exit_code", 1))


def _dispatch(arguments: list[str]) -> int:
    if arguments and arguments[0] in COMMANDS:
        name, *rest = arguments
        result: int | list[str] = _module(name).run(parser(name).parse_args(rest))
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


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"punie.commands.{name.replace('-', '_')}")


def _hydra(arguments: list[str]) -> int:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig

    from punie.config import compat, resolve
    from punie.config import compose as composing
    from punie.main import task

    composing.refuse_code(arguments)
    overrides = [each for each in arguments if not each.startswith("-")]
    flags = {*arguments} - {*overrides}
    composing.parse(composing.quote_phases([each for each in overrides if "=" in each]))
    if not flags:
        resolve(composing.compose(overrides))  # before Hydra creates the run's folder
    elif flags <= {"-m", "--multirun"}:
        with composing.multirun(overrides):
            pass  # whatever Hydra raises later is not about the config
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors, which are worded below
    sys.argv = [sys.argv[0], *composing.quote_phases(arguments)]
    failures: list[Exception] = []

    @functools.wraps(task)
    def job(composed: DictConfig) -> float | None:
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            from punie.sweep.job import run_job

            return run_job(composed)
        try:
            return task(composed)
        except Exception as error:
            failures.append(error)  # raised below: Hydra would print a message of its own
            return None

    entry = hydra.main(
        config_path=composing.prepare(),
        config_name=composing.CONFIG_NAME,
        **compat.version_base(),
    )
    try:
        entry(job)()
    except compat.RAISED as error:  # of Hydra, as the run's own are in failures
        if isinstance(error.__cause__, OSError):  # the log file cannot be opened
            raise error.__cause__ from None
        if isinstance(error, compat.FAULTS) or {"--cfg", "-c", "--info", "-i"} & flags:
            raise composing.translate(error) from error
        raise
    if failures:
        raise failures[0]
    return 0


def _fail(message: str, code: int) -> int:
    lines = [printable(line) for line in without_passwords(message).split("\n")]  # it may quote any input
    print("punie: " + "\n".join(lines), file=sys.stderr)
    return code


def _os_error(error: OSError) -> str:
    from punie.util.jsonl import excerpt

    where = f"\n  where    {excerpt(str(error.filename), 300)}" if error.filename else ""
    remedy = "check the path, its permissions and the free disk space"
    return f"{error.strerror or error}{where}\n  next     {remedy}"


if __name__ == "__main__":
    sys.exit(main())
