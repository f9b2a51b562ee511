"""A store that cannot be written: what is there is used, what is not is refused with the remedy."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from random import Random

from tests.faults.invariants import violations
from tests.faults.kills import again
from tests.faults.report import Case
from tests.faults.world import BEHIND, STAGES, World


def cases(world: World, count: int) -> Iterator[Case]:
    """A store in which everything is there, and stores in which each stage in turn is missing."""
    for number in range(count):
        missing = (None, *STAGES)[number % (len(STAGES) + 1)]
        yield Case(f"without {missing or 'nothing'}", functools.partial(_read_only, world, missing))


def _read_only(world: World, missing: str | None, random: Random, figures: Counter[str]) -> Iterator[str]:
    place = world.place("readonly", BEHIND[missing] if missing else (*STAGES, "tokens"))
    place.store.root.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(unwritable(place.store.root))
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"  readonly: skipped: {error}")
            return
        ended = place.run()
    figures["used" if missing is None else "refused"] += 1
    if ended.code != (missing is not None) or "Traceback" in ended.text:
        yield f"wrong: it ends with {ended.code}: {ended.text[-1500:]}"
    if missing and "store.dir" not in ended.text:
        yield f"wrong: no remedy: {ended.text[-400:]}"
    yield from violations(place, world)
    yield from again(place, world)


@contextlib.contextmanager
def unwritable(folder: Path) -> Generator[None]:
    """Refuse all writing below a folder: by the mode of its folders, or, for root, by a mount.

    Raises:
        OSError: Root can write to any folder here.
        CalledProcessError: The mount is refused.
    """
    if os.getuid() != 0:
        folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        modes = {path: path.stat().st_mode for path in folders}
        for path in folders:
            path.chmod(0o555)
        try:
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
        return
    if sys.platform != "linux":
        raise PermissionError("root can write to any folder")
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True, capture_output=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True, capture_output=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
