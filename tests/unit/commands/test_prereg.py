"""``punie prereg``: before the run, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from punie.__main__ import main, parser
from punie.commands import prereg
from punie.results.registration import Registration, read
from punie.util.errors import PunieError

TINY = ("+phase=43a", "model=tiny")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def register(*arguments: str) -> int:
    return prereg.run(parser("prereg").parse_args(list(arguments)))


def registered(*overrides: str) -> Registration:
    """What a fresh registration holds."""
    assert register(*overrides, "--out", "only") == 0
    (path,) = Path("only").glob("*.md")
    found = read(path).registration
    path.unlink()
    path.with_suffix(".json").unlink()
    return found


def test_a_registration_is_never_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    """The same config is registered once, also with other criteria; document and record stay as they were."""
    assert main(["prereg", *TINY]) == 0
    path, record = sorted(Path("docs/research").iterdir(), reverse=True)
    assert (path.suffix, path.with_suffix(".json")) == (".md", record)
    assert path.name.startswith("phase43a-")
    words = f"next: commit it and {record.name}, then python -m punie {' '.join(TINY)}"
    assert words in capsys.readouterr().out
    before = path.read_bytes(), record.read_bytes()
    with pytest.raises(PunieError, match="registered already") as caught:
        register(*TINY, "phase.criteria=[{metric: overall, value: 0.1}]")
    assert caught.value.exit_code == 1
    assert (path.read_bytes(), record.read_bytes()) == before
    assert register(*TINY, "lora.seed=5") == 0
    assert len(list(Path("docs/research").iterdir())) == 4


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ((), "no phase to register"),
        (("+phase=45,46",), "A document is about one phase"),
        (("+phase=43a", "data=jsonl", "data.path=nowhere"), "data folder does not exist"),
        (("+phase=99",), "no phase called 99"),
        (("+phase=43a", "lora.rank=[1"), "override cannot be parsed"),
        (("-m", *TINY, "lora.rank=8,0"), r"lora.rank is out of range(.|\n)*job 1"),
    ],
)
def test_what_cannot_be_registered_leaves_nothing(overrides: tuple[str, ...], words: str) -> None:
    """Without exactly one phase, or with a job that cannot run, there is an error and no folder."""
    with pytest.raises(PunieError, match=words):
        register(*overrides)
    assert not Path("docs").exists()


def test_inputs_are_registered_by_content() -> None:
    """Both splits, the suite and the model's files have digests; a model that is not here has none yet."""
    fields = registered(*TINY).fields
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
    assert register("-m", "+phase=45", "model=tiny", "eval.temperature=0.0,0.5,0") == 0
    path, following, _ = capsys.readouterr().out.splitlines()
    assert following.endswith("python -m punie -m +phase=45 model=tiny eval.temperature=0.0,0.5,0")
    text = Path(path).read_text()
    assert "4 jobs, registered together" in text
    assert "| lora=reference, eval.temperature=0.5 |" in text
    assert "ship temperature 0; 43b is deprioritised" in text
    with pytest.raises(PunieError, match="registered already"):
        register("+phase=45", "model=tiny", "eval.temperature=0.0,0.5")
