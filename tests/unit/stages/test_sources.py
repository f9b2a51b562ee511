"""punie's own sources in the keys: what is edited, and which stages it decides."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from grimp import ImportGraph, build_graph

from punie.config import Config, resolve
from punie.config.compose import compose
from punie.run import plan as planning
from punie.stages import STAGES
from punie.stages.contract import Stage
from punie.store import sources
from punie.store.artifacts import Store
from punie.util.errors import StoreError

PACKAGE = Path(sources.__file__).parents[1]
UNDECIDING = {
    "config": "what it resolves is in the keys",
    "store": "it keeps bytes",
    "util": "general helpers",
    "data/__init__.py": "it names files",
    "data/convert.py": "the digest of what it writes is in the keys; so is what the next three write",
    "data/hub.py": "it downloads",
    "evals/bfcl_suites.py": "it imports suites",
    "model/gguf": "it writes model folders; so do the next three",
    "model/adapters.py": "it fuses an adapter to start from",
    "model/peft.py": "it attaches one",
    "model/stored.py": "it keeps them",
    "model/device.py": "it names the device, which is in the keys",
    "model/resolve.py": "it finds a model, whose digests are in the keys",
    "results/config.py": "it reads records; so do the next two",
    "results/files.py": "it reads and writes records",
    "results/run.py": "it names files",
    "stages/contract.py": "it declares",
    "stages/slices.py": "it declares",
    "track": "it tells others; so do callbacks",
    "train/callbacks": "",
    "train/methods": "which there are; a training declares them",
    "evals/scores.py": "which there are; an evaluation declares them",
}
"""Places that decide no result of a stage that does not declare them, and why."""
INDIRECT = {
    "base": "data/load.py formats model/fuse.py model/layout.py",
    "preflight": "model stages/answering.py stages/memory.py results train",
    "report": "data evals formats model stages",
    "train": "model/fuse.py model/layout.py model/shapes.py",
    "evaluate": "model/fuse.py model/layout.py",
    "likelihood": "evals model/fuse.py model/layout.py",
}
"""What some stages import beside it: a module for one constant or a function of it, or estimates; the fuse of
an adapter to start from, whose result is in their keys."""


def changed(text: str, old: str, new: str) -> bool:
    assert old in text
    before, after = (sources.normal_digest(each.encode()) for each in (text, text.replace(old, new)))
    return before != after


TEXT = """
'''A module.'''
from dataclasses import dataclass
@dataclass
class Answer:
    '''An answer.'''
    text: str = ""
    '''Its text.'''
def score(answer: Answer, least: float = 0.5) -> float:
    '''The score.'''
    # half of it
    return 1.0 if answer.text else least
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("'''A module.'''\n", ""),
        ("An answer.", "A response."),
        ("Its text.", "All of it."),
        ("    '''The score.'''\n", ""),
        ("# half of it", "# a part"),
        (" -> float", ""),
        ("answer: Answer", "answer"),
        ("return 1.0 if answer.text else least", "return (\n        1.0 if answer.text else least\n    )"),
        ("def score", "\n\n\ndef score"),
    ],
)
def test_words_decide_nothing(old: str, new: str) -> None:
    """Docstrings, comments, annotations of functions and the layout are no part of the normal form."""
    assert not changed(TEXT, old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("least: float = 0.5", "least: float = 0.25"),
        ("1.0 if", "1 if"),
        ("text: str = ", "text: int = "),
        ("@dataclass\n", ""),
        ("answer.text else", "not answer.text else"),
        ('""', '"-"'),
        ('""', "None"),
        ("return 1.0 if answer.text else least", "'return'"),
        ("return", "retrun"),
    ],
)
def test_code_does(old: str, new: str) -> None:
    """Anything else is: values, types of fields, decorators, and what is no Python at all."""
    assert changed(TEXT, old, new)


