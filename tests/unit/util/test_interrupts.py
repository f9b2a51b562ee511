"""SIGINT and SIGTERM stop a run, also where what is being called swallows the exception."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from punie.__main__ import main
from punie.util.interrupts import check, heeded
from punie.util.progress import Reporter
from tests.conftest import read_json


class Outer(KeyboardInterrupt):
    pass


def ask() -> None:
    """A signal to this process, whose exception is lost."""
    with contextlib.suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_raises_at_once_and_again(number: int) -> None:
    """Either signal interrupts the inner block; where its exception was dropped, check raises it."""
    with heeded(), heeded(Outer):
        with pytest.raises(Outer):
            os.kill(os.getpid(), number)
        with pytest.raises(Outer):
            check()


def test_an_import_is_finished_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal within an import raises when that is through: no half library is left behind."""
    source = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhole = True\n"
    (tmp_path / "interrupted_library.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)

    def load() -> None:
        importlib.import_module("interrupted_library")
        time.sleep(60)

    with heeded(Outer), pytest.raises(Outer):
        load()
    assert sys.modules["interrupted_library"].whole


def test_the_end_of_a_block_is_no_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal within an import raises at the latest where the block ends, if that comes first."""
    (tmp_path / "last_library.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Outer), heeded(Outer):
        importlib.import_module("last_library")


def test_an_ignored_signal_stays_ignored() -> None:
    """What a shell starts in the background ignores the Ctrl-C that is meant for the shell."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with heeded(Outer):
            os.kill(os.getpid(), signal.SIGINT)
            check()
    finally:
        signal.signal(signal.SIGINT, before)


def test_nothing_is_left_of_a_block() -> None:
    """Afterwards the handlers are those from before, and nobody is interrupted any more."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with heeded():
        ask()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    check()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_looks_at_every_step(terminal: bool) -> None:
    """Long work that has lost the exception stops with the next step that it tells of."""
    reporter = Reporter(Console(file=io.StringIO(), force_terminal=terminal))
    with heeded(Outer), reporter.bar("work", 3, "steps") as bar:
        bar(1)
        ask()
        with pytest.raises(Outer):
            bar(2)


def test_a_run_stops_before_its_next_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An interruption that is lost between two stages ends the run there: exit code 130, nothing trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("punie.stages.memory.shortage", lambda *_, **__: ask())
    assert main(["lora.iters=2", "lora.save_every=2"]) == 130
    assert "interrupted; the same command continues" in capsys.readouterr().err
    [status] = tmp_path.glob("outputs/runs/*/*/status.json")
    assert read_json(status)["status"] == "interrupted"
    assert not [*(tmp_path / "outputs/store/train").iterdir()]
