"""Surfaces: what runs leave and others read: run folders, configs, sweep plans, manifests, registrations."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import importlib
import io
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from textwrap import indent
from typing import Any

import yaml
from omegaconf import OmegaConf

from punie.__main__ import parser
from punie.config.compose import compose
from punie.config.presets import presets
from punie.results import files
from punie.results import registration as registrations
from punie.results.difference import surroundings
from punie.results.records import Git, Phase, Provenance
from punie.results.registration import Job, Registration
from punie.results.run import Run, read_status, require_responses
from punie.results.summary.collect import collect
from punie.results.sweep import SweepPlan
from punie.store.artifacts import MANIFEST, Store
from punie.store.keys import artifact_key
from punie.util.errors import PunieError
from punie.util.paths import resource
from tests.malformed.jsonl_files import RECORD
from tests.malformed.models import write
from tests.malformed.mutation import damaged, nearly
from tests.malformed.surface import Surface
from tests.unit.results.made import make_run

HERE = Provenance(version=1, python="3.11", packages={"mlx": "1"}, environment={})
MATERIAL: dict[str, Any] = {"stage": "train", "settings": {"lora.rank": 8}, "upstream": {"base": "b" * 64}}
KEY = artifact_key(MATERIAL)
STATUS: dict[str, Any] = {"schema": 1, "status": "finished", "error": None, "stages": [], "store": "store"}


@functools.cache
def config() -> dict[str, Any]:
    """The default config, resolved."""
    plain: Any = OmegaConf.to_container(compose([]), resolve=True)
    return plain


def corrupted(rng: random.Random, right: Any, changes: int = 3) -> bytes:
    """A JSON file that is nearly right, or damaged."""
    if rng.random() < 0.15:
        return damaged(rng, json.dumps(right).encode())
    return nearly(rng, right, changes).encode("utf-8", "surrogatepass" if rng.random() < 0.3 else "replace")


@functools.cache
def finished_run() -> dict[str, Any]:
    """What a run of one prompt leaves, by file."""
    with tempfile.TemporaryDirectory() as scratch:
        run = make_run(Path(scratch) / "run", [RECORD])
        named = ("results.json", "status.json", "provenance.json")
        read = {name: json.loads((run / name).read_text()) for name in named}
    return {**read, "samples.jsonl": RECORD, "config.yaml": config()}


def run_folder(rng: random.Random) -> dict[str, bytes]:
    """A finished run's files, one or two of them wrong."""
    files = finished_run()
    wrong = rng.sample(list(files), rng.randint(1, 2))
    made = {
        name: corrupted(rng, right) if name in wrong else json.dumps(right).encode()  # JSON is YAML
        for name, right in files.items()
    }
    if "config.yaml" in wrong and rng.random() < 0.5:
        made["config.yaml"] = yaml_file(rng)
    return made


def sweep_plan(rng: random.Random) -> bytes:
    """A plan.json."""
    return corrupted(rng, plan())


@functools.cache
def plan() -> dict[str, Any]:
    """A plan of two jobs with one stage each."""
    job = {"number": 0, "id": "ab", "overrides": ["seed=0"], "config": config(), "stages": [KEY]}
    part = {"stage": "train", "key": KEY, "state": "miss", "reason": "nothing built yet", "computes": True,
            "seconds": None, "bytes": 10, "material": MATERIAL}  # fmt: skip
    return {
        "schema": 1, "arguments": ["seed=0,1"], "jobs": [job, {**job, "number": 1, "overrides": ["seed=1"]}],
        "parts": {KEY: part}, "waves": [[0], [1]], "duplicates": 0, "conf": "d" * 64, "name": "tiny",
        "run_id": "20260101T000000-abcdef", "cwd": "/work", "created": "2026-01-01T00:00:00+00:00",
        "punie": "0.1.0",
    }  # fmt: skip


def status_file(rng: random.Random) -> bytes:
    """A status.json."""
    return corrupted(rng, STATUS)


def manifest(rng: random.Random) -> bytes:
    """A manifest.json."""
    right = {"schema": 1, "stage": "train", "key": KEY, "material": MATERIAL,
    "created": "2026-01-01T00:00:00+00:00",
             "files": {"a.bin": {"sha256": "f" * 64, "size": 1}}, "seconds": 1.5,
             "info": {"loss": 0.5}}  # fmt: skip
    return corrupted(rng, right)


@functools.cache
def registration() -> tuple[dict[str, Any], bytes]:
    """A record as it is registered, and its document."""
    made = Registration(
        version=1, registered="2026-01-02T03:04:05+00:00", git=Git(commit="c" * 40, dirty=False),
        command="run it", phase=Phase.model_validate(dataclasses.asdict(presets()["45"].phase)),
        fields={"lora.seed": 0, "data": {"train.jsonl": "1"}},
        jobs=[Job(values="", differs={"lora.seed": 1})],
    )  # fmt: skip
    return files.plain(made), registrations.compose(made, Path("doc.md")).encode()


def document(rng: random.Random) -> dict[str, bytes]:
    """A registered document and its record, one of them wrong."""
    record, text = registration()
    if rng.random() < 0.5:
        return {"doc.md": damaged(rng, text), "doc.json": json.dumps(record).encode()}
    return {"doc.md": text, "doc.json": corrupted(rng, record)}


@functools.cache
def yaml_files() -> tuple[bytes, ...]:
    """The files of conf/, without Hydra's own groups."""
    return tuple(path.read_bytes() for path in sorted(resource("conf").glob("*/*.yaml")))


