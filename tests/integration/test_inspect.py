"""``punie export-inspect`` beside Inspect itself. CONTRIBUTING says how to run these."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest

from punie.__main__ import main
from tests.conftest import World, read_json
from tests.unit.results.made import RIGHT, SAMPLING, conversation, make_run, records, write_records

pytestmark = pytest.mark.inspect


@pytest.fixture(scope="session")
def inspect_log() -> Any:
    """Inspect's own reader of logs."""
    return pytest.importorskip("inspect_ai.log", reason="needs punie[inspect]; see CONTRIBUTING")


def export(run: Path, out: Path) -> Path:
    assert main(["export-inspect", str(run), str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def twice(inspect_log: Any, world: World) -> Path:
    """A real run with two responses to each prompt, at temperature 0.7."""
    return world.run("eval.repeats=2", "eval.temperature=0.7")


@pytest.mark.parametrize("suffix", ["eval", "json"])
def test_inspect_reads_what_the_run_recorded(
    suffix: str, twice: Path, tmp_path: Path, inspect_log: Any
) -> None:
    """Every response of a real run is there with prompt, output, both scores, their reasons, and tokens."""
    log = inspect_log.read_eval_log(str(export(twice, tmp_path / f"run.{suffix}")))
    rows = [json.loads(line) for line in (twice / "samples.jsonl").open(encoding="utf-8")]
    assert len(rows) == 14
    rows.sort(key=lambda row: (row["repeat"], row["id"]))  # the order in which Inspect reads them
    found = [
        (
            sample.id,
            sample.epoch - 1,
            sample.input,
            sample.output.completion,
            {name: (score.value, score.explanation) for name, score in sample.scores.items()},
            (sample.output.usage.input_tokens, sample.output.usage.output_tokens),
            sample.output.stop_reason == "max_tokens",
            sample.scores["strict"].metadata["taxonomy"],
            sample.error,
        )
        for sample in log.samples
    ]
    assert found == [
        (
            row["id"],
            row["repeat"],
            row["prompt"],
            row["output"],
            {name: (score["value"], score["reason"]) for name, score in row["scores"].items()},
            (row["prompt_tokens"], len(row["tokens"])),
            row["finish_reason"] == "length",
            row["taxonomy"],
            None,
        )
        for row in rows
    ]


def test_the_header_binds_scores_to_what_gave_them(twice: Path, tmp_path: Path, inspect_log: Any) -> None:
    """Scores, sampling parameters, model, suite, tokens and every digest are those of results.json."""
    log = inspect_log.read_eval_log(str(export(twice, tmp_path / "run.eval")), header_only=True)
    results = read_json(twice / "results.json")
    identity, found = results["identity"], log.eval.metadata["identity"]
    del identity["weights"]["tensors"]
    assert found == identity
    assert log.eval.metadata["sampling"] == results["sampling"]
    assert (log.plan.config.temperature, log.plan.config.seed) == (0.7, results["sampling"]["seed"])
    assert (log.status, log.eval.model, log.eval.dataset.name) == (
        "success",
        "punie/embedded/quantized",
        identity["suite"]["name"],
    )
    assert log.eval.config.epochs == 2
    (usage,) = log.stats.model_usage.values()
    assert usage.output_tokens == results["generation"]["tokens"]
    for score in log.results.scores:
        overall = results["scores"][score.name]["overall"]
        assert score.metrics["mean"].value == overall["mean"]
        assert score.metrics["stderr"].value == overall["stderr"]
        for category, each in results["scores"][score.name]["categories"].items():
            assert score.metrics[category].value == each["mean"]


def test_missing_responses_are_errors_in_place(tmp_path: Path, inspect_log: Any) -> None:
    """A missing response is a sample with an error; there is no overall score unless that is allowed."""
    run = make_run(tmp_path / "run", records([RIGHT, None, "I see.", RIGHT]))
    log = inspect_log.read_eval_log(str(export(run, tmp_path / "run.eval")))
    (missing,) = [sample for sample in log.samples if sample.error]
    assert (missing.id, missing.epoch) == ("git-01", 2)
    assert missing.error.message == "the server closed the connection"
    assert not missing.scores
    assert log.status == "error"
    assert "1 of 4 responses are missing" in log.error.message
    assert (log.results.total_samples, log.results.completed_samples) == (4, 3)
    assert ["mean" in score.metrics for score in log.results.scores] == [False, False]
    rows = records([RIGHT, None, "I see.", RIGHT])
    allowed = make_run(tmp_path / "allowed", rows, ["eval.allow_missing=true"])
    log = inspect_log.read_eval_log(str(export(allowed, tmp_path / "allowed.eval")))
    assert (log.status, log.results.scores[0].metrics["mean"].value) == ("success", pytest.approx(1 / 3))
    write_records(run, records([None, None, None, None]))
    log = inspect_log.read_eval_log(str(export(run, tmp_path / "none.eval")))
    assert [sample.error is not None for sample in log.samples] == [True] * 4
    assert (log.status, log.results.scores) == ("error", [])


@pytest.mark.parametrize("suffix", ["eval", "json"])
def test_the_same_run_gives_the_same_log(suffix: str, twice: Path, tmp_path: Path, inspect_log: Any) -> None:
    """Two exports of a run are byte for byte the same; a .eval file needs only the zip of all versions."""
    first = export(twice, tmp_path / f"first.{suffix}")
    time.sleep(2.1)  # a zip counts time in steps of two seconds
    assert first.read_bytes() == export(twice, tmp_path / f"second.{suffix}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"first.{suffix}", f"second.{suffix}"]
    if suffix == "eval":
        with zipfile.ZipFile(first) as packed:
            assert {entry.compress_type for entry in packed.infolist()} == {zipfile.ZIP_DEFLATED}


def test_a_conversation_has_all_its_messages(tmp_path: Path, inspect_log: Any) -> None:
    """The turns before the one that decided are input, with their responses, results and replies; tokens are
    those of all turns, and two exports are the same."""
    run = make_run(tmp_path / "run", [conversation(1.0, 0.0, tokens=[1, 2]).plain()])
    first = export(run, tmp_path / "run.eval")
    (sample,) = inspect_log.read_eval_log(str(first)).samples
    told = [(message.role, message.text) for message in sample.messages]
    assert told == [
        ("user", "do talk"), ("assistant", "answer 1"), ("tool", "<b>R</b>"), ("assistant", "So."),
        ("user", "do talk"), ("assistant", "answer 2"),
    ]  # fmt: skip
    assert [(message.role, message.text) for message in sample.input] == told[:-1]
    assert (sample.metadata["turn"], sample.metadata["turns"]) == (2, 3)
    assert sample.output.usage.input_tokens == 2
    assert first.read_bytes() == export(run, tmp_path / "again.eval").read_bytes()


def test_hostile_text_stays_text(tmp_path: Path, inspect_log: Any) -> None:
    """Control characters, HTML and what looks like Inspect's own attachments come back as they were."""
    hostile = "\x1b[2J\x00<script>alert(1)</script>\u2028attachment://" + "0" * 32
    run = make_run(tmp_path / "run", records([hostile, None]))
    rows = records([hostile, None])
    rows[1]["missing"] = hostile
    write_records(run, rows)
    for suffix in ("eval", "json"):
        log = inspect_log.read_eval_log(str(export(run, tmp_path / f"run.{suffix}")))
        assert log.samples[0].output.completion == hostile
        assert log.samples[1].error.message == hostile
        assert "\x1b" not in log.samples[1].error.traceback_ansi


def test_edited_responses_are_marked(tmp_path: Path, inspect_log: Any) -> None:
    """Responses that are not as the run wrote them make the log's identity unverified, in its tags too."""
    run = make_run(tmp_path / "run", records())
    write_records(run, records([RIGHT, RIGHT, RIGHT, RIGHT]))
    log = inspect_log.read_eval_log(str(export(run, tmp_path / "run.eval")))
    assert "not as the run wrote it" in log.eval.metadata["identity"]["unverified"]
    assert log.eval.tags == ["identity: unverified"]


@pytest.mark.parametrize("sampling", [None, {}, {**SAMPLING, "temperature": "hot"}])
def test_results_of_another_type_are_named(
    sampling: Any, tmp_path: Path, inspect_log: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sampling parameters that are not there, or not numbers, end in a message and leave no file."""
    run = make_run(tmp_path / "run", records(), sampling=sampling)
    assert main(["export-inspect", str(run), str(tmp_path / "run.eval")]) == 1
    assert "results.json cannot be read" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_inspect_view_opens_the_log(twice: Path, tmp_path: Path, inspect_log: Any) -> None:
    """``inspect view`` lists the log and serves its header."""
    log = export(twice, tmp_path / "logs/run.eval")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "inspect_ai", "view", "start", "--log-dir", str(log.parent)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "view.txt").open("w") as output:
        viewer = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT)
    try:
        listed = get(f"http://127.0.0.1:{port}/api/logs", viewer)
        (file,) = listed["files"]
        assert file["name"].endswith("/logs/run.eval")
        name = urllib.parse.quote(file["name"], safe="")
        header = get(f"http://127.0.0.1:{port}/api/logs/{name}?header-only=0", viewer)
        assert header["eval"]["model"] == "punie/embedded/quantized"
    finally:
        viewer.terminate()
        viewer.wait(timeout=20)


def get(url: str, viewer: subprocess.Popen[Any]) -> Any:
    """The JSON at an address of the viewer, as soon as it answers."""
    for _ in range(300):
        assert viewer.poll() is None
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(0.1)  # it is still starting
    raise AssertionError(f"no answer from {url}")
