"""A disk that is really full, for punie and for what libraries write by themselves."""

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
from tests.faults.kills import again
from tests.faults.report import Case
from tests.faults.world import BEHIND, STAGES, World

_SIZE = "64m"


def cases(world: World, count: int) -> Iterator[Case]:
    """The disk fills up while some stage is being built; none where no filesystem can be mounted."""
    with contextlib.ExitStack() as stack:
        probe = world.folder / "probe"
        probe.mkdir(exist_ok=True)
        try:
            stack.enter_context(mounted(probe))
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"  disk: skipped: no filesystem can be mounted here ({error})")
            return
    for number in range(count):
        stage = STAGES[number % len(STAGES)]
        yield Case(stage, functools.partial(_fill, world, stage))


@contextlib.contextmanager
def mounted(folder: Path) -> Generator[None]:
    """A small filesystem of its own at a folder.

    Raises:
        OSError: There is no such thing on this system, or for this user.
        CalledProcessError: It is refused.
    """
    if sys.platform != "linux" or os.getuid() != 0:
        raise PermissionError("only root on Linux can")
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


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