def yaml_file(rng: random.Random) -> bytes:
    """A config in YAML: nearly right, damaged, or with what only YAML has."""
    match rng.randrange(4):
        case 0:
            return nearly(rng, config(), 3).encode("utf-8", "replace")
        case 1:
            return damaged(rng, yaml.safe_dump(config(), sort_keys=False).encode(), yaml_files())
        case 2:
            return damaged(rng, rng.choice(yaml_files()), yaml_files())
        case _:
            right: dict[str, Any] = copy.deepcopy(config())
            group = rng.choice([name for name, value in right.items() if isinstance(value, dict)])
            text = yaml.safe_dump(right[group])
            odd = rng.choice(ODD_YAML)
            name = rng.choice(list(right[group]))
            return f"{group}:\n{indent(text, '  ')}  {name}: {odd}\n".encode()


ODD_YAML = (
    "!!python/object/apply:os.system ['true']", "!!binary aGk=", "!!set {a, b}", "&a [*a]", "&a {b: *a}",
    "*nope",
    "${lora.rank}", "${oc.env:HOME}", "${nope}", "${", "???", "2026-01-01", "2026-01-01T00:00:00Z", "0o17",
    "0x_f",
    "1:30:00", ".inf", ".nan", "-.INF", "1_000", "yes", "~", "'\\ud800'", '"\\ud800"', '"\\0"',
    "? [a]\n  : b",
    "{[a]: b}", "{1: 2, null: 3}", "[" * 300 + "]" * 300, "[" * 3000, "{a: " * 200 + "1" + "}" * 200,
    "9" * 5_000,
    "1e" + "9" * 20, "|\n    text\n", ">-\n    text\n", "<<: {a: 1}", "- a\n- b", "%YAML 9.9", "\t", "@a",
    "`a`",
    "[&b [x,x,x,x,x,x,x,x,x], &c [*b,*b,*b,*b,*b,*b,*b,*b,*b], &d [*c,*c,*c,*c,*c,*c,*c,*c,*c],"
    " &e [*d,*d,*d,*d,*d,*d,*d,*d,*d], &f [*e,*e,*e,*e,*e,*e,*e,*e,*e], [*f,*f,*f,*f,*f,*f,*f,*f,*f]]",
)  # fmt: skip


def _finished(files: dict[str, bytes], folder: Path) -> None:
    """Every reader of a run's folder: the first refusal is the outcome, but all of them have their turn."""
    place = folder / "run"
    write(files, place)
    refusal: PunieError | None = None
    readers: tuple[Callable[[], object], ...] = (
        lambda: require_responses(Run(place).require_finished()),
        lambda: [run.name for run in collect([place])[0]],
        lambda: _command("show", str(place)),
        lambda: _command("diff", str(place), str(place)),
        lambda: _command("rescore", str(place)),
        lambda: surroundings(Run(place).provenance, HERE),
        lambda: Run(place).metrics,
    )
    for reader in readers:
        try:
            reader()
        except PunieError as error:
            refusal = refusal or error
    if refusal:
        raise refusal


def _command(name: str, *words: str) -> None:
    """A subcommand, as the front door calls it."""
    module = importlib.import_module(f"punie.commands.{name}")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        module.run(parser(name).parse_args(words))


def _plan(content: bytes, folder: Path) -> None:
    write({"plan.json": content}, folder)
    refusal: PunieError | None = None
    try:
        collect([folder])
    except PunieError as error:
        refusal = error
    planned = SweepPlan.read(folder)
    for job in planned.by_folder.values():
        planned.label(job)
        planned.parts_of(job)
        job.typed()
    [number + 1 for wave in planned.waves for number in wave]
    if refusal:
        raise refusal


def _status(content: bytes, folder: Path) -> None:
    write({"status.json": content}, folder)
    read_status(folder).status.upper()


def _manifest(content: bytes, folder: Path) -> None:
    place = folder / "store" / "train" / KEY
    write({MANIFEST: content, "a.bin": b"x"}, folder / "one")
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.mkdir()
    for path in (folder / "one").iterdir():
        path.replace(place / path.name)
    store = Store(folder / "store")
    store.find("train", KEY)
    for artifact in store.artifacts():
        artifact.damage(digests=True)
        str((artifact.stage, artifact.key, artifact.size, artifact.info))
    str(store.explain("train", {**MATERIAL, "settings": {"lora.rank": 4}}))
    store.unreadable()


def _document(content: dict[str, bytes], folder: Path) -> None:
    write(content, folder / "docs")
    found = registrations.read(folder / "docs" / "doc.md")
    found.with_parts({"r1": "words"}).encode("utf-8")
    phase = registrations.named(found.registration.phase)
    fields = {"lora.seed": 2, "data": {"train.jsonl": "2"}, "phase": phase}
    registrations.nearest_job(found.registration, fields)


def _yaml(content: bytes, folder: Path) -> None:
    """A run's config.yaml: the one YAML file that punie itself reads."""
    made = {name: json.dumps(value).encode() for name, value in finished_run().items()}
    write({**made, "config.yaml": content}, folder / "run")
    found = Run(folder / "run").require_finished()
    OmegaConf.to_container(OmegaConf.structured(found.config.typed(folder / "run" / "config.yaml")))


SURFACES = (
    Surface("config files", yaml_file, _yaml, 0),
    Surface("sweep plans", sweep_plan, _plan, 0),
    Surface("status files", status_file, _status, 3),
    Surface("run folders", run_folder, _finished, 0),
    Surface("registrations", document, _document, 1),
    Surface("manifests", manifest, _manifest, 1),
)