def test_the_recorded_sources_are_these(config: Config) -> None:
    """Whoever edits what decides a result says whether it still gives the same."""
    edited = sources.edited(*sources.ROOMS)
    stages = [
        stage.name
        for stage in STAGES
        if sources.edited(*stage.sources(stage.settings(config))).keys() & edited.keys()
    ]
    assert not edited, (
        f"{', '.join(edited)} changed, so {', '.join(stages) or 'no stage'} has other keys in this checkout. "
        "If a stage gives other results now, raise its version; then, or if all give the same, run "
        "`python -m punie.store.sources` and commit punie/store/sources.json."
    )


@pytest.fixture(scope="module")
def config() -> Config:
    return resolve(compose([]))


@pytest.fixture(scope="module")
def imports() -> ImportGraph:
    """Which module of punie imports which, in functions too."""
    return build_graph("punie", exclude_type_checking_imports=True, cache_dir=None)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_declares_what_it_uses(imports: ImportGraph, config: Config, stage: Stage) -> None:
    """Every module that a stage imports, directly or not, is declared, or is known to decide nothing."""
    selecting = replace(config, lora=replace(config.lora, select="best_eval"))
    declared = {place for each in (config, selecting) for place in stage.sources(stage.settings(each))}
    places = declared | UNDECIDING.keys() | set(INDIRECT.get(stage.name, "").split())
    used = {_file(each) for each in imports.find_upstream_modules(f"punie.stages.{stage.name}")}
    assert {name for name in used if not any(sources._is_in(name, place) for place in places)} == set()
    assert not [place for place in declared if not (PACKAGE / place).exists()]


def _file(module: str) -> str:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("evals/scorers.py", {"preflight", "evaluate", "report"}),
        ("formats/native.py", {"preflight", "train", "quantize", "evaluate", "report"}),
        ("train/loop.py", {"train", "quantize", "evaluate", "report"}),
        ("model/fuse.py", {"quantize", "evaluate", "report"}),
        ("results/pages/templates/report.md.jinja", {"report"}),
        ("embedded/build.py", set()),
    ],
)
def test_an_edited_source_has_its_own_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Config, name: str, others: set[str]
) -> None:
    """The stages that an edited file decides have other keys, with all that is made from them; the plan says
    which file it is, in both directions; and the clean checkout has its keys again."""
    store = Store(tmp_path)
    clean = {step.name: step for step in planning.plan(config, store).steps}
    for step in clean.values():
        assert step.material is not None
        store.get_or_build(step.name, step.material, lambda _: None)
    present = sources.present()
    with monkeypatch.context() as checkout:
        checkout.setattr(sources, "present", lambda: {**present, name: "0" * 16} if others else present)
        edited = {step.name: step for step in planning.plan(config, store).steps}
        reasons = {step.reason for step in edited.values() if step.material and "sources" in step.material}
        assert reasons == ({f"punie's own sources differ: {name}"} if others else set())
    assert {name for name, step in edited.items() if step.key != clean[name].key} == others
    again = planning.plan(config, store)
    assert {step.key for step in again.steps} == {step.key for step in clean.values()}
    assert {step.state for step in again.steps} == {"hit"}


def test_a_deleted_and_a_new_source_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is gone, and one that is new, are edits of their room."""
    present = {**sources.present(), "evals/new.py": "1" * 16}
    del present["evals/scorers.py"]
    monkeypatch.setattr(sources, "present", lambda: present)
    assert sources.edited("evals", "formats") == {"evals/new.py": "1" * 16, "evals/scorers.py": None}


def test_a_record_with_a_conflict_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a merge with a conflict everything names the command, which works."""
    monkeypatch.setattr(sources, "RECORD", tmp_path / "sources.json")
    sources.RECORD.write_text("{\n<<<<<<< HEAD\n")
    sources._recorded.cache_clear()
    with pytest.raises(StoreError, match=r"python -m punie\.store\.sources"):
        sources.edited("evals")
    assert sources.record() == [*sources.present()]
    assert sources.record() == []
    monkeypatch.undo()
    sources._recorded.cache_clear()


def test_the_record_is_written_for_a_merge() -> None:
    """One file a line, in order, so that two branches that edit two files do not conflict."""
    lines = sources.RECORD.read_text("utf-8").splitlines()
    assert [*json.loads("\n".join(lines))] == [*sources.present()]
    assert len(lines) == len(sources.present()) + 2
