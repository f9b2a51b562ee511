"""Whatever is raised, the front door words it, and its exit code is not 0."""

from __future__ import annotations

import importlib
import json
import resource
from pathlib import Path

import pytest
from filelock import FileLock

from punie.__main__ import main
from punie.run.directory import LOCK, RunDirectory, require_free, writing
from punie.stages import machine
from punie.util.errors import PunieError
from punie.util.processes import run_alone
from tests.unit.results.made import make_run, records


class Panic(BaseException):
    """Like the PanicException of a Rust library: no Exception, and not to be pickled."""

    __module__ = "pyo3_runtime"


def panic() -> None:
    """Raise one in a process of its own."""
    raise Panic("retry-limit-in-match over")


RAISED = [
    (Panic("a regex gave up"), ["An unexpected error.", "Panic: a regex gave up", "PUNIE_DEBUG=1"]),
    (ValueError("not allowed to raise maximum limit"), ["ValueError: not allowed", "test_front_door.py:"]),
    (TypeError("x" * 1000), ["TypeError: xxx"]),
    (RuntimeError("[metal] no device"), ["RuntimeError: [metal]"]),
    (
        ModuleNotFoundError("No module named 'hydra'", name="hydra"),
        ["lacks the package hydra", "pip install"],
    ),
    (ModuleNotFoundError("No module named 'punie.x'", name="punie.x"), ["An unexpected error."]),
    (ImportError("cannot import name 'y'"), ["ImportError: cannot import"]),
    (MemoryError(), ["MemoryError"]),
    (RecursionError("too deep"), ["RecursionError"]),
]


@pytest.mark.parametrize(("error", "words"), RAISED, ids=lambda each: type(each).__name__)
def test_any_error_of_a_command_is_worded(
    error: BaseException,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An error that punie does not know has a place, a type and a next step, and no traceback."""

    def run(_: object) -> int:
        raise error

    monkeypatch.setattr(importlib.import_module("punie.commands.doctor"), "run", run)
    assert main(["doctor"]) == 1
    told = capsys.readouterr().err
    assert [word for word in words if word not in told] == []
    assert "Traceback" not in told
    assert len(told) < 1000


@pytest.mark.parametrize("chdir", ["true", "false"])
def test_relative_paths_start_where_the_command_was_given(
    chdir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's store, suite and data are found there, whether or not Hydra changes the folder."""
    seen: list[Path] = []

    def run(*_: object, **__: object) -> None:
        seen.append(Path.cwd())
        raise PunieError("enough")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("punie.run.pipeline.run", run)
    assert main(["hydra.run.dir=run", f"hydra.job.chdir={chdir}"]) == 1
    assert seen == [tmp_path]
    assert json.loads((tmp_path / "run/status.json").read_text())["store"] == str(tmp_path / "outputs/store")


@pytest.mark.parametrize(("error", "words"), RAISED[:4], ids=lambda each: type(each).__name__)
def test_any_error_of_a_run_is_recorded(
    error: BaseException,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """status.json holds it, whatever its kind, and the terminal tells it."""

    def run(*_: object, **__: object) -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("punie.run.pipeline.run", run)
    assert main(["hydra.run.dir=run"]) == 1
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert (status["status"], status["error"]) == ("failed", f"{type(error).__name__}: {error}")
    assert words[-1][:20] in capsys.readouterr().err


def test_a_panic_in_a_stages_own_process_is_told() -> None:
    """An exception that cannot be pickled comes back as a RuntimeError with its words."""
    with pytest.raises(RuntimeError, match="Panic: retry-limit-in-match over"):
        run_alone(panic)


def test_too_few_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that mlx_lm cannot raise is refused before it is imported; no limit, or a high one, is not."""

    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    for limit in (resource.RLIM_INFINITY, 4096, 1 << 20):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (256, limit))
        machine.require_files()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    with pytest.raises(PunieError, match="too few files"):
        machine.require_files()


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"status.json": '{"version": 1, "status": "finished"}'}, "a finished run"),
        ({"results.json": "{}"}, "a finished run"),
        ({"plan.json": "{}"}, "a sweep"),
        ({"status.json": '{"version": 1, "status": "failed"}', "results.json": "{}"}, None),
        ({"status.json": '{"version": 1, "status": "running"}'}, None),
        ({"notes.txt": "mine"}, None),
        ({}, None),
    ],
)
def test_a_folder_that_holds_a_run_is_refused(
    files: dict[str, str], found: str | None, tmp_path: Path
) -> None:
    """A finished run or a sweep is never overwritten; what did not finish may run again."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    if found is None:
        require_free(tmp_path)
        return
    with pytest.raises(PunieError, match=f"not free.*\n.*\n.*{found}"):
        require_free(tmp_path)


def test_a_run_is_refused_before_its_folder_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second run into the folder of a finished one changes no byte of it."""
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "run", records(), ["name=mine"])
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["hydra.run.dir=run", "lora.rank=4"]) == 1
    assert "a finished run" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_folder_is_written_by_one_run(tmp_path: Path) -> None:
    """While a run writes it, another is refused."""
    with writing(tmp_path), pytest.raises(PunieError, match="going on"):
        require_free(tmp_path)
    with FileLock(tmp_path / LOCK, timeout=0):
        pass


def test_what_an_unfinished_run_left_is_deleted(tmp_path: Path) -> None:
    """Scores and responses of an earlier attempt are not taken for those of this one; other files stay."""
    run = make_run(tmp_path / "run", records(), ["name=mine"])
    (run / "samples-base.jsonl").write_text("{}")
    (run / "notes.txt").write_text("mine")
    provenance = RunDirectory(run)
    from punie.run.capture import capture

    provenance.begin("name: other\n", capture(), store="store")
    left = {path.name for path in run.iterdir()}
    assert left == {"config.yaml", "provenance.json", "status.json", "notes.txt"}


def test_a_folder_of_runs_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """punie show on a folder of runs names them and the latest one."""
    for name in ("a/1", "a/2", "b/1"):
        make_run(tmp_path / name, records(), ["name=mine"])
    assert main(["show", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "holds runs" in told
    assert all(str(tmp_path / name) in told for name in ("a/1", "a/2", "b/1"))


@pytest.mark.parametrize(("action", "code"), [("ls", 0), ("verify", 1), ("gc", 1)])
def test_a_store_that_is_not_there(
    action: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In another folder, every action says where it looked and how to name another store; ~ is expanded."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["store", action, "--dir=~/absent"]) == code
    assert f"no store in {tmp_path}/absent" in capsys.readouterr().out
