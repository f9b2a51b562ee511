"""The strict check: what is refused, and in which words."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from omegaconf.errors import ValidationError

from punie.__main__ import main as front_door
from punie.config import resolve
from punie.config.command import quote_options
from punie.config.compose import compose, composition
from punie.config.fields import find_field, schema_fields
from punie.config.schema import OPTIMIZERS, SCHEDULES, Schedule
from punie.sweep import preview
from punie.util.errors import PunieError


def refusal(*overrides: str) -> str:
    with pytest.raises(PunieError) as caught:
        composition(list(overrides))
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=tinyy"], ["model", "tinyy", "tiny_dense", "did you mean tiny"]),
        (["model=qwen3_3b"], ["no model called qwen3_3b", "qwen3_4b", "model=hub"]),
        (["model=qwen3_5_4"], ["did you mean qwen3_5_4b"]),
        (["eval.temprature=0"], ["eval.temprature", "did you mean eval.temperature"]),
        (["+eval.temprature=0"], ["eval.temprature", "did you mean eval.temperature"]),
        (["+lora.foo=1"], ["Unknown key lora.foo"]),
        (["phase.id=1"], ["no phase is selected", "+phase=43a"]),
        (
            ["lora.lr_schedule.name=cosine_decay"],
            ["does not take", "[]", "init, decay_steps, end (optional)"],
        ),
        (
            ["lora.lr_schedule.arguments=[1e-4,100]"],
            ["lora.lr_schedule.name has no value", "cosine_decay, e"],
        ),
        (["lora.lr_schedule=cosine_decay"], ["lora.lr_schedule", "such as {name: cosine_decay, arguments:"]),
        (["lora.lr_schedule={name: step_decay, arguments: [1.0]}"], ["[1.0]", "[1e-4,0.1,100]"]),
        (["lora.lr_schedule={name: cosine_decay, arguments: [1.0,0]}"], ["[1.0, 0.0]", "steps from 1"]),
        (
            ["+lora.lr_schedule={name: exponential_decay, arguments: [1,1,1]}"],
            ["takes init, decay_rate, none"],
        ),
        (["lora.lr_schedule={name: linear_schedule, arguments: [-1,0,9]}"], ["none below 0"]),
        (
            ["lora.optimizer=adafactor", "lora.lr_schedule={name: exponential_decay, arguments: [1,1]}"],
            ["adafactor finds its own", "relative_step=false"],
        ),
        (
            ["+lora.optimizer_config.weight_decay=1"],
            ["adam has no option weight_decay", "betas, eps, bias_c"],
        ),
        (["lora.optimizer=nope", "+lora.optimizer_config.eps=1"], ["lora.optimizer is", "adam, adamw, muon"]),
        (["lora.optimizer=muon", "+lora.optimizer_config.ns_step=1"], ["did you mean ns_steps"]),
        (
            ["++lora.optimizer_config={betas: 0.9, eps: true}"],
            ["1. ", "2. ", "another type", "[0.9, 0"],
        ),
        (["lora.optimizer=muon", "+lora.optimizer_config.ns_steps=2.5"], ["another type", "such as 5"]),
        (["+lora.optimizer_config.betas=[0.9,1]"], ["betas is out of range", ">= 0 and < 1"]),
        (["lora.optimizer=sgd", "+lora.optimizer_config.nesterov=true"], ["momentum=0.9"]),
        (
            ["+lora/lr_schedule=cosine"],
            ["no lora/lr_schedule called cosine", "cosine_decay, expo", "did you"],
        ),
        (
            ["+lora/lr_schedule=step_decay", "lora.lr_schedule.arguments=[1.0,0.1]"],
            ["does not take", "[1e-4,0.1,100]"],
        ),
        (
            ["+lora/lr_schedule=cosine_decay", "lora.lr_schedule.name=nope"],
            ["lr_schedule.name", "linear_sch"],
        ),
        (["rank=4"], ["Unknown key rank", "did you mean lora.rank"]),
        (["seed=abc"], ["seed", "abc", "an integer"]),
        (["lora.learning_rate=fast"], ["lora.learning_rate", "fast", "a number"]),
        (["lora.rank=0"], ["lora.rank", "0", ">= 1"]),
        (["lora.iters=-3"], ["lora.iters", "-3", "Micro-batches"]),
        (["lora.iters=9", "lora.epochs=2"], ["given twice", "lora.iters=null, or lora.epochs=null for 9"]),
        (["lora.iters=null"], ["how long", "lora.epochs=3"]),
        (["lora.epochs=0"], ["lora.epochs", ">= 1"]),
        (["+model.recipe.epochs=2"], ["The model's recipe gives the length of the training twice"]),
        (
            ["lora.patience=2", "lora.select=last"],
            ["the best checkpoint", "lora.select=best_val for the loss"],
        ),
        (["quantize.bits=7"], ["quantize.bits", "7", "null, 2, 3, 4, 5, 6, 8"]),
        (["eval.top_p=0"], ["eval.top_p", "> 0"]),
        (["lora.select=best"], ["lora.select", "last, best_val"]),
        (["data=jsonl"], ["data.path", "set it"]),
        (["model=local"], ["exactly one place", "model.path=FOLDER"]),
        (["model.repo=a/b"], ["exactly one place", "embedded, repo"]),
        (["+model.recipe.itres=3"], ["model.recipe.itres", "did you mean iters"]),
        (["lora.scale=inf"], ["lora.scale", "inf"]),
        (["+lora.optimizer_config.eps=nan"], ["lora.optimizer_config", "nan"]),
        (["lora.val_batches=0"], ["lora.val_batches", "-1 for all"]),
        (["lora.num_layers=0"], ["lora.num_layers", "-1 for all"]),
        (["lora.hosts=[a,b,c]", "lora.workers=2"], ["lora.hosts", "['a', 'b', 'c']", "set lora.workers"]),
        (["quantize=none", "quantize.recipe=mixed_4_6"], ["quantize.recipe", "quantize.bits"]),
        (["eval.stop=['']"], ["eval.stop"]),
        (["data.mix.none=1"], ["data.mix has no none", "+data.mix.none"]),
        (["eval.repeats=3", "eval.temperature=0"], ["eval.repeats", "eval.temperature above 0"]),
        (["name=a/../b"], ["plain folder name"]),
        (["name=a/" + 300 * "b"], ["plain folder name", "at most 200 bytes"]),
        (["seed=[1"], ["override", "seed=[1"]),
        (["phase=43a"], ["phase"]),
        (["+phase=43b", "phase.outcomes=[{metric: overall, verdict: x, next: '99'}]"], ["'99'", "43a, 43b"]),
        (["+phase=43b", "phase.outcomes=[{metric: overall, verdict: x, next: ' '}]"], ["' '", "43a, 43b"]),
        (["+phase=99"], ["phase", "99", "33b, 40, 43a"]),
    ],
)
def test_what_is_wrong_is_said(overrides: list[str], words: list[str]) -> None:
    """A bad override names the key, what was found or expected, and where it can, the remedy."""
    message = refusal(*overrides)
    assert [word for word in words if word not in message] == []


def test_all_problems_are_reported_together() -> None:
    """Three fields out of range are three lines of one report."""
    message = refusal("lora.rank=0", "eval.temperature=-1", "quantize.group_size=48")
    assert all(key in message for key in ("lora.rank", "eval.temperature", "quantize.group_size"))


def test_a_schedule_and_a_short_run_from_the_command_line() -> None:
    """A learning-rate schedule is selected and then filled in; fewer iterations than save_every are a run."""
    more = ["lora.lr_schedule.arguments=[1e-4,100]", "lora.iters=12"]
    whole = "lora.lr_schedule={name: cosine_decay, arguments: [1,1]}"
    for first in (
        "+lora/lr_schedule=",
        "lora.lr_schedule.name=",
        "+lora.lr_schedule.name=",
        whole,
        f"+{whole}",
    ):
        first += "cosine_decay" if first.endswith("=") else ""
        lora = resolve(compose([first, *more, "lora.lr_schedule.warmup=5", "lora.save_every=200"])).lora
        assert lora.lr_schedule == Schedule("cosine_decay", [1e-4, 100.0], 5)


def test_a_schedule_of_a_preset_is_changed(tmp_path: Path) -> None:
    """A schedule that a preset has, selected or written out, is changed as other fields are, or removed."""
    (tmp_path / "lora").mkdir()
    for name, how in (
        ("selected", "defaults: [reference, lr_schedule: step_decay, _self_]\n"),
        ("written", "defaults: [reference, _self_]\nlr_schedule: {name: step_decay}\n"),
    ):
        (tmp_path / "lora" / f"{name}.yaml").write_text(how)
        given = [f"hydra.searchpath=[{tmp_path}]", f"lora={name}"]
        lora = resolve(compose([*given, "lora.lr_schedule.arguments=[1e-4,0.1,100]"])).lora
        assert lora.lr_schedule == Schedule("step_decay", [1e-4, 0.1, 100.0])
        assert resolve(compose([*given, "lora.lr_schedule=null"])).lora.lr_schedule is None


def test_the_optimizers_are_those_of_mlx() -> None:
    """The options and defaults that the check knows, and the schedules' arguments, are mlx's own."""
    import mlx.optimizers as optimizers

    kinds = {
        name.lower(): kind for name, kind in vars(optimizers.optimizers).items() if isinstance(kind, type)
    }
    for name, options in OPTIMIZERS.items():
        known = dict(inspect.signature(kinds[name].__init__).parameters)
        del known["self"], known["learning_rate"]
        defaults = {key: each.default for key, each in known.items()}
        assert {k: list(v) if isinstance(v, tuple) else v for k, v in defaults.items()} == options
    for name, examples in SCHEDULES.items():
        known = inspect.signature(getattr(optimizers, name)).parameters.values()
        assert {each.name: each.default is each.empty for each in known} == {
            key: bool(example) for key, example in examples.items()
        }


def test_epochs_take_the_place_of_iterations() -> None:
    """The default number of iterations, or a model's, is none where epochs are given; with patience the best
    checkpoint is the result."""
    lora = resolve(compose(["lora.epochs=3", "lora.patience=2"])).lora
    assert (lora.iters, lora.epochs, lora.select) == (None, 3, "best_val")
    lora = resolve(compose(["~model.recipe.iters", "+model.recipe.epochs=2", "lora.select=best_eval"])).lora
    assert (lora.iters, lora.epochs, lora.select) == (None, 2, "best_eval")
    lora = resolve(compose([])).lora
    assert (lora.iters, lora.epochs, lora.select, lora.patience) == (400, None, "last", None)


def test_numbers_written_differently_are_one_value() -> None:
    """Typed floats make 0 and 0.0 the same temperature."""
    assert resolve(compose(["eval.temperature=0"])) == resolve(compose(["eval.temperature=0.0"]))


def test_every_field_says_what_it_is() -> None:
    """Each leaf of the schema has a sentence, and each number that counts something a unit or none at all."""
    undocumented = [known.key for known in schema_fields() if not known.about.get("doc", "").endswith(".")]
    assert undocumented == []


def test_fields_are_found_by_dotted_name() -> None:
    """A dotted key leads to its field, a wrong one to nothing."""
    assert find_field("lora.rank")
    assert find_field("phase.criteria.0.value")
    assert find_field("lora.rank.more") is None
    assert find_field("nothing") is None


@pytest.mark.parametrize(
    ("given", "quoted"),
    [
        ("+phase=45", "+phase='45'"),
        ("+phase=45,46", "+phase='45','46'"),
        ("phase=43a", "phase='43a'"),
        ("++phase=33b", "++phase='33b'"),
        ("+phase='45'", "+phase='45'"),
        ("name=phase=45", "name=phase=45"),
        ("seed=45", "seed=45"),
    ],
)
def test_phases_are_quoted_for_hydra(given: str, quoted: str) -> None:
    """Hydra would read 45 as a number; nothing else on the command line is touched."""
    assert quote_options([given]) == [quoted]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"suite: core27\n  seed: 0\n", ["not YAML", "mine.yaml:2"]),
        (b"suite: core27\nsuite: wide270\n", ["not YAML", "mine.yaml:2", "duplicate key suite"]),
        (b"suite: \xff\n", ["utf-8"]),
        (b"defaults:\n  - 50\n", ["defaults", "int"]),
        (b"# @package a b c\nsuite: core27\n", ["@package a b c"]),
        (b"suite: ${nope}\n", ["nope", "eval.suite"]),
    ],
    ids=["indent", "twice", "bytes", "defaults", "package", "interpolation"],
)
def test_a_faulty_preset_is_told(text: bytes, words: list[str], tmp_path: Path) -> None:
    """A file of one's own that cannot be read or resolved is a config error, with file and line."""
    folder = tmp_path / "eval"
    folder.mkdir()
    (folder / "mine.yaml").write_bytes(text)
    told = refusal(f"hydra.searchpath=[{tmp_path}]", "eval=mine")
    assert [word for word in words if word not in told] == []


