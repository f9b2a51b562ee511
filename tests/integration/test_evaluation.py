"""Evaluation through the front door: what a score is bound to, and what is said when it is not."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from punie.__main__ import main
from punie.evals.serve import serve
from punie.util.paths import resource
from tests.conftest import QUICK, World, read_json
from tests.processes import punie

BASE = ("eval.target=base", "eval.lock.temperatures=[]")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first four prompts of core27."""
    path = tmp_path_factory.mktemp("suite") / "four.jsonl"
    core = resource("data/suites/core27.jsonl").read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(core[:4]), "utf-8")
    return path


def test_identity_is_that_of_what_was_loaded(world: World) -> None:
    """Two models have no digest of weights in common, one tokenizer, one suite and the same prompts."""
    tiny, dense = (
        read_json(world.run(*BASE, f"model={name}") / "results.json")["identity"]
        for name in ("tiny", "tiny_dense")
    )
    assert tiny["weights"]["whole"] != dense["weights"]["whole"]
    assert not set(tiny["weights"]["files"].values()) & set(dense["weights"]["files"].values())
    assert tiny["suite"] == dense["suite"]
    assert tiny["chat_template"] == dense["chat_template"]
    assert len(tiny["weights"]["tensors"]) > 20


def test_the_config_cannot_claim_another_temperature(world: World) -> None:
    """Sampling is recorded as it was in force, all of it, and at 0.7 the answers are other ones than at 0;
    log-probabilities can be left out."""
    cold, warm = (world.run(*BASE, f"eval.temperature={t}", "eval.top_k=50", "eval.logprobs=false")
                  for t in (0.0, 0.7))  # fmt: skip
    sampling = [read_json(run / "results.json")["sampling"] for run in (cold, warm)]
    assert [each["temperature"] for each in sampling] == [0.0, 0.7]
    assert all(each["top_k"] == 50 and each["max_tokens"] == 256 and each["seed"] == 0 for each in sampling)
    rows = [lines(run / "samples.jsonl") for run in (cold, warm)]
    assert [row["tokens"] for row in rows[0]] != [row["tokens"] for row in rows[1]]
    assert {row["logprobs"] for row in rows[0]} == {None}


def test_nothing_of_an_answer_is_thrown_away(world: World) -> None:
    """A record has the whole output, its tokens, log-probabilities, and why it ended."""
    for row in lines(world.first / "samples.jsonl"):
        assert len(row["tokens"]) == len(row["logprobs"]) == row["output_tokens"]
        assert row["finish_reason"] in ("stop", "length")
        assert row["expect"]
        assert len(row["prompt_sha256"]) == 64


def test_the_lock_is_in_every_document(world: World) -> None:
    """The curve, its value beside the sampled rate, and the smallest margin are in results and reports."""
    lock = read_json(world.first / "results.json")["lock"]
    assert lock["temperatures"] == sorted({*lock["temperatures"], 0.7})
    assert len(lock["prompts"]) == 7
    for curve in lock["curves"]:
        assert len(curve["total"]) == len(lock["temperatures"])
        assert all(t == pytest.approx(sum(b[i] for b in curve["branches"].values()), abs=1e-6)
                   for i, t in enumerate(curve["total"]))  # fmt: skip
    page = (world.first / "report.html").read_text("utf-8")
    assert "Format lock" in page
    assert "<svg" in page
    assert "Format lock" in (world.first / "report.md").read_text("utf-8")


