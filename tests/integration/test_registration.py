"""A phase registered, run and recorded, with a run that really ran."""

from __future__ import annotations

from pathlib import Path

from punie.results.registration import END
from tests.conftest import QUICK, World
from tests.processes import punie


def test_a_registered_run(world: World) -> None:
    """What was registered before a run is what is recorded of it, and recording again changes nothing."""
    overrides = [*QUICK, "+phase=43b", "model=tiny", "eval.seed=77"]  # responses of no other test
    done = punie("prereg", *overrides, cwd=world.cwd)
    assert (done.code, done.err) == (0, "")
    document = world.cwd / done.out.splitlines()[0]
    before = document.read_text()
    ran = punie(*overrides, cwd=world.cwd)
    assert ran.code == 0, ran.err
    assert "next: nothing, the tree of phases ends here (45 → 46 → 43b:" in ran.out
    done = punie("record", str(ran.run_directory), cwd=world.cwd)
    assert (done.code, done.err) == (0, "")
    assert f"{ran.run_directory.name}: as registered" in done.out
    text = document.read_text()
    head, _, tail = before.partition(END)
    assert text.startswith(head)
    assert text.endswith(END + tail)
    assert "Not as registered" not in text
    assert "| validation loss |" in text
    assert "Format lock" in text
    assert punie("record", str(ran.run_directory), str(document), cwd=world.cwd).code == 0
    assert document.read_text() == text


def test_another_config_is_told(world: World) -> None:
    """A run at another temperature than the registered one is recorded as such."""
    unasked = "eval.seed=78"
    done = punie("prereg", *QUICK, "+phase=43a", "model=tiny", unasked, "--out", "docs", cwd=world.cwd)
    document = Path(done.out.splitlines()[0])
    run = world.run("+phase=43a", "model=tiny", unasked, "eval.temperature=0")
    done = punie("record", str(run), str(document), cwd=world.cwd)
    assert "not as registered: eval.temperature\n" in done.out
    assert "| eval.temperature | 0.7 | 0.0 |" in (world.cwd / document).read_text()
