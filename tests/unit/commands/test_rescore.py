"""``punie rescore``: the current scorers applied to recorded responses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from punie.__main__ import main
from tests.unit.results.made import RIGHT, make_run, records, write_records


def snapshot(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.iterdir()}


def test_nothing_changes_when_nothing_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Records that today's scorers wrote keep every score; the exit code is 0 and the run's files stay."""
    run = make_run(tmp_path / "run", records())
    before = snapshot(run)
    assert main(["rescore", str(run)]) == 0
    out = capsys.readouterr().out
    assert "0 of 4 responses are scored differently" in out
    assert "→" not in out
    assert "b" * 64 in out
    assert "unverified" not in out
    assert snapshot(run) == before


def test_what_changed_is_named_old_and_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A response that older scorers judged otherwise is named with id and repeat; the exit code is 1."""
    old = records()
    old[0]["scores"]["strict"] = {"value": 0.0, "reason": "wrong tool"}
    old[0]["taxonomy"] = "wrong tool"
    run = make_run(tmp_path / "run", old)
    before = snapshot(run)
    assert main(["rescore", str(run), "--out", str(tmp_path / "new.jsonl")]) == 1
    out = capsys.readouterr().out
    assert "git-01, repeat 0: execution 0 → 1, wrong tool → correct" in out
    assert "1 of 4 responses are scored differently" in out
    assert "0.000 → 0.250" in out
    assert [json.loads(line) for line in (tmp_path / "new.jsonl").open()] == records()
    assert snapshot(run) == before


def test_a_missing_response_stays_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing response is neither scored nor changed, and no overall score is made up without it."""
    run = make_run(tmp_path / "run", records([RIGHT, None, "I see.", RIGHT]))
    assert main(["rescore", str(run)]) == 0
    (overall,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("overall")]
    assert overall.split() == ["overall", "3", "–", "–", "–", "–"]


def test_edited_responses_are_not_the_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An output that was edited after the run makes the identity of its scores unverified."""
    run = make_run(tmp_path / "run", records())
    rows = records()
    rows[2]["output"] = RIGHT
    write_records(run, rows)
    assert main(["rescore", str(run)]) == 1
    assert "identity: unverified (samples.jsonl is not as the run wrote it)" in capsys.readouterr().out


def test_escapes_do_not_reach_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Control sequences in ids, categories and response classes are printed escaped."""
    rows = records()
    for row in rows:
        row["id"] += "\x1b[2J"
        row["category"] = "git\x9b\nlsp"
        row["taxonomy"] = "\x1b]0;owned\x07"
    run = make_run(tmp_path / "run", rows)
    assert main(["rescore", str(run)]) == 1
    out = capsys.readouterr().out
    assert "\\x1b]0;owned\\x07 → correct" in out
    assert [char for char in out if not char.isprintable() and char != "\n"] == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{not json", "not JSON"),
        ("{}", "id: Field required; and"),
        ("{\x1b", "not JSON"),
        ({"output": None}, "a response without output"),
        ({"scores": {"keyword": {"value": 1.0}}}, "scores.keyword.reason"),
        ({"seconds": float("nan")}, "seconds: "),
        ({"match": "some"}, "found some"),
        ({"output": "\ud83d"}, "half of a surrogate pair"),
        ({}, "also on line 1"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_broken_record_is_named_with_its_line(
    line: str | dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Text, or a good record with other fields: file, line and fault are named, and there is no score."""
    run = make_run(tmp_path / "run", records())
    first = records()[0]
    second = line if isinstance(line, str) else json.dumps({**first, **line})
    (run / "samples.jsonl").write_text(f"{json.dumps(first)}\n{second}\n")
    assert main(["rescore", str(run)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{run}/samples.jsonl:2" in err
    assert words in err
    assert "\x1b" not in err


def test_without_a_response_there_is_nothing_to_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where every response is missing, the first reason is named; a file that is empty or gone is named."""
    run = make_run(tmp_path / "run", records())
    write_records(run, records([None, None]))
    assert main(["rescore", str(run)]) == 1
    assert "the server closed the connection" in capsys.readouterr().err
    for change in (lambda: write_records(run, []), (run / "samples.jsonl").unlink):
        change()
        assert main(["rescore", str(run)]) == 1
        assert "samples.jsonl" in capsys.readouterr().err


def test_no_file_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--out`` refuses a file that exists, the run's own record among them."""
    run = make_run(tmp_path / "run", records())
    before = snapshot(run)
    assert main(["rescore", str(run), "--out", str(run / "samples.jsonl")]) == 1
    assert "there already" in capsys.readouterr().err
    assert snapshot(run) == before
