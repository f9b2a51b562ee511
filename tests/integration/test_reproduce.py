"""``punie reproduce`` and ``punie summarize`` on runs that really ran."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

from tests.conftest import World, read_json
from tests.processes import punie, start


def test_an_interrupted_reproduction_goes_on_and_comes_out_equal(world: World, tmp_path: Path) -> None:
    """Killed when its base is there, the same command builds the rest in a store that was empty, and gives
    every digest again; another environment is a warning. A store that it did not fill itself is refused."""
    run, store = tmp_path / "run", tmp_path / "again"
    shutil.copytree(world.first, run)
    provenance = read_json(run / "provenance.json")
    provenance["packages"]["mlx-lm"] = "0.0.1"
    (run / "provenance.json").write_text(json.dumps(provenance))
    command = ("reproduce", str(run), "--store", str(store))
    killed = start(*command, cwd=world.cwd)
    deadline = time.monotonic() + 120
    while not list(store.glob("base/*/manifest.json")):
        assert killed.code is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.signal(signal.SIGKILL)
    assert killed.wait().code == -signal.SIGKILL
    assert not list(store.glob("report/*"))
    done = punie(*command, cwd=world.cwd)
    assert done.code == 0, done.out + done.err
    assert "everything there was built by this reproduction, begun 20" in done.out
    assert "✓ base       reused" in done.err
    assert "✓ evaluate   done" in done.err
    assert "Reproduced: every digest is equal." in done.out
    assert 'warning: packages.mlx-lm was "0.0.1" and is ' in done.out
    rows = dict(line.split()[:2] for line in done.out.splitlines() if line.endswith(" –"))
    assert rows == dict.fromkeys(("base", "train", "quantize", "evaluate"), "equal")

    def refused(words: str, store: Path = store) -> bool:
        done = punie("reproduce", str(run), "--store", str(store), cwd=world.cwd)
        return done.code == 2 and words in done.err and "Traceback" not in done.err

    (tmp_path / "other" / "train").mkdir(parents=True)
    assert refused("is not empty", tmp_path / "other")
    shutil.rmtree(store / "train")
    shutil.copytree(world.cwd / "outputs" / "store" / "train", store / "train")
    assert refused("and the reproduction began")
    shutil.rmtree(store / "train")
    mark = read_json(store / "reproduction.json")
    (store / "reproduction.json").write_text(json.dumps(mark | {"run": "0" * 64}))
    assert refused("it was begun for another run")
    (store / "reproduction.json").write_text("{")
    assert refused("JSONDecodeError")


def test_a_run_that_does_not_come_out_equal(world: World, tmp_path: Path) -> None:
    """Adapters other than those recorded, and other responses, are named; the exit code is 1."""
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
    assert rows["evaluate"] == ["different", "responses"]
    assert rows["quantize"] == ["equal", "–"]


def test_what_a_run_says_of_itself(world: World) -> None:
    """The record names data, suite, base and every artifact by digest, those of results.json among them."""
    provenance, results = (read_json(world.first / f"{name}.json") for name in ("provenance", "results"))
    inputs, artifacts = provenance["inputs"], provenance["artifacts"]
    assert inputs["suite"] == results["identity"]["suite"]["sha256"]
    assert inputs["data"].keys() == {"train.jsonl", "valid.jsonl"}
    assert "model.safetensors" in inputs["model"]
    assert artifacts.keys() == {"preflight", "base", "train", "quantize", "evaluate", "report"}
    for stage, entry in results["artifacts"].items():
        assert artifacts[stage]["key"] == entry["key"]
        assert entry["files"].items() <= artifacts[stage]["files"].items()


def test_what_is_no_run(world: World, tmp_path: Path) -> None:
    """A folder that is no finished run's is refused with exit code 2 and what it lacks."""
    (tmp_path / "half").mkdir()
    done = punie("reproduce", str(tmp_path / "half"), cwd=world.cwd)
    assert done.code == 2
    assert "it has no results.json" in done.err
    assert "Traceback" not in done.err


def test_a_real_run_is_summarized(world: World) -> None:
    """A summary's score and failures of a run are those of its own results.json."""
    done = punie("summarize", str(world.first), "--format", "json", cwd=world.cwd)
    assert (done.code, done.err) == (0, "")
    found, results = json.loads(done.out), read_json(world.first / "results.json")
    scores = results["scores"]
    (run,) = found["runs"]
    own = {name: scores[name]["overall"] for name in ("keyword", "strict")}
    for name, figures in {**own, "wrapper": results["wrapper_rate"]}.items():
        assert run["scores"][name]["estimate"] == figures["mean"]
    rows = {row[0]: row[1].split()[0] for row in found["tables"]["taxonomy"]["rows"]}
    assert rows == {name: str(entry["count"]) for name, entry in results["taxonomy"].items()}
