"""``punie record``: what it reads, what it refuses, and what it says of a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from punie.__main__ import parser
from punie.commands import prereg, record
from punie.sweep import plan, preview
from punie.util.errors import PunieError
from punie.util.files import write_lines
from tests.unit.commands import runs
from tests.unit.commands.runs import amend
from tests.unit.results.made import sample

TINY = ("+phase=43b", "model=tiny")
HOSTILE = "<!-- punie:end -->\n<script>|`\x1b[31m"
REGISTERED = "criteria, config, and inputs whose digests were known."


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def document() -> Path:
    """A registration of phase 43b."""
    return register(*TINY)


def register(*overrides: str) -> Path:
    before = set(prereg.FOLDER.glob("*.md"))
    assert prereg.run(parser("prereg").parse_args(list(overrides))) == 0
    (path,) = set(prereg.FOLDER.glob("*.md")) - before
    return path


def recorded(*arguments: object) -> int:
    return record.run(parser("record").parse_args([str(argument) for argument in arguments]))


def make_run(name: str, *overrides: str, keyword: float = 0.4) -> Path:
    """A run's directory, as if it had been run after the registration; two prompts, one of them hostile."""
    samples = [
        sample(
            key,
            taxonomy="unknown tool",
            scores={"keyword": {"value": value, "reason": ""}, "strict": {"value": 0.0, "reason": reason}},
        ).plain()
        for key, value, reason in (
            ("a|b", keyword, f"unknown tool: {HOSTILE}"),
            ("c", keyword / 2, "no tool"),
        )
    ]
    folder = runs.make_run(Path(name), samples, overrides, sampling={**runs.SAMPLING, "repeats": 1})
    losses = [
        ("valid", 0, 4.0),
        ("train", 6, 2.0),
        ("valid", 6, 0.5),
        ("train", 12, 1.0),
        ("valid", 12, 0.75),
    ]
    write_lines(folder / "train.jsonl", [{"kind": k, "iter": i, "loss": loss} for k, i, loss in losses])
    amend(folder / "status.json", started="2100-01-01T00:00:00+00:00")
    amend(folder / "provenance.json", overrides=list(overrides))
    return folder


