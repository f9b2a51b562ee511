"""Damaged artifacts: found when they are used or verified, set aside, and built again."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from punie.store.artifacts import MANIFEST
from tests.conftest import read_json
from tests.faults.report import Case
from tests.faults.stops import again
from tests.faults.world import STAGES, Place, World

_ALL = (*STAGES, "tokens")


Damage = Callable[[Path, Random], object]


def _flip(path: Path, random: Random) -> None:
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def _swap_with_other(path: Path, random: Random) -> None:
    """Exchange a file with the other artifact's of the stage; with a flip where both are the same."""
    artifact = next(
        parent for parent in path.parents if (parent / MANIFEST).exists() or len(parent.name) == 64
    )
    others = [other for other in artifact.parent.iterdir() if other != artifact]
    partner = others[0] / path.relative_to(artifact) if others else path
    if not partner.exists() or partner.read_bytes() == path.read_bytes():
        _flip(path, random)
        return
    _exchange(path, partner)


def _swap_within(path: Path, random: Random) -> None:
    """Exchange a file with another one of its artifact; with a flip where there is none."""
    files = [p for p in path.parent.rglob("*") if p.is_file() and p.read_bytes() != path.read_bytes()]
    if files:
        _exchange(path, random.choice(sorted(files)))
    else:
        _flip(path, random)


def _exchange(one: Path, two: Path) -> None:
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def _edited(change: Callable[[dict[str, Any], Random], object]) -> Damage:
    def damage(path: Path, random: Random) -> None:
        manifest = json.loads(path.read_text())
        change(manifest, random)
        path.write_text(json.dumps(manifest))

    return damage


ANY: dict[str, Damage] = {
    "truncated": lambda path, random: os.truncate(path, random.randrange(path.stat().st_size)),
    "emptied": lambda path, _: path.write_bytes(b""),
    "lengthened": lambda path, _: path.write_bytes(path.read_bytes() + b"\0"),
    "a bit flipped": _flip,
    "removed": lambda path, _: path.unlink(),
    "zeros": lambda path, _: path.write_bytes(bytes(path.stat().st_size)),  # as after a crash of the machine
    "a folder": lambda path, _: (path.unlink(), path.mkdir()),
    "swapped with the other artifact's": _swap_with_other,
    "swapped within the artifact": _swap_within,
}
OF_MANIFEST: dict[str, Damage] = {
    "not an object": lambda path, _: path.write_text("[]"),
    "nested without end": lambda path, _: path.write_text("[" * 100_000),
    "another schema": _edited(lambda m, _: m.update(schema=99)),
    "a file forgotten": _edited(lambda m, random: m["files"].pop(random.choice(sorted(m["files"])))),
    "a name that leads out": _edited(lambda m, _: m["files"].update({"../../x": {"sha256": "", "size": 0}})),
    "sizes as words": _edited(lambda m, _: [entry.update(size="many") for entry in m["files"].values()]),
    "a date that is none": _edited(lambda m, _: m.update(created="yesterday")),
    "other material": _edited(lambda m, _: m["material"].update(version=0)),
    "other info": _edited(lambda m, _: m["info"].update(forged=True)),
    "no number": _edited(lambda m, _: m.update(seconds=float("nan"))),
    "another stage": _edited(lambda m, _: m.update(stage="other")),
}


def cases(world: World, count: int) -> Iterator[Case]:
    """Every kind of damage to some file of every stage, and to its manifest; over and over, as asked for."""
    kinds = [
        (stage, of_manifest, name)
        for stage in _ALL
        for of_manifest, names in ((False, ANY), (True, {**ANY, **OF_MANIFEST}))
        for name in names
    ]
    step = max(len(kinds) / count, 1)
    for number in range(count):
        stage, of_manifest, name = kinds[int(number * step) % len(kinds)]
        what = f"{stage}: {'manifest ' if of_manifest else ''}{name}"
        yield Case(what, functools.partial(_damage, world, stage, of_manifest, name))


def _damage(
    world: World, stage: str, of_manifest: bool, name: str, random: Random, figures: Counter[str]
) -> Iterator[str]:
    """Damage one artifact; then either verify the store, or use it for what is still to be built."""
    used = stage not in ("preflight", "report") and random.random() < 0.5  # nothing is made from these
    after = STAGES[STAGES.index(stage) + 1 :] if stage in STAGES else STAGES[2:]
    place = world.place("damage", {*_ALL} - {stage} - {*(after if used else ())}, copied=[stage])
    key = world.key(stage) if stage in STAGES else random.choice(sorted(_keys(place, stage)))
    folder = place.store.root / stage / key
    files = [*read_json(folder / MANIFEST)["files"]]
    victim = folder / (MANIFEST if of_manifest else random.choice(sorted(files)))
    if victim.stat().st_size == 0:
        return
    before = victim.read_bytes()
    {**ANY, **OF_MANIFEST}[name](victim, random)
    figures["damaged"] += 1
    if used:
        ended = place.run()
        figures["used"] += 1
    else:
        ended = place.run("store", "verify")
        figures["verified"] += 1
        if ended.code != 1:
            figures["undetected"] += 1
            changed = [
                hex(at) for at, (a, b) in enumerate(zip(before, victim.read_bytes(), strict=False)) if a != b
            ]
            yield f"wrong: not found in {victim.name} at {changed[:4]}: {ended.text[-300:]}"
    if "Traceback" in ended.text or ended.code > 1 or (used and ended.code != 0):
        yield f"wrong: it ends with {ended.code}: {ended.text[-1500:]}"
    if not any((place.store.root / ".damaged").glob(f"{stage}-*")):
        yield f"wrong: nothing was set aside: {ended.text[-300:]}"
    place.run("store", "verify")  # of two that were swapped, the run has used one
    for later in after:
        shutil.rmtree(place.store.root / later, ignore_errors=True)
    yield from again(place, world)


def _keys(place: Place, stage: str) -> Iterator[str]:
    return (path.name for path in (place.store.root / stage).iterdir())
