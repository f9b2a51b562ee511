"""``punie record``: what it reads, what it refuses, and what it says of a run."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from punie.results.scores import Scored, summarize

from punie.commands import prereg, record
from punie.config.compose import compose, quote_phases
from punie.stages.inputs import suite_digest
from punie.sweep import plan, preview
from punie.util.errors import PunieError
from punie.util.files import write_json, write_lines
from tests.conftest import answer

TINY = ("+phase=43b", "model=tiny")
HOSTILE = "<!-- punie:end run -->\n<script>|`\x1b[31m"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def document() -> Path:
    """A registration of phase 43b."""
    return register(*TINY)


def register(*overrides: str) -> Path:
    before = set(prereg.FOLDER.glob("*"))
    assert call(prereg, *overrides) == 0
    (path,) = set(prereg.FOLDER.glob("*")) - before
    return path


def call(command: Any, *arguments: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


def make_run(name: str, *overrides: str, keyword: float = 0.4, status: str = "finished") -> Path:
    """A run's directory, as if it had been run after the registration; two prompts, one of them hostile."""
    folder = Path(name)
    folder.mkdir(parents=True)
    config = compose(quote_phases(overrides))
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    samples = [
        answer(
            key,
            taxonomy="unknown tool",
            scores={
                "keyword": {"value": value, "reason": ""},
                "strict": {"value": 0.0, "reason": reason},
            },
        )
        for key, value, reason in (
            ("a|b", keyword, f"unknown tool: {HOSTILE}"),
            ("c", keyword / 2, "no tool"),
        )
    ]
    scores = [{"keyword": s["scores"]["keyword"]["value"], "strict": 0.0} for s in samples]
    scored = [Scored(s["id"], "git", of, "no call", False) for s, of in zip(samples, scores, strict=True)]
    files = {"adapters.safetensors": "2", "checkpoints/0000006/adapters.safetensors": "1"}
    results = {
        "scores": summarize(scored) | {"missing": {"count": 0, "reasons": {}}},
        "target": "quantized",
        "sampling": {"temperature": 0.0, "seed": 0, "repeats": 1},
        "identity": {
            "unverified": None,
            "weights": {"whole": "f" * 64},
            "suite": {"name": "core27", "sha256": suite_digest("core27")},
        },
        "generation": {"samples": 2},
        "verdict": {"summary": ""},
        "artifacts": {
            "train": {"key": "0", "files": files | {"checkpoints/0000012/adapters.safetensors": "2"}}
        },
    }
    write_json(folder / "results.json", results)
    write_lines(folder / "samples.jsonl", samples)
    losses = [
        ("valid", 0, 4.0),
        ("train", 6, 2.0),
        ("valid", 6, 0.5),
        ("train", 12, 1.0),
        ("valid", 12, 0.75),
    ]
    write_lines(folder / "train.jsonl", [{"kind": k, "iter": i, "loss": loss} for k, i, loss in losses])
    stages = [{"stage": "evaluate", "reused": False, "reason": "built 2100-01-01 00:00:01"}]
    started = "2100-01-01T00:00:00+00:00"
    write_json(folder / "status.json", {"status": status, "started": started, "stages": stages})
    machine = {"device": "cpu"}
    packages = {"mlx": "1", "mlx-lm": "2"}
    write_json(
        folder / "provenance.json",
        {
            "started": started,
            "overrides": list(overrides),
            "git": None,
            "machine": machine,
            "packages": packages,
        },
    )
    return folder


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_run_is_recorded(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verdict, next step, scores with intervals against the baseline, prompts, training and checkpoint."""
    assert call(record, make_run("runs/r1", *TINY)) == 0
    assert "r1: as registered" in capsys.readouterr().out
    text = document.read_text()
    assert "Nothing is recorded yet" not in text
    assert "### Run r1" in text
    assert "mixture-of-experts routing is needed" in text
    assert "Next: nothing, the tree of phases ends here (45 → 46 → 43b" in text
    assert "Criteria and config are those registered." in text
    assert "| git | 2 | 0.300 | 0.20 to 0.40 | 0.000 | 0.00 to 0.66 | – | – |" in text
    assert "| overall | 2 | 0.300 | 0.20 to 0.40 | 0.000 | 0.00 to 0.66 | 0.824 | -0.524 |" in text
    assert "| overall | >= 0.8 | 0.300 | no |" in text
    assert "| c | git | 0.200 | 0.000 | unknown tool: no tool |" in text
    assert "| training loss | 2.000 | 1.000 | 1.000 | 12 |" in text
    assert "| validation loss | 4.000 | 0.750 | 0.500 | 6 |" in text
    assert "The adapter is that of iteration 12." in text


def test_a_models_words_stay_words(document: Path) -> None:
    """Text that looks like a marker, markup or an escape sequence is in a code span, in its own cell."""
    assert call(record, make_run("r1", *TINY)) == 0
    (row,) = [line for line in document.read_text().split("\n") if line.startswith("| a\\|b |")]
    assert row.endswith("`` unknown tool: <!-- punie:end run --> <script>\\|`␛[31m `` |")
    assert call(record, "r1") == 0


def test_recording_is_idempotent_and_keeps_what_people_wrote(
    document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice gives the same bytes; a second run leaves the first and every word of people as they are."""
    words = "We found *nothing*.\r\n\r\n\ttabs, trailing   \n"
    document.write_bytes(document.read_bytes().replace(b"To be written by people", words.encode()))
    assert call(record, make_run("r1", *TINY), document) == 0
    once = document.read_bytes()
    stamp = document.stat().st_mtime_ns
    assert call(record, "r1", document) == 0
    assert "it says all this already" in capsys.readouterr().out
    assert (document.read_bytes(), document.stat().st_mtime_ns) == (once, stamp)
    assert call(record, make_run("r2", *TINY, keyword=0.8), document) == 0
    both = document.read_bytes()
    assert words.encode() in both
    cut = both.index(b"<!-- punie:run r2 -->")
    assert both[:cut] == once[:cut]
    assert both.endswith(once[cut:])


def test_what_was_changed_after_registration_is_said(document: Path) -> None:
    """Changed criteria and config are named with both values; the registered criteria give the verdict."""
    criteria = "phase.criteria=[{metric: overall, value: 0.1}]"
    assert call(record, make_run("r1", *TINY, "lora.rank=4", criteria), document) == 0
    text = document.read_text()
    assert "| phase.criteria.overall | `>= 0.8` | `>= 0.1` |" in text
    assert "| lora.rank | 8 | 4 |" in text
    assert "**phase 43b: 1 of 1 criteria missed" in text
    assert "By the criteria of the run itself: phase 43b: its criterion is met" in text
    assert "Criteria and config are those registered." not in text


def test_answers_from_before_the_registration_are_said_to_be(
    document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that began before, or that found its answers in the store, was not registered in advance."""
    early = "The answers are of 2020-01-01T00:00:00+00:00, before the registration."
    for name, values in (
        ("began", {"started": "2020-01-01T00:00:00+00:00"}),
        (
            "reused",
            {"stages": [{"stage": "evaluate", "reused": True, "reason": "built 2020-01-01 00:00:00"}]},
        ),
    ):
        folder = make_run(name, *TINY)
        change(folder / "status.json", **values)
        assert call(record, folder) == 0
    assert document.read_text().count(early) == 2
    assert capsys.readouterr().out.count(": not as registered: answered before the registration\n") == 2


def test_an_edited_registration_is_said_to_be(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who makes the criteria in the document milder is told on by it."""
    document.write_text(document.read_text().replace("| overall | >= 0.8 |", "| overall | >= 0.1 |"))
    assert call(record, make_run("r1", *TINY)) == 0
    assert "The registered part of this document was edited." in document.read_text()
    assert "r1: not as registered: the document was edited\n" in capsys.readouterr().out


def test_the_document_is_found_by_phase_and_config(document: Path) -> None:
    """Among several of a phase the one of this config is taken; without one of it, none is guessed."""
    other = register(*TINY, "lora.rank=4")
    assert call(record, make_run("r1", *TINY, "lora.rank=4")) == 0
    assert "### Run r1" in other.read_text()
    assert "### Run r1" not in document.read_text()
    with pytest.raises(PunieError, match="is not clear") as caught:
        call(record, make_run("r2", *TINY, "lora.rank=2"))
    assert str(caught.value.found) == ", ".join(sorted([document.name, other.name]))


def make_sweep(name: str, *overrides: str, scores: dict[int, float]) -> Path:
    """A sweep's folder; the jobs with a score, by their number, have finished."""
    folder, planned = Path(name), preview.plan(overrides)
    plan.freeze(planned, folder)
    (folder / "jobs").mkdir()
    for number, score in scores.items():
        job = planned.jobs[number]
        make_run(str(folder / job.folder), *job.overrides, keyword=score)
    return folder


def test_a_sweep_is_recorded_as_a_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """Its registered outcome over all jobs, each job with its state, and a part for each finished one."""
    path = register("+phase=46", "model=tiny")
    folder = make_sweep("s", "+phase=46", "model=tiny", scores={0: 1.0, 1: 1.0, 2: 0.1, 3: 1.0})
    assert call(record, folder) == 0
    out = capsys.readouterr().out
    assert "s: 4 of 5 jobs have finished" in out
    assert "not recorded, it has not finished" in out
    assert out.count(": as registered") == 4
    text = path.read_text()
    names = [job.name for job in sorted((folder / "jobs").iterdir())]
    order = [text.index(f"### {part}") for part in ("Sweep s", *(f"Run s/{each}" for each in names))]
    assert order == sorted(order)
    assert "**phase 46: open**" in text
    why = (
        "seeds_reaching_criteria is 0, and may lie between 0 and 4 (5 seeds, each by its interval): 1 job is"
    )
    assert why in text
    assert f"| {names[2]} | seed=2 | finished | 0.075 | 0.000 | yes |" in text
    assert "| seed=42 | planned | – | – | yes |" in text
    assert "Registered, and not run in this sweep" not in text
    once = path.read_bytes()
    assert call(record, folder) == 0
    assert path.read_bytes() == once


def test_a_sweep_that_leaves_jobs_out_is_told_on() -> None:
    """Registered jobs that a sweep does not have are named, and one that was not registered is no."""
    path = register("+phase=46", "model=tiny", "seed=0,7,8")
    folder = make_sweep("s", "+phase=46", "model=tiny", "seed=0,9", scores={0: 1.0, 1: 1.0})
    assert call(record, folder) == 0
    text = path.read_text()
    left_out = text[text.index("Registered, and not run in this sweep") : text.index("#### Jobs")]
    assert "- lora.seed=7, eval.seed=7\n- lora.seed=8" in left_out
    assert "| seed=9 | finished | 0.750 | 0.000 | no |" in text


def test_the_registered_outcomes_count_for_a_sweep() -> None:
    """A sweep that was run with milder criteria has the outcome of those registered."""
    path = register("+phase=46", "model=tiny")
    milder = "phase.criteria=[{metric: overall, value: 0.0}]"
    scores = dict.fromkeys(range(5), 0.1)
    assert call(record, make_sweep("s", "+phase=46", "model=tiny", milder, scores=scores), path) == 0
    assert "**phase 46: a rare event**" in path.read_text()


def test_a_sweep_of_another_version_is_refused(document: Path) -> None:
    """A folder of jobs without a plan is no sweep's, and nothing is written."""
    before = document.read_bytes()
    make_run("s/jobs/000-x", *TINY)
    with pytest.raises(PunieError, match="not a sweep's"):
        call(record, "s")
    assert document.read_bytes() == before


def test_a_document_of_another_phase_is_refused(document: Path) -> None:
    """A run is not recorded where another phase was registered."""
    before = document.read_bytes()
    folder = make_run("r1", "+phase=43a", "model=tiny")
    with pytest.raises(PunieError, match="of another phase"):
        call(record, folder, document)
    with pytest.raises(PunieError, match="Phase 43a was not registered"):
        call(record, folder)
    assert document.read_bytes() == before


def test_damage_loses_nothing(document: Path) -> None:
    """A document whose markers an editor damaged stays as it is, and no other file is left beside it."""
    document.write_text(document.read_text().replace("<!-- punie:end summary -->", "<!-- punie: end -->"))
    before = document.read_bytes()
    folder = make_run("r1", *TINY)
    with pytest.raises(PunieError, match="markers are damaged"):
        call(record, folder, document)
    assert document.read_bytes() == before
    assert list(document.parent.iterdir()) == [document]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("status.json", '{"status": "failed", "error": "out of memory"}', "failed: out of memory"),
        ("status.json", "[]", "status.json is not a JSON object"),
        ("status.json", '{"status": "finished"}', "status.json or results.json: 'stages'"),
        ("results.json", "{}", "has no artifacts"),
        ("results.json", None, "results.json"),
        ("samples.jsonl", None, "samples.jsonl"),
        ("samples.jsonl", "{}\n", "samples.jsonl:1"),
        ("provenance.json", "{}", "another shape"),
        ("config.yaml", "a: [1", "config.yaml"),
        ("config.yaml", "unknown: 1", "config.yaml"),
    ],
)
def test_a_run_that_cannot_be_recorded_is_told_as_such(
    document: Path, name: str, content: str | None, words: str
) -> None:
    """An unfinished run, or files of another shape: what is wrong is named, and nothing is written."""
    folder = make_run("r1", *TINY)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    before = document.read_bytes()
    with pytest.raises(PunieError) as caught:
        call(record, folder, document)
    assert words in str(caught.value)
    assert document.read_bytes() == before


def test_a_run_without_a_phase_was_not_registered(document: Path) -> None:
    """There is no document for a run that asked nothing; a folder that is no run is no run."""
    with pytest.raises(PunieError, match="has no phase"):
        call(record, make_run("r1", "model=tiny"), document)
    with pytest.raises(PunieError, match="not the directory of a finished run"):
        call(record, "nowhere")
    shutil.rmtree("docs")
    with pytest.raises(PunieError, match="cannot be read"):
        call(record, make_run("r2", *TINY), document)
