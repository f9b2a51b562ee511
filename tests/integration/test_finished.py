"""Commands that read, compare, summarize, record and reproduce runs, on runs that really ran."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from punie.__main__ import main
from punie.commands import reproduce
from punie.evals.scores import heading
from punie.results.registration import END
from tests.conftest import QUICK, World, read_json
from tests.processes import punie, start

HEAVY = ("mlx", "mlx_lm", "transformers")


@pytest.mark.parametrize("command", ["show", "rescore"])
def test_reading_a_run_is_quick(command: str, world: World) -> None:
    """``show`` and ``rescore`` import neither mlx nor transformers, and a run's own scorers agree with it."""
    code = (
        "import sys\nfrom punie.__main__ import main\n"
        f"code = main([{command!r}, {str(world.first)!r}])\n"
        f"sys.exit(code or ' '.join(sys.modules.keys() & set({HEAVY!r})) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=world.cwd, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert read_json(world.first / "results.json")["identity"]["weights"]["whole"] in done.stdout
    assert "unverified" not in done.stdout


def test_show_names_every_digest_of_a_run(world: World) -> None:
    """Every sha256 in results.json's identity, and every artifact's key, is in ``show --tensors``."""
    results = read_json(world.first / "results.json")
    identity, weights = results["identity"], results["identity"]["weights"]
    digests = [identity[name] for name in ("tokenizer", "chat_template", "prompts")]
    digests += [weights["whole"], identity["suite"]["sha256"]]
    digests += [*weights["files"].values(), *weights["tensors"].values()]
    digests += [artifact["key"] for artifact in results["artifacts"].values()]
    done = punie("show", "--tensors", str(world.first), cwd=world.cwd)
    assert done.code == 0, done.err
    assert [digest for digest in digests if digest not in done.out] == []


def test_a_run_and_its_config(world: World) -> None:
    """A run is the same as the overrides that made it."""
    done = punie("diff", str(world.first), " ".join(QUICK), cwd=world.cwd)
    assert done.code == 0, done.out
    assert "Nothing that decides the result differs." in done.out


def test_a_registered_run(world: World) -> None:
    """What was registered before a run is what is recorded of it, and recording again changes nothing."""
    overrides = [*QUICK, "+phase=43b", "model=tiny", "eval.seed=77"]  # responses of no other test
    done = punie("prereg", *overrides, cwd=world.cwd)
    assert (done.code, done.err) == (0, "")
    document = world.cwd / done.out.splitlines()[0]
    before = document.read_text()
    ran = punie(*overrides, cwd=world.cwd)
    assert ran.code == 0, ran.err
    assert "next: nothing, the tree of phases ends here (45 → 46 → 43b:" in ran.out
    done = punie("record", str(ran.run_directory), cwd=world.cwd)
    assert (done.code, done.err) == (0, "")
    assert f"{ran.run_directory.name}: as registered" in done.out
    text = document.read_text()
    head, _, tail = before.partition(END)
    assert text.startswith(head)
    assert text.endswith(END + tail)
    assert "Not as registered" not in text
    assert "| validation loss |" in text
    assert "Format lock" in text
    assert punie("record", str(ran.run_directory), str(document), cwd=world.cwd).code == 0
    assert document.read_text() == text


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


def test_a_run_that_does_not_come_out_equal(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Adapters other than those recorded, and other responses, are named; the exit code is 1."""
    run = tmp_path / "run"
    shutil.copytree(world.first, run)
    results = read_json(run / "results.json")
    results["artifacts"]["train"]["files"]["adapters.safetensors"] = "0" * 64
    results["answers"] = "0" * 64
    (run / "results.json").write_text(json.dumps(results))
    again = SimpleNamespace(
        artifacts=lambda: {"report": SimpleNamespace(file=lambda name: world.first / name)}
    )
    monkeypatch.setattr(reproduce, "plan_again", lambda source, store: (None, again))
    monkeypatch.setattr("punie.run.pipeline.run", lambda *given: None)
    assert main(["reproduce", str(run)]) == 1
    shown = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in shown if line}
    assert rows["train"] == ["different", "adapters.safetensors"]
    assert rows["evaluate"] == ["different", "responses"]
    assert rows["quantize"] == ["equal", "–"]


def test_what_is_no_run(world: World, tmp_path: Path) -> None:
    """A folder that is no finished run's is refused with exit code 2 and what it lacks."""
    (tmp_path / "half").mkdir()
    done = punie("reproduce", str(tmp_path / "half"), cwd=world.cwd)
    assert done.code == 2
    assert "it has no results.json" in done.err
    assert "Traceback" not in done.err


def test_a_real_run_is_summarized(world: World) -> None:
    """A summary's score, rates and failures of a run are those of its own results.json."""
    done = punie("summarize", str(world.first), "--format", "json", cwd=world.cwd)
    assert (done.code, done.err) == (0, "")
    found, results = json.loads(done.out), read_json(world.first / "results.json")
    scores = results["scores"]
    (run,) = found["runs"]
    own = {name: scores[name]["overall"] for name in ("keyword", "strict")}
    for name, figures in {**own, "wrapper": results["wrapper_rate"], **results["rates"]}.items():
        assert run["scores"][name]["estimate"] == figures["mean"]
    rows = {row[0]: row[1].split()[0] for row in found["tables"]["taxonomy"]["rows"]}
    assert rows == {heading(name): str(entry["count"]) for name, entry in results["taxonomy"].items()}
