"""``punie prereg`` before the run, once; and ``punie record``: what it refuses, and what it says of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from punie.__main__ import main, parser
from punie.commands import prereg, record
from punie.results.registration import Registration, read
from punie.sweep import plan, preview
from punie.util.errors import PunieError
from punie.util.files import write_lines
from tests.unit.results import made
from tests.unit.results.made import amend, sample

TINY = ("+phase=43b", "model=tiny")
GIVEN = ("+phase=43a", "model=tiny")
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
    assert prereg_exit(*overrides) == 0
    (path,) = set(prereg.FOLDER.glob("*.md")) - before
    return path


def prereg_exit(*arguments: str) -> int:
    return prereg.run(parser("prereg").parse_args(list(arguments)))


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
    folder = made.make_run(Path(name), samples, overrides, sampling={**made.SAMPLING, "repeats": 1})
    losses = {"valid": {0: 4.0, 6: 0.5, 12: 0.75}, "train": {6: 2.0, 12: 1.0}}
    rows = [{"kind": kind, "iter": i, "loss": x} for kind, own in losses.items() for i, x in own.items()]
    write_lines(folder / "train.jsonl", rows)
    amend(folder / "status.json", started="2100-01-01T00:00:00+00:00")
    amend(folder / "provenance.json", overrides=list(overrides))
    return folder


def registered(*overrides: str) -> Registration:
    """What a fresh registration holds."""
    return read(register(*overrides)).registration


def test_a_registration_is_never_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    """The same config is registered once, also with other criteria; document and record stay as they were."""
    assert main(["prereg", *GIVEN]) == 0
    path, record = sorted(Path("docs/research").iterdir(), reverse=True)
    assert (path.suffix, path.with_suffix(".json")) == (".md", record)
    assert path.name.startswith("phase43a-")
    words = f"next: commit it and {record.name}, then python -m punie {' '.join(GIVEN)}"
    assert words in capsys.readouterr().out
    before = path.read_bytes(), record.read_bytes()
    with pytest.raises(PunieError, match="registered already") as caught:
        prereg_exit(*GIVEN, "phase.criteria=[{metric: overall, value: 0.1}]")
    assert caught.value.exit_code == 1
    assert (path.read_bytes(), record.read_bytes()) == before
    assert prereg_exit(*GIVEN, "lora.seed=5") == 0
    assert len(list(Path("docs/research").iterdir())) == 4


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ((), "no phase to register"),
        (("+phase=45,46",), "A document is about one phase"),
        (("+phase=43a", "data=jsonl", "data.path=nowhere"), "data folder does not exist"),
        (("+phase=99",), "no phase called 99"),
        (("+phase=43a", "lora.rank=[1"), "override cannot be parsed"),
        (("-m", *GIVEN, "lora.rank=8,0"), r"lora.rank is out of range(.|\n)*job 1"),
    ],
)
def test_what_cannot_be_registered_leaves_nothing(overrides: tuple[str, ...], words: str) -> None:
    """Without exactly one phase, or with a job that cannot run, there is an error and no folder."""
    with pytest.raises(PunieError, match=words):
        prereg_exit(*overrides)
    assert not Path("docs").exists()


def test_inputs_are_registered_by_content() -> None:
    """Both splits, the suite and the model's files have digests; a model that is not here has none yet."""
    fields = registered(*GIVEN).fields
    assert fields["data"].keys() == {"train.jsonl", "valid.jsonl"}
    assert "model.safetensors" in fields["model"]
    assert len(fields["suite"]) == 64
    assert "model" not in registered("+phase=43a", "model.repo=nobody/nothing").fields


def test_a_sweep_is_registered_job_by_job() -> None:
    """A sweep's axes come from its phase unless the command line gives them; each job has its differences."""
    seeds = [job.differs.get("lora.seed", 0) for job in registered("+phase=46", "model=tiny").jobs]
    assert seeds == [0, 1, 2, 3, 42]
    given = registered("+phase=46", "model=tiny", "seed=0,7").jobs
    assert [job.differs for job in given] == [{}, {"lora.seed": 7, "eval.seed": 7}]
    assert [job.values for job in given] == ["seed=0", "seed=7"]


def test_a_sweep_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    """With -m a document shows jobs, outcomes and the command that runs them; the same without."""
    assert prereg_exit("-m", "+phase=45", "model=tiny", "eval.temperature=0.0,0.5,0") == 0
    path, following, _ = capsys.readouterr().out.splitlines()
    assert following.endswith("python -m punie -m +phase=45 model=tiny eval.temperature=0.0,0.5,0")
    text = Path(path).read_text()
    assert "4 jobs, registered together" in text
    assert "| lora=reference, eval.temperature=0.5 |" in text
    assert "ship temperature 0; 43b is deprioritised" in text
    with pytest.raises(PunieError, match="registered already"):
        prereg_exit("+phase=45", "model=tiny", "eval.temperature=0.0,0.5")


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
    # Text of a model that looks like a marker, markup or an escape is in a code span, in its own cell.
    (row,) = [line for line in text.split("\n") if line.startswith("| `a\\|b`")]
    assert row.endswith("`` unknown tool: <!-- punie:end --> <script>\\|`␛[31m `` |")


def test_recording_again_changes_nothing(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twice gives the same bytes, and the file is not touched; a second run stands beside the first."""
    assert recorded(make_run("r1", *TINY), document) == 0
    once, stamp = document.read_bytes(), document.stat().st_mtime_ns
    assert recorded("r1", document) == 0
    assert f"{document}: unchanged" in capsys.readouterr().out
    assert (document.read_bytes(), document.stat().st_mtime_ns) == (once, stamp)
    assert recorded(make_run("r2", *TINY, keyword=0.8), document) == 0
    both = document.read_bytes()
    cut = both.index(b"<!-- punie:run r2 -->")
    assert once == both[:cut] + both[both.rindex(b"<!-- punie:end -->") :]


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
    reused = {"stage": "evaluate", "key": "", "reused": True, "seconds": 0}
    stages = [{**reused, "reason": "built 2020-01-01 00:00:00"}]
    for name, value in (("started", "2020-01-01T00:00:00+00:00"), ("stages", stages)):
        folder = make_run(name, *TINY)
        amend(folder / "status.json", **{name: value})
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
        ("results.json", None, "it has no results.json"),
        ("samples.jsonl", "{}\n", "samples.jsonl:1"),
        ("train.jsonl", '{"kind": 1}\n', "train.jsonl cannot be read"),
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
    """Another phase, no phase, no run, jobs without a plan: each is named."""
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