def test_a_sweep_tells_of_a_faulty_preset(tmp_path: Path) -> None:
    """Faulty files on an axis are told with their jobs."""
    folder = tmp_path / "eval"
    folder.mkdir()
    (folder / "twice.yaml").write_text("suite: core27\nsuite: wide270\n")
    (folder / "mine.yaml").write_text("defaults:\n  - 50\n")
    with pytest.raises(PunieError) as caught:
        preview.plan([f"hydra.searchpath=[{tmp_path}]", "eval=core27,twice,mine"])
    words = ("twice.yaml:2, job 1: eval=twice", "Unsupported type in defaults : int", "job 2: eval=mine")
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("key", "userinfo"),
    [("eval.server.url", "me:secret"), ("data.path", "secret"), ("eval.suite", ":secret")],
)
def test_a_password_is_refused_and_not_repeated(key: str, userinfo: str) -> None:
    """A URL with user or password is no value of a field that is recorded."""
    words = refusal(f"{key}='http://{userinfo}@127.0.0.1:1'", "eval.backend=server")
    assert f"{key} holds a user or a password" in words
    assert "http://***@127.0.0.1:1" in words
    assert "secret" not in words.replace("may hold a secret", "")


def test_a_bug_in_the_resolver_is_not_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """What punie's own resolver raises, other than its refusals, is raised as it is."""
    config = compose(["name=${oc.env:PUNIE_RUN_ID}"])
    monkeypatch.delenv("PUNIE_RUN_ID")
    with pytest.raises(KeyError, match="PUNIE_RUN_ID"):
        resolve(config)


def test_a_bug_in_the_check_is_not_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TypeError in the check of a sweep's job is not reported as a job that cannot be run."""

    def check(*_composed: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr("punie.sweep.compose.resolve", check)
    with pytest.raises(TypeError, match="a bug"):
        preview.plan(["seed=0,1"])


def test_a_bug_in_a_run_is_not_the_users_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of OmegaConf within a run is worded as a bug: the config was checked before."""

    def task(_composed: object) -> None:
        raise ValidationError("a bug")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("punie.main.task", task)
    assert front_door(["seed=1"]) == 1
    words = capsys.readouterr().err
    assert "An unexpected error." in words
    assert "ValidationError: a bug" in words
