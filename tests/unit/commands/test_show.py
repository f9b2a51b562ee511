"""``punie show``: scores with what gave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from punie.__main__ import main
from tests.unit.results.made import amend, make_run, records

ESCAPE = "\x1b]0;owned\x07\x9b31m"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", records(), ["name=mine"])


def test_it_names_all_that_a_score_belongs_to(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scores, every sampling parameter, every digest, the artifacts' keys and the machine are printed."""
    assert main(["show", str(run)]) == 0
    out = capsys.readouterr().out
    words = ["mine", "finished", "temperature 0.7", "top_k        5", "min_p        0.05", "<think>", "0.250"]
    words += [digit * 64 for digit in "bcf1234"] + ["mlx", "0.32.4", "a chip", "a BLAS"]
    assert [word for word in words if word not in out] == []
    assert "layers.0.weight" not in out
    assert main(["show", str(run), "--tensors"]) == 0
    assert f"layers.0.weight      {'d' * 64}" in capsys.readouterr().out


def test_json_is_what_results_json_says(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--json`` carries scores, sampling and identity as results.json does; tensors if asked for."""
    results = json.loads((run / "results.json").read_text())
    tensors = results["identity"]["weights"].pop("tensors")
    assert main(["show", str(run), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    same = ("scores", "taxonomy", "missing", "sampling", "identity", "verdict", "generation")
    assert {name: shown[name] for name in same} == {name: results[name] for name in same}
    assert shown["artifacts"] == {"evaluate": "4" * 64}
    assert main(["show", str(run), "--tensors", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["identity"]["weights"]["tensors"] == tensors


def test_an_unverified_identity_is_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run whose identity is unverified says so, with the reason, beside its score."""
    weights = {"whole": None, "files": None, "tensors": None}
    amend(run / "results.json", identity__unverified="a foreign endpoint", identity__weights=weights)
    assert main(["show", str(run)]) == 0
    assert "identity: unverified (a foreign endpoint)" in capsys.readouterr().out


def test_escapes_do_not_reach_the_terminal(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Control sequences in whatever a run's files hold are printed escaped."""
    scores = json.loads((run / "results.json").read_text())["scores"]
    for score in scores.values():
        score["categories"][ESCAPE] = score["categories"]["git"]
    hostile = {"verdict__summary": ESCAPE, "identity__suite__name": ESCAPE, "target": ESCAPE}
    hostile |= {"identity__unverified": f"two\nlines{ESCAPE}"}
    amend(run / "results.json", scores=scores, identity__weights__tensors={ESCAPE: ESCAPE}, **hostile)
    for options in ([], ["--json"], ["--tensors"]):
        assert main(["show", str(run), *options]) == 0
        out = capsys.readouterr().out
        assert "owned" in out
        assert [char for char in out if not char.isprintable() and char != "\n"] == []
        assert "\nlines" not in out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.json", b"[]"),
        ("results.json", b"\xff"),
        ("results.json", b"[" * 100_000),
        ("status.json", b"null"),
        ("provenance.json", b"[]"),
        ("provenance.json", b"{\x1b"),
        ("config.yaml", b"a: [\x1b"),
    ],
)
def test_a_broken_file_is_named(
    name: str, content: bytes, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is wrong with a run's files, the message names the file, escaped, and the exit code is 1."""
    (run / name).write_bytes(content)
    assert main(["show", str(run)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{name} cannot be read" in err
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("field", "value"), [("scores", None), ("sampling", {}), ("identity", 10**400), ("target", {})]
)
def test_a_result_of_another_shape_is_named(
    field: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A field of results.json with another type ends in a message with its name, never a traceback."""
    run = make_run(tmp_path / "run", records(), **{field: value})
    assert main(["show", str(run)]) == 1
    out, err = capsys.readouterr()
    assert (out, "results.json cannot be read" in err, field in err) == ("", True, True)


def test_a_failed_run_says_why_it_has_nothing_to_show(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that failed is named with its status and the first line of its error."""
    (run / "results.json").unlink()
    (run / "status.json").write_text(json.dumps({"status": "failed", "error": "No space left.\n  where /"}))
    assert main(["show", str(run)]) == 1
    assert "its status is failed: No space left.\n" in capsys.readouterr().err
    assert main(["show", str(run / "nowhere")]) == 1
    assert "it has no results.json" in capsys.readouterr().err
