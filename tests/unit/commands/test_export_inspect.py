"""``punie export-inspect``: what it refuses before Inspect is needed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from punie.__main__ import main
from tests.unit.commands.runs import make_run, records, write_records


def test_without_the_extra_it_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where inspect_ai is not installed, the message names the extra, and no file or folder is made."""
    run = make_run(tmp_path / "run", records())
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    monkeypatch.delitem(sys.modules, "punie.results.pages.inspect_log", raising=False)
    assert main(["export-inspect", str(run), str(tmp_path / "logs/run.eval")]) == 1
    assert "pip install 'punie[inspect]'" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("name", ["run.txt", "run", "run.eval.zip"])
def test_another_ending_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only names that Inspect takes for a log are written."""
    run = make_run(tmp_path / "run", records())
    assert main(["export-inspect", str(run), str(tmp_path / name)]) == 1
    assert ".eval or .json" in capsys.readouterr().err


def test_no_file_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A log that exists stays as it is."""
    run = make_run(tmp_path / "run", records())
    (tmp_path / "run.eval").write_text("mine")
    assert main(["export-inspect", str(run), str(tmp_path / "run.eval")]) == 1
    assert "there already" in capsys.readouterr().err
    assert (tmp_path / "run.eval").read_text() == "mine"


def test_broken_records_are_named_with_their_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A samples.jsonl that is of another version is refused with file and line."""
    run = make_run(tmp_path / "run", records())
    write_records(run, [{"id": "git-01", "output": "x"}])
    assert main(["export-inspect", str(run), str(tmp_path / "run.eval")]) == 1
    assert "samples.jsonl:1" in capsys.readouterr().err