def test_targets_are_paired(world: World) -> None:
    """Several targets are scored in one run, each kept with its answers, and compared prompt by prompt."""
    done = punie(*QUICK, "eval.targets=[base,quantized]", cwd=world.cwd)
    assert done.code == 0, done.err
    run = world.cwd / done.run_directory
    results = read_json(run / "results.json")
    assert {entry["score"] for entry in results["paired"]} == {"strict", "keyword", "missed"}
    assert all((e["before"], e["after"], e["prompts"]) == ("base", "quantized", 7) for e in results["paired"])
    assert results["targets"]["base"]["identity"]["weights"] != results["identity"]["weights"]
    assert len(lines(run / "samples-base.jsonl")) == len(lines(run / "samples.jsonl")) == 7
    assert "missed calls, base → quantized" in done.out
    ship = results["ship"]
    measured = {row["metric"]: row["units"] for row in ship["rows"] if row["change"] is not None}
    assert {"task": 7, "prose": 20, "code": 20}.items() <= measured.items()
    assert [row["metric"] for row in ship["rows"] if "every item" in (row["reason"] or "")] == ["unwanted"]
    assert ship["decision"] in ("HOLD", "CANNOT TELL")
    assert all(
        ship["decision"] + ":" in text
        for text in (done.out, *((run / f"report.{kind}").read_text("utf-8") for kind in ("md", "html")))
    )
    assert main(["ship", str(run)]) in (3, 4)
    alone = world.run("eval.target=base")
    assert next(s for s in read_json(alone / "status.json")["stages"] if s["stage"] == "evaluate")["reused"]


def test_conversations_go_on_while_they_are_right(world: World) -> None:
    """turns12: the record holds every turn that was asked, scores again to the same, and is in the report."""
    run = world.run(*BASE, "eval.suite=turns12", "eval.temperature=0")
    rows = {row["id"]: row for row in lines(run / "samples.jsonl")}
    assert {row["turn"] for row in rows.values()} == {1, 2}
    for row in rows.values():
        assert [each["taxonomy"] for each in row["earlier"]] == ["correct"] * (row["turn"] - 1)
    (talk,) = (row for row in rows.values() if row["turn"] == 2)
    first, second = read_json(run / "results.json")["turns"][:2]
    assert (first["of_reached"]["n"], first["of_all"]["n"], second["of_reached"]["n"]) == (12, 12, 1)
    done = punie("rescore", str(run), cwd=world.cwd)
    assert "0 of 12 responses are scored differently" in done.out
    for page in ("report.html", "report.md"):
        text = (run / page).read_text("utf-8")
        assert f"Turn 2 of {talk['turns']}" in text
        assert "right, of those reached" in text


def test_a_gate_fails_with_code_3(world: World) -> None:
    """A score below the gate ends in exit code 3, with the run complete and the figures shown."""
    done = punie(*QUICK, "eval.fail_under=0.99", cwd=world.cwd)
    assert done.code == 3
    assert "lower end of its interval" in done.err
    assert read_json(world.cwd / done.run_directory / "status.json")["status"] == "finished"
    assert punie(*QUICK, "eval.fail_under=0.0", "eval.fail_on=estimate", cwd=world.cwd).code == 0


def test_a_server_gives_the_same_greedy_answers(world: World, suite: Path) -> None:
    """mlx_lm.server, started with the stored weights, answers like this process, by both APIs; by completions
    it is verified, and by chat it is not, because the server has rendered the prompts."""
    asked = (f"eval.suite={suite}", "eval.temperature=0", "eval.lock.temperatures=[]")
    here, there = world.run(*asked), world.run(*asked, "eval.backend=server")
    assert read_json(there / "results.json")["identity"]["unverified"] is None
    outputs = [
        [(row["id"], row["output"], row["tokens"]) for row in lines(r / "samples.jsonl")]
        for r in (here, there)
    ]
    assert outputs[0] == outputs[1]
    assert read_json(here / "results.json")["identity"] == read_json(there / "results.json")["identity"]
    chat = world.run(*asked, "eval.backend=server", "eval.server.api=chat")
    assert [(row["id"], row["output"], row["tokens"]) for row in lines(chat / "samples.jsonl")] == outputs[0]
    doubt = read_json(chat / "results.json")["identity"]["unverified"]
    assert doubt == "the server rendered the prompts, with its own chat template"
    assert all(doubt in (chat / f"report.{kind}").read_text("utf-8") for kind in ("html", "md"))


