"""Real filesystems that refuse: a full disk, and a store that cannot be written."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from random import Random

from tests.faults.invariants import violations
from tests.faults.report import Case
from tests.faults.stops import again
from tests.faults.world import BEHIND, STAGES, World

_SIZE = "64m"


def full(world: World, count: int) -> Iterator[Case]:
    """The disk fills up while some stage is being built; none where no filesystem can be mounted."""
    probe = world.folder / "probe"
    probe.mkdir(exist_ok=True)
    try:
        with mounted(probe):
            pass
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"  disk: skipped: no filesystem can be mounted here ({error})")
        return
    for number in range(count):
        stage = STAGES[number % len(STAGES)]
        yield Case(stage, functools.partial(_fill, world, stage))


def read_only(world: World, count: int) -> Iterator[Case]:
    """A store that has everything, and stores in which each stage in turn is missing."""
    for number in range(count):
        missing = (None, *STAGES)[number % (len(STAGES) + 1)]
        yield Case(f"without {missing or 'nothing'}", functools.partial(_read_only, world, missing))


def _fill(world: World, stage: str, random: Random, figures: Counter[str]) -> Iterator[str]:
    place = world.place("disk")
    source = world.place("disk-source", BEHIND[stage])
    (place.cwd / "outputs").mkdir()
    with mounted(place.cwd / "outputs"):
        if (source.cwd / "outputs").exists():
            subprocess.run(["cp", "-r", f"{source.cwd}/outputs/.", f"{place.cwd}/outputs"], check=True)
        attempt = place.start()
        ended = attempt.wait_until(lambda: place.building(stage))
        filler = place.cwd / "outputs" / "filler"
        leave = int(10 ** random.uniform(2, 6.5))
        _leave(filler, leave)
        ended = ended or attempt.wait()
        figures["full disks" if ended.code else "went through"] += 1
        if ended.code not in (0, 1) or "Traceback" in ended.text or not ended.text.strip():
            yield f"wrong: with {leave} bytes left it ends with {ended.code}: {ended.text[-3000:]}"
        if ended.code and not re.search("No space left|free disk|fit the disk", ended.text):
            yield f"wrong: it does not say why: {ended.text[-1500:]}"
        yield from violations(place, world)
        filler.unlink()
        yield from again(place, world)


def _leave(filler: Path, size: int) -> None:
    """Take all the space of the disk but so many bytes, while a run is taking some of it too."""
    with filler.open("wb") as stream:
        while True:
            about = os.statvfs(filler.parent)
            free = about.f_bavail * about.f_frsize
            try:
                os.posix_fallocate(stream.fileno(), 0, max(free - size, 1))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                if free <= size:
                    return
            else:
                return


def _read_only(world: World, missing: str | None, random: Random, figures: Counter[str]) -> Iterator[str]:
    """A run uses what is in the store; if a stage is missing, it is refused with the remedy."""
    place = world.place("readonly", BEHIND[missing] if missing else (*STAGES, "tokens"))
    place.store.root.mkdir(parents=True, exist_ok=True)
    try:
        with _unwritable(place.store.root):
            ended = place.run()
    except (PermissionError, subprocess.CalledProcessError) as error:
        print(f"  readonly: skipped: {error}")
        return
    figures["used" if missing is None else "refused"] += 1
    if ended.code != (missing is not None) or "Traceback" in ended.text:
        yield f"wrong: it ends with {ended.code}: {ended.text[-1500:]}"
    if missing and "store.dir" not in ended.text:
        yield f"wrong: no remedy: {ended.text[-400:]}"
    yield from violations(place, world)
    yield from again(place, world)


@contextlib.contextmanager
def mounted(folder: Path, *, unwritable: bool = False) -> Generator[None]:
    """A small filesystem at a folder, or, if unwritable, the folder itself mounted read-only.

    Raises:
        PermissionError: Only root on Linux can mount.
        CalledProcessError: The mount is refused.
    """
    if sys.platform != "linux" or os.getuid() != 0:
        raise PermissionError("only root on Linux can mount a filesystem")
    command = ["--bind", str(folder)] if unwritable else ["-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs"]
    subprocess.run(["mount", *command, str(folder)], check=True, capture_output=True)
    try:
        if unwritable:
            remount = ["mount", "-o", "remount,bind,ro", str(folder)]
            subprocess.run(remount, check=True, capture_output=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def _unwritable(folder: Path) -> Generator[None]:
    """Refuse all writing below a folder: by the mode of its folders, or, for root, by a mount.

    Raises:
        PermissionError: Root can write to any folder here.
        CalledProcessError: The mount is refused.
    """
    if os.getuid() == 0:
        with mounted(folder, unwritable=True):
            yield
        return
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*")) if path.is_dir()}
    for path in modes:
        path.chmod(0o555)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
