"""What of Hydra's command line punie takes, what it repeats, and what it refuses at once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from punie.__main__ import main
from punie.commands import resume
from punie.config import command
from punie.config.command import CommandLine, quote_options
from punie.config.compose import composition, multirun, phases, sweeps
from punie.results.sweep import SweepPlan
from punie.sweep import preview
from punie.sweep.plan import freeze
from punie.util.errors import PunieError

OWN_PHASE = """# @package _global_
name: phase{0}
phase:
  id: "{0}"
  title: t
  hypothesis: h
  outcomes:
    - {{metric: overall, at_least: 0.0, verdict: v, next: "{1}"}}
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of presets, in the working folder: two phases that lead to each other, an eval, a config."""
    for group in ("phase", "eval", "quantize"):
        (tmp_path / "mine" / group).mkdir(parents=True)
    for name, following in (("50", "51"), ("51", "50 seed=1")):
        (tmp_path / "mine" / "phase" / f"{name}.yaml").write_text(OWN_PHASE.format(name, following))
    (tmp_path / "mine" / "eval" / "own.yaml").write_text("suite: core27\ntemperature: 0.0\nseed: ${seed}\n")
    (tmp_path / "mine" / "quantize" / "4.yaml").write_text("bits: 4\n")
    (tmp_path / "mine" / "other.yaml").write_text("defaults:\n  - config\n  - _self_\nseed: 7\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine"


def refusal(*arguments: str) -> str:
    with pytest.raises(PunieError) as caught:
        preview.plan(arguments) if "-m" in arguments else composition(arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["seed=0,1"], ["-m seed=0,1", "seed=[0,1]", "seed='0,1'"]),
        (["seed=range(0,3)"], ["-m seed=range(0,3)"]),
        (["+phase=glob(4*)"], ["-m +phase=glob(4*)"]),
        (["+phase=[44,43a]"], ["one phase", "-m +phase=44,43a"]),
        (["quantize=4"], ["no quantize called 4", "did you mean q4"]),
        (["quantize=null"], ["no quantize called null"]),
        (["lora=true"], ["no lora called true"]),
        (["model=1e3"], ["no model called 1e3"]),
        (["--config-dir=absent"], ["absent", "folder of presets"]),
        (["--config-path", "mine"], ["--config-dir=mine"]),
        (["--config-nmae=x"], ["--config-nmae", "--config-name"]),
        (["-m", "seed=0,1", "hydra/sweeper=basic"], ["hydra/sweeper=basic", "hydra/sweeper=punie"]),
        (["-m", "seed=0,1", "hydra.sweep.subdir=x"], ["hydra.sweep.subdir", "names the jobs' folders"]),
        (["-m", "hydra.sweep.subdir=${hydra.job.override_dirname}"], ["hydra.sweep.subdir"]),
        (["-m", "seed=0,1", "hydra.run.dir=x"], ["hydra.run.dir=x", "hydra.sweep.dir=FOLDER"]),
        (["hydra.sweep.dir=x"], ["hydra.sweep.dir=x", "single run"]),
        (["hydra/launcher=workers"], ["hydra/launcher=workers", "single run"]),
        (["hydra.job.num=3"], ["hydra.job.num=3", "sets this field itself"]),
        (["data.path=~/mydata"], ["~", "quotes", "$HOME"]),
        (["eval.stop=[~/a]"], ["~", "quotes", "$HOME"]),
    ],
)
def test_what_a_run_does_not_take_is_refused_with_the_reason(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each message names what was given, and what was probably meant."""
    monkeypatch.chdir(tmp_path)
    message = refusal(*arguments)
    assert [word for word in words if word not in message] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "quoted"),
    [
        ("quantize=4", "quantize='4'"),
        ("quantize=q4,5", "quantize=q4,'5'"),
        ("+phase=choice(44,43a)", "+phase=choice('44','43a')"),
        ("hydra/launcher=1", "hydra/launcher='1'"),
        ("+mine@_global_=[1,two]", "+mine@_global_=['1',two]"),
        ("+phase=glob(4*)", "+phase=glob(4*)"),
        ("+phase=range(44,46)", "+phase=range(44,46)"),
        ("lora.rank=4", "lora.rank=4"),
        ("name=4", "name=4"),
    ],
)
def test_options_that_look_like_numbers_are_quoted(given: str, quoted: str) -> None:
    """Hydra takes only texts as options; fields keep their numbers. Quoting twice changes nothing."""
    assert quote_options([given]) == quote_options(quote_options([given])) == [quoted]


@pytest.mark.parametrize(
    ("values", "axis"),
    [("glob(4*)", ["40", "43a", "43b", "44"]), ("range(43,45)", []), ("sort(44,40)", ["40", "44"])],
)
def test_functions_give_options_that_look_like_numbers(values: str, axis: list[str]) -> None:
    """glob and sort over phases, whose names are numbers, are sweeps; 43 is no phase, which is said."""
    arguments = ["-m", f"+phase={values}", "model=tiny"]
    if not axis:
        assert "no phase called 43" in refusal(*arguments)
        return
    found = preview.plan(arguments)
    assert {f"+phase='{each}'" for each in axis} <= {line for job in found.jobs for line in job.overrides}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["seed=0,1", "hydra.mode=MULTIRUN"], True),
        (["-m", "seed=0,1"], True),
        (["seed=0"], False),
        (["-m", "hydra.mode=RUN", "seed=0"], False),
    ],
)
def test_hydra_mode_is_the_flag(arguments: list[str], expected: bool) -> None:
    """hydra.mode on the command line does what -m does, and wins over it."""
    line = CommandLine.read(arguments)
    assert sweeps(line) is expected
    assert CommandLine.read(line.arguments) == line