def test_another_model_behind_a_url_is_marked_everywhere(world: World, suite: Path, tmp_path: Path) -> None:
    """A server with other weights than named: unverified on the terminal, in results and in both reports."""
    with serve(resource("data/models/tiny_dense"), log=tmp_path / "log", float32=True) as server:
        place = f"store.dir={tmp_path}/store"  # what is not verified is set aside there
        options = (
            *BASE,
            f"eval.suite={suite}",
            "eval.backend=server",
            f"eval.server.url={server.url}",
            place,
        )
        done = punie(*QUICK, *options, cwd=world.cwd)
        again = punie(*QUICK, *options, cwd=world.cwd)
    assert done.code == again.code == 0, done.err + again.err
    assert "identity: unverified" in done.out
    run = world.cwd / done.run_directory
    assert "of a greedy response differ" in read_json(run / "results.json")["identity"]["unverified"]
    assert all("unverified" in (run / f"report.{kind}").read_text("utf-8").lower() for kind in ("html", "md"))
    stages = read_json(world.cwd / again.run_directory / "status.json")["stages"]
    assert not next(stage for stage in stages if stage["stage"] == "evaluate")["reused"]


class _Dying(http.server.BaseHTTPRequestHandler):
    """Answers the four probes and two requests, and then with HTML."""

    served = 0

    def do_GET(self) -> None:
        self._send(200, b"{}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        type(self).served += 1
        choice = {"text": "git_status", "finish_reason": "stop"}
        fine = type(self).served <= 6
        self._send(200 if fine else 502, json.dumps({"choices": [choice]}).encode() if fine else b"<html>")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""


@pytest.fixture
def dying() -> Iterator[str]:
    _Dying.served = 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Dying)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_errors_are_missing_answers_and_not_zeros(world: World, suite: Path, dying: str) -> None:
    """Half of the answers do not arrive: no overall score, the reasons counted, the others kept and shown."""
    options = [
        *BASE,
        f"eval.suite={suite}",
        "eval.backend=server",
        f"eval.server.url={dying}",
        "eval.server.retries=0",
    ]
    done = punie(*QUICK, *options, cwd=world.cwd)
    assert done.code == 0, done.err
    run = world.cwd / done.run_directory
    results = read_json(run / "results.json")
    assert results["missing"]["count"] == 2
    assert results["scores"]["strict"]["overall"]["mean"] is None
    assert "2 of 4 responses are missing" in done.out
    assert [row["missing"] is None for row in lines(run / "samples.jsonl")] == [True, True, False, False]
    for kind in ("html", "md"):
        assert "502" in (run / f"report.{kind}").read_text("utf-8")
    _Dying.served = 0
    allowed = punie(*QUICK, *options, "eval.allow_missing=true", cwd=world.cwd)
    scores = read_json(world.cwd / allowed.run_directory / "results.json")["scores"]
    assert scores["keyword"]["overall"]["n"] == 2


def test_a_prompt_beyond_the_context_is_named(world: World, suite: Path, tmp_path: Path) -> None:
    """An item whose prompt and answer do not fit the model is told with both lengths."""
    item = json.loads(suite.read_text("utf-8").split("\n")[0])
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps(item | {"prompt": "word " * 5000}) + "\n", "utf-8")
    done = punie(*QUICK, *BASE, f"eval.suite={long}", cwd=world.cwd)
    assert done.code == 1
    assert "suite item text-01" in done.err
    assert "context" in done.err


def test_a_prompt_that_was_trained_and_a_system_prompt_that_was_not_are_noted(
    world: World, suite: Path, tmp_path: Path
) -> None:
    """The preflight says that a suite's prompt is in the training data, and that its system prompt is not."""
    row = json.loads(resource("data/code_mode/train.jsonl").read_text("utf-8").split("\n")[0])
    asked = next(message["content"] for message in row["messages"] if message["role"] == "user")
    item = json.loads(suite.read_text("utf-8").split("\n")[0])
    leaked = tmp_path / "leaked.jsonl"
    leaked.write_text(json.dumps(item | {"prompt": asked}) + "\n", "utf-8")
    done = punie(*QUICK, *BASE, f"eval.suite={leaked}", "eval.system_prompt=Be brief.", cwd=world.cwd)
    assert done.code == 0, done.err
    notes = [line for line in done.err.splitlines() if "note:" in line]
    assert any("system prompt" in note for note in notes)
    assert any("train" in note and "suite" in note for note in notes)