def test_a_run_is_recorded(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verdict, next step, scores with intervals against the baseline, prompts and training."""
    assert recorded(make_run("runs/r1", *TINY)) == 0
    assert "r1: as registered" in capsys.readouterr().out
    text = document.read_text()
    for words in (
        "### Run r1",
        "mixture-of-experts routing is needed",
        "Next: nothing, the tree of phases ends here (45 → 46 → 43b",
        REGISTERED,
        "(not committed to git)",
        "| git | 2 | 0.300 | 0.100 | 0.000 | 0.00 to 0.66 | – |",
        "| overall | 2 | 0.300 | 0.100 | 0.000 | 0.00 to 0.66 | 0.824 |",
        "| overall | >= 0.8 | 0.300 | no |",
        "| c | git | 0.200 | 0.000 | unknown tool: no tool |",
        "| training loss | 2.000 | 1.000 | 1.000 | 12 |",
        "| validation loss | 4.000 | 0.750 | 0.500 | 6 |",
    ):
        assert words in text


def test_text_of_a_model_stays_text(document: Path) -> None:
    """Text that looks like a marker, markup or an escape sequence is in a code span, in its own cell."""
    assert recorded(make_run("r1", *TINY)) == 0
    (row,) = [line for line in document.read_text().split("\n") if line.startswith("| `a\\|b`")]
    assert row.endswith("`` unknown tool: <!-- punie:end --> <script>\\|`␛[31m `` |")


def test_recording_is_idempotent_and_keeps_what_people_wrote(
    document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice gives the same bytes; a second run leaves the first and every word of people as they are."""
    words = "We found *nothing*.\r\n\r\n\ttabs, trailing   \n"
    document.write_bytes(document.read_bytes().replace(b"To be written by people", words.encode()))
    assert recorded(make_run("r1", *TINY), document) == 0
    once, stamp = document.read_bytes(), document.stat().st_mtime_ns
    assert recorded("r1", document) == 0
    assert f"{document}: unchanged" in capsys.readouterr().out
    assert (document.read_bytes(), document.stat().st_mtime_ns) == (once, stamp)
    assert recorded(make_run("r2", *TINY, keyword=0.8), document) == 0
    both = document.read_bytes()
    assert words.encode() in both
    cut = both.index(b"<!-- punie:run r2 -->")
    assert once.startswith(both[:cut])
    assert both.endswith(once[cut:])


def test_what_was_changed_after_registration_is_said(
    document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Changed criteria and config are named with both values; the registered criteria give the verdict."""
    criteria = "phase.criteria=[{metric: overall, value: 0.1}]"
    assert recorded(make_run("r1", *TINY, "lora.rank=4", criteria), document) == 0
    assert "not as registered: lora.rank, phase.criteria.overall >=" in capsys.readouterr().out
    text = document.read_text()
    assert "| `phase.criteria.overall >=` | 0.8 | 0.1 |" in text
    assert "| lora.rank | 8 | 4 |" in text
    assert "**phase 43b: 1 of 1 criteria missed" in text
    assert REGISTERED not in text


def test_responses_from_before_the_registration_are_said_to_be(
    document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that began before, or that found its responses in the store, was not registered in advance."""
    reused = {
        "stage": "evaluate",
        "key": "",
        "reused": True,
        "reason": "built 2020-01-01 00:00:00",
        "seconds": 0,
    }
    for name, values in (
        ("began", {"started": "2020-01-01T00:00:00+00:00"}),
        ("reused", {"stages": [reused]}),
    ):
        folder = make_run(name, *TINY)
        amend(folder / "status.json", **values)
        assert recorded(folder) == 0
    assert document.read_text().count("The responses are of 2020-01-01T00:00:00+00:00, the registration") == 2
    assert capsys.readouterr().out.count(": not as registered: answered before the registration\n") == 2


def test_the_document_is_found_by_config(document: Path) -> None:
    """Among several of a phase the one of this config is taken; without one of it, none is guessed."""
    other = register(*TINY, "lora.rank=4")
    assert recorded(make_run("r1", *TINY, "lora.rank=4")) == 0
    assert "### Run r1" in other.read_text()
    assert "### Run r1" not in document.read_text()
    with pytest.raises(PunieError, match="None of several documents") as caught:
        recorded(make_run("r2", *TINY, "lora.rank=2"))
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
    assert recorded(folder) == 0
    out = capsys.readouterr().out
    assert "s: 4 of 5 jobs have finished" in out
    assert out.count(": as registered") == 4
    text = path.read_text()
    names = [job.name for job in sorted((folder / "jobs").iterdir())]
    order = [text.index(f"### {part}") for part in ("Sweep s", *(f"Run s/{each}" for each in names))]
    assert order == sorted(order)
    assert "**phase 46: open**" in text
    assert (
        "seeds_reaching_criteria is 0, range 0 to 4 (5 training seeds, each by its interval): 1 job is"
        in text
    )
    assert f"| {names[2]} | seed=2 | finished | 0.075 | 0.000 | yes |" in text
    assert "| seed=42 | planned | – | – | yes |" in text
    assert "| not run |" not in text
    assert recorded(folder) == 0
    assert path.read_text() == text


def test_a_sweep_that_leaves_jobs_out_says_so() -> None:
    """Registered jobs that a sweep does not have are named, and a job that was not registered is marked."""
    path = register("+phase=46", "model=tiny", "seed=0,7,8")
    assert recorded(make_sweep("s", "+phase=46", "model=tiny", "seed=0,9", scores={0: 1.0, 1: 1.0})) == 0
    text = path.read_text()
    assert "| – | seed=7 | not run | – | – | – |\n| – | seed=8 | not run |" in text
    assert "| seed=9 | finished | 0.750 | 0.000 | no |" in text


def test_the_registered_outcomes_count_for_a_sweep() -> None:
    """A sweep that was run with milder criteria has the outcome of those registered."""
    path = register("+phase=46", "model=tiny")
    milder = "phase.criteria=[{metric: overall, value: 0.0}]"
    scores = dict.fromkeys(range(5), 0.1)
    assert recorded(make_sweep("s", "+phase=46", "model=tiny", milder, scores=scores), path) == 0
    assert "**phase 46: a rare event**" in path.read_text()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("status.json", '{"status": "failed", "error": "out of memory"}', "failed: out of memory"),
        ("status.json", "[]", "status.json cannot be read"),
        ("results.json", "{}", "results.json cannot be read"),
        ("results.json", None, "it has no results.json"),
        ("samples.jsonl", None, "samples.jsonl"),
        ("samples.jsonl", "{}\n", "samples.jsonl:1"),
        ("train.jsonl", '{"kind": 1}\n', "train.jsonl cannot be read"),
        ("provenance.json", "[]", "provenance.json cannot be read"),
        ("config.yaml", "a: [1", "config.yaml"),
        ("config.yaml", "unknown: 1", "config.yaml"),
    ],
)
def test_a_run_that_cannot_be_recorded_is_named(
    document: Path, name: str, content: str | None, words: str
) -> None:
    """An unfinished run, or files of another shape: what is wrong is named, and nothing is written."""
    folder = make_run("r1", *TINY)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    before = document.read_bytes()
    with pytest.raises(PunieError) as caught:
        recorded(folder, document)
    assert words in str(caught.value)
    assert document.read_bytes() == before


def test_what_was_not_registered_is_refused(document: Path) -> None:
    """Another phase, no phase, no run, jobs without a plan, a damaged document: each is named."""
    before = document.read_bytes()
    folder = make_run("r1", "+phase=43a", "model=tiny")
    make_run("s/jobs/000-x", *TINY)
    for arguments, words in (
        ((folder, document), "about another phase"),
        ((folder,), "was not registered"),
        ((make_run("r2", "model=tiny"), document), "about another phase"),
        (("nowhere",), "not the directory of a finished run"),
        (("s",), "not a sweep's"),
    ):
        with pytest.raises(PunieError, match=words):
            recorded(*arguments)
    assert document.read_bytes() == before
    document.write_text(document.read_text().replace("<!-- punie:end -->", ""))
    for words in ("markers are damaged", "cannot be read"):
        with pytest.raises(PunieError, match=words):
            recorded(make_run(words, *TINY), document)
        shutil.rmtree("docs", ignore_errors=True)
