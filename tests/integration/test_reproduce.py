"""``punie reproduce`` and ``punie summarize`` on runs that really ran."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.conftest import World, punie, read_json


def test_a_run_comes_out_equal(world: World, tmp_path: Path) -> None:
    """The same config in an empty store gives every digest again, and the environment's change is told."""
    run = tmp_path / "run"
    shutil.copytree(world.first, run)
    provenance = read_json(run / "provenance.json")
    provenance["packages"]["mlx-lm"] = "0.0.1"
    (run / "provenance.json").write_text(json.dumps(provenance))
    done = punie("reproduce", str(run), "--store", str(tmp_path / "again"), cwd=world.cwd)
    assert done.code == 0, done.out + done.err
    assert 'warning: packages.mlx-lm was "0.0.1" and is ' in done.out
    rows = dict(line.split()[:2] for line in done.out.splitlines() if line.endswith(" –"))
    assert rows == dict.fromkeys(("base", "train", "quantize", "evaluate"), "equal")
    assert (tmp_path / "again" / "train").is_dir()
    refused = punie("reproduce", str(run), "--store", str(tmp_path / "again"), cwd=world.cwd)
    assert (refused.code, "is not empty" in refused.err) == (2, True)


def test_a_run_that_does_not_come_out_equal(world: World, tmp_path: Path) -> None:
    """Adapters other than those recorded, and other answers, are named; the exit code is 1."""
    run = tmp_path / "run"
    shutil.copytree(world.first, run)
    results = read_json(run / "results.json")
    results["artifacts"]["train"]["files"]["adapters.safetensors"] = "0" * 64
    results["answers"] = "0" * 64
    (run / "results.json").write_text(json.dumps(results))
    done = punie("reproduce", str(run), cwd=world.cwd)
    assert done.code == 1, done.err
    rows = {line.split()[0]: line.split()[1:] for line in done.out.splitlines() if line}
    assert rows["train"] == ["different", "adapters.safetensors"]
    assert rows["evaluate"] == ["different", "answers"]
    assert rows["quantize"] == ["equal", "–"]


def test_what_is_no_run(world: World, tmp_path: Path) -> None:
    """A folder that is no finished run's is refused with exit code 2 and what it lacks."""
    (tmp_path / "half").mkdir()
    done = punie("reproduce", str(tmp_path / "half"), cwd=world.cwd)
    assert done.code == 2
    assert "results.json: No such file or directory" in done.err
    assert "Traceback" not in done.err


def test_a_real_run_is_summarized(world: World) -> None:
    """A summary's score and failures of a run are those of its own results.json."""
    done = punie("summarize", str(world.first), "--format", "json", cwd=world.cwd)
    assert (done.code, done.err) == (0, "")
    found, scores = json.loads(done.out), read_json(world.first / "results.json")["scores"]
    (run,) = found["runs"]
    assert run["scores"]["keyword"] == scores["keyword"]["overall"]["mean"]
    assert run["scores"]["strict"] == scores["strict"]["overall"]["mean"]
    assert run["scores"]["wrapper"] == scores["wrapper_rate"]["mean"]
    rows = {row[0]: row[1].split()[0] for row in found["tables"]["taxonomy"]["rows"]}
    assert rows == {name: str(entry["count"]) for name, entry in scores["taxonomy"].items()}
