"""``punie summarize``: how it is asked, what it writes and how it exits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from punie.__main__ import parser
from punie.commands import summarize
from punie.util.errors import PunieError
from tests.unit.results.summary.conftest import make_run


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def punie_summarize(*arguments: str) -> int:
    return summarize.run(parser("summarize").parse_args(list(arguments)))


def test_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Tables, then the conclusions, then the command for the page."""
    make_run(Path("a"), {"x": 1.0, "y": 0.0})
    assert punie_summarize("a", "--metric", "keyword") == 0
    shown = capsys.readouterr().out
    assert (
        shown.index("Scores: keyword")
        < shown.index("Conclusions")
        < shown.index("as a page: punie summarize a --format")
    )


def test_into_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """--out writes the whole of a format, with paths relative to the file."""
    make_run(Path("runs/a"), {"x": 1.0, "y": 0.0})
    Path("docs").mkdir()
    assert punie_summarize("runs", "--format", "json", "--out", "docs/s.json") == 0
    assert capsys.readouterr().out == "docs/s.json  1 runs\n"
    assert json.loads(Path("docs/s.json").read_text())["runs"][0]["run"] == "../runs/a"
    with pytest.raises(PunieError, match="no such folder"):
        punie_summarize("runs", "--out", "nowhere/s.json")


def test_a_run_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    """The others are summarized, the one is named with the reason, and the exit code is 1."""
    make_run(Path("a"), {"x": 1.0, "y": 0.0})
    (make_run(Path("b"), {"x": 1.0, "y": 0.0}, lora__seed=1) / "samples.jsonl").unlink()
    assert punie_summarize(".") == 1
    shown = capsys.readouterr().out
    assert "samples.jsonl: The file cannot be read: No such file or directory" in shown
    assert "Conclusions" in shown


def test_each_format_offered_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Every format of ``--format`` comes out as what it is called."""
    make_run(Path("a"), {"x": 1.0, "y": 0.0})
    holds = {"simple": "-----", "github": "|-----", "plain": "Conclusions", "csv": "run,name,state"}
    holds |= {"json": '"conclusions"', "html": "<!doctype html>"}
    assert holds.keys() == set(summarize._FORMATS)
    for words, held in holds.items():
        assert punie_summarize("a", "--format", words) == 0
        assert held in capsys.readouterr().out


def test_neither_mlx_nor_transformers() -> None:
    """A summary, page and all, imports neither mlx nor transformers."""
    make_run(Path("a"), {"x": 1.0, "y": 0.0}, eval__temperature=0.5)
    make_run(Path("b"), {"x": 1.0, "y": 1.0})
    code = (
        "import sys; from punie.__main__ import main\n"
        "assert main(['summarize', '.', '--format', 'html', '--out', 'page.html']) == 0\n"
        "sys.exit(', '.join({'mlx', 'mlx_lm', 'transformers', 'torch'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("page.html").stat().st_size > 5_000
