"""Malformed input, the short form: cases that failed once, then the first cases of the long form.

``python -m tests.malformed --cases 200000`` is the long form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.malformed.corpus import FOUND
from tests.malformed.surface import case, play
from tests.malformed.surfaces import SURFACES

SLOW = {
    "overrides": 25,
    "command lines": 10,
    "grids of sweeps": 60,
    "config files": 60,
    "sweep plans": 60,
    "run folders": 25,
    "server connections": 60,
}
"""Cases of the surfaces where one takes tens of milliseconds; the others get ``CASES``."""
CASES = 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("malformed")


@pytest.mark.parametrize(("name", "what", "given"), FOUND, ids=[f"{name}: {what}" for name, what, _ in FOUND])
def test_found_once(name: str, what: str, given: Any, tmp_path: Path) -> None:
    """What once ended in a traceback, a hang, a crash or a screen full of text is refused with a message."""
    outcome = play(SURFACES[name], given, tmp_path)
    allowed = {"accepted"} if name == "data check" else {"refused"}  # the check accepts, and reports
    assert outcome.ending in allowed, f"{what}: {outcome}"


@pytest.mark.parametrize("name", list(SURFACES))
def test_seeded(name: str, folder: Path) -> None:
    """The first cases of the long form succeed or are refused with a message."""
    place = folder / name.replace(" ", "-")
    place.mkdir()
    for number in range(SLOW.get(name, CASES)):
        made = case(SURFACES[name], 0, number)
        outcome = play(SURFACES[name], made, place)
        assert outcome.ending != "uncaught", f"case {number}: {outcome.words}\n{made!r}"
