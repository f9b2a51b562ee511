"""``punie show``: no score without what gave it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from punie.__main__ import main
from tests.unit.commands.runs import make_run, records

ESCAPE = "\x1b]0;owned\x07\x9b31m"


def test_it_names_all_that_a_score_belongs_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scores, every sampling parameter, every digest, the artifacts' keys and the machine are printed."""
    run = make_run(tmp_path / "run", records(), ["name=mine"])
    assert main(["show", str(run)]) == 0
    out = capsys.readouterr().out
    words = ["mine", "finished", "temperature 0.7", "top_k        5", "min_p        0.05", "<think>", "0.250"]
    words += [digit * 64 for digit in "bcf1234"] + ["mlx", "0.32.4", "a chip", "a BLAS"]
    assert [word for word in words if word not in out] == []
    assert "layers.0.weight" not in out


def test_tensors_are_listed_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--tensors`` adds each tensor's name and digest, in text and in JSON."""
    run = make_run(tmp_path / "run", records())
    assert main(["show", str(run), "--tensors"]) == 0
    assert f"layers.0.weight    {'d' * 64}" in capsys.readouterr().out
    assert main(["show", str(run), "--tensors", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["identity"]["weights"]["tensors"] == {
        "layers.0.weight": "d" * 64
    }


def test_json_is_what_results_json_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--json`` carries scores, sampling and identity as results.json does."""
    run = make_run(tmp_path / "run", records())
    assert main(["show", str(run), "--json"]) == 0
    shown, results = json.loads(capsys.readouterr().out), json.loads((run / "results.json").read_text())
    del results["identity"]["weights"]["tensors"]
    same = ("scores", "sampling", "identity", "verdict", "generation")
    assert {name: shown[name] for name in same} == {name: results[name] for name in same}
    assert shown["artifacts"] == {"evaluate": "4" * 64}


def test_an_unverified_identity_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run whose identity is unverified says so, with the reason, beside its score."""
    run = make_run(tmp_path / "run", records())
    results = json.loads((run / "results.json").read_text())
    results["identity"] |= {"unverified": "a foreign endpoint"}
    results["identity"]["weights"] = {"whole": None, "files": None, "tensors": None}
    (run / "results.json").write_text(json.dumps(results))
    assert main(["show", str(run)]) == 0
    assert "identity: unverified (a foreign endpoint)" in capsys.readouterr().out


@pytest.mark.parametrize("option", [[], ["--json"], ["--tensors"]])
def test_escapes_do_not_reach_the_terminal(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control sequences in whatever a run's files hold are printed escaped."""
    run = make_run(tmp_path / "run", records())
    results = json.loads((run / "results.json").read_text())
    results["verdict"]["summary"] = results["identity"]["suite"]["name"] = ESCAPE
    results["identity"]["unverified"] = f"two\nlines{ESCAPE}"
    results["identity"]["weights"]["tensors"] = {ESCAPE: ESCAPE}
    results["scores"]["keyword"]["categories"][ESCAPE] = results["scores"]["keyword"]["categories"]["git"]
    results["scores"]["strict"]["categories"][ESCAPE] = results["scores"]["strict"]["categories"]["git"]
    (run / "results.json").write_text(json.dumps(results))
    assert main(["show", str(run), *option]) == 0
    out = capsys.readouterr().out
    assert "owned" in out
    assert [char for char in out if not char.isprintable() and char != "\n"] == []
    assert "\nlines" not in out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.json", b""),
        ("results.json", b"[]"),
        ("results.json", b"{}"),
        ("results.json", b"\xff"),
        ("results.json", b"[" * 100_000),
        ("status.json", b"null"),
        ("provenance.json", b"{}"),
        ("provenance.json", b"{\x1b"),
        ("config.yaml", b"a: [\x1b"),
    ],
)
def test_a_broken_run_is_an_error_for_people(
    name: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is wrong with a run's files, the message says so, escaped, and the exit code is 1."""
    run = make_run(tmp_path / "run", records())
    (run / name).write_bytes(content)
    assert main(["show", str(run)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "not the directory of a finished run" in err
    assert "\x1b" not in err


@pytest.mark.parametrize("field", ["scores", "sampling", "identity", "generation", "verdict", "target"])
@pytest.mark.parametrize("value", [None, [], {}, 10**400, "text"])
def test_a_result_of_another_shape_is_an_error_for_people(
    field: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A field of results.json with another type ends in a message or is shown as it is, never a traceback."""
    run = make_run(tmp_path / "run", records(), **{field: value})
    assert main(["show", str(run)]) in (0, 1)
    out, err = capsys.readouterr()
    assert bool(out) != ("not the directory of a finished run" in err)


def test_a_failed_run_says_why_it_has_nothing_to_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that failed is named with its status and the first line of its error."""
    run = make_run(tmp_path / "run", records())
    (run / "results.json").unlink()
    (run / "status.json").write_text(json.dumps({"status": "failed", "error": "No space left.\n  where /"}))
    assert main(["show", str(run)]) == 1
    assert "its status is failed: No space left.\n" in capsys.readouterr().err
    assert main(["show", str(tmp_path / "nowhere")]) == 1
    assert "status.json: No such file or directory" in capsys.readouterr().err