@pytest.mark.parametrize(
    "flags", [["-cd", "mine"], ["--config-dir=~/mine"], ["hydra.searchpath=['~/mine']"]], ids=" ".join
)
def test_presets_of_ones_own(flags: list[str], mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They compose wherever the flag stands; a phase leads to another of them; a plan repeats the flag."""
    monkeypatch.setenv("HOME", str(mine.parent))
    found = composition(["eval=own", *flags, "+phase=50"])
    assert (found.config.eval.temperature, found.config.phase and found.config.phase.id) == (0.0, "50")
    assert {"50", "51", "43a"} <= {*phases(flags)}
    plan = preview.plan(["-m", "seed=0", *flags, "quantize=4", "eval=own"])
    assert plan.jobs[0].config.value("quantize.bits") == 4
    freeze(plan, mine.parent / "sweep")
    assert SweepPlan.read(mine.parent / "sweep").arguments[0].startswith(command.CARRIED)
    again = CommandLine.read(resume.run(argparse.Namespace(folder=mine.parent / "sweep")))
    assert again.multirun
    with multirun([*again.arguments, "hydra.sweeper.resume=true"]) as (_, master):
        assert OmegaConf.select(master, "eval.temperature") == 0.0


def test_a_config_to_begin_with(mine: Path) -> None:
    """--config-name is another primary config, also for the jobs of a sweep."""
    del mine
    flags = ["--config-dir=mine", "--config-name=other"]
    assert composition(flags).config.seed == 7
    plan = preview.plan([*flags, "-m", "lora.rank=4"])
    assert plan.jobs[0].config.value("seed") == 7
    assert plan.arguments[:2] == flags


def test_a_plan_may_hold_no_other_flag() -> None:
    """A plan.json of somebody else cannot smuggle a flag into punie resume."""
    empty = {"version": SweepPlan.VERSION, "jobs": [], "parts": {}, "waves": []}
    for argument in ("--experimental-rerun=x", "-m", "--config-path=x", "--config-dirx"):
        with pytest.raises(ValueError, match="is an option"):
            SweepPlan.model_validate(empty | {"arguments": [argument]})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "seed=1", "-cd", "mine", "+phase=50"], ["--config-dir=mine seed=1 +phase=50"]),
        (["plan", "-m", "seed=0", "--config-dir=mine", "eval=own"], ["-m --config-dir=mine seed=0"]),
        (["plan", "hydra.mode=MULTIRUN", "seed=0,1"], ["jobs: 2"]),
        (["prereg", "--config-dir=mine", "+phase=50"], ["--config-dir=mine +phase=50"]),
        (["diff", "--config-dir=mine", "50", "43a"], ["lora"]),
    ],
)
def test_commands_take_the_flags_of_a_run(
    arguments: list[str], words: list[str], mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """plan, prereg and diff compose what the run would, and their next line repeats the flags."""
    del mine
    main(arguments)
    told = capsys.readouterr()
    assert [word for word in words if word not in told.out] == [], told.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], ["a run has no command"]),
        (["sumarize", "outputs"], ["did you mean summarize"]),
        (["seed=1", "plan"], ["A command comes first", "punie plan seed=1"]),
        (["43a"], ["neither a command nor an override"]),
        (["diff", "50", "43a"], ["--config-dir DIR"]),
    ],
)
def test_a_word_that_is_no_override(
    arguments: Sequence[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each has one clear answer, and the exit code 2."""
    assert main([*arguments]) == 2
    told = capsys.readouterr().err
    assert [word for word in words if word not in told] == []


def test_optimized_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra's parser works in assertions, which python -O leaves out."""
    monkeypatch.setattr(command, "sys", SimpleNamespace(flags=SimpleNamespace(optimize=1)))
    assert "PYTHONOPTIMIZE" in refusal("seed=1")


def test_a_preset_cannot_choose_the_sweeper(mine: Path) -> None:
    """What the command line may not set, a preset may not either, for the job that takes it."""
    text = OWN_PHASE.format("52", "50") + "hydra:\n  sweep:\n    subdir: mine\n"
    (mine / "phase" / "52.yaml").write_text(text)
    assert "names the jobs' folders" in refusal("-m", "--config-dir=mine", "+phase=52")
    assert "job 1: +phase='52'" in refusal("-m", "--config-dir=mine", "+phase=50,52")


@pytest.mark.parametrize(
    ("mode", "arguments", "jobs"),
    [
        ("MULTIRUN", ["+phase=52"], ["seed=3", "seed=4"]),
        ("MULTIRUN", ["+phase=52", "lora.rank=4,8"], ["seed=3"] * 2 + ["seed=4"] * 2),
        ("MULTIRUN", ["+phase=52", "hydra.mode=RUN"], None),
        ("RUN", ["+phase=52"], None),
        ("RUN", ["-m", "+phase=52"], ["seed=3", "seed=4"]),
    ],
)
def test_a_preset_may_be_a_sweep(mode: str, arguments: list[str], jobs: list[str] | None, mine: Path) -> None:
    """A phase that sets hydra.mode=MULTIRUN is a sweep without -m; the command line's own mode wins."""
    params = f'hydra:\n  mode: {mode}\n  sweeper:\n    params: {{seed: "3,4"}}\n'
    (mine / "phase" / "52.yaml").write_text(OWN_PHASE.format("52", "50") + params)
    line = ["--config-dir=mine", *arguments]
    swept = sweeps(CommandLine.read(line)) or composition(line).multirun
    assert swept is (jobs is not None)
    if jobs is not None:
        found = preview.plan([each for each in line if each != "-m"])
        assert [each for job in found.jobs for each in job.overrides if each.startswith("seed=")] == jobs
