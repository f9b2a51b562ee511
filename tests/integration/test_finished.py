"""Commands that read a finished run, without the libraries that made it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import World, read_json
from tests.processes import punie

HEAVY = ("mlx", "mlx_lm", "transformers")


@pytest.mark.parametrize("command", ["show", "rescore"])
def test_reading_a_run_is_quick(command: str, world: World) -> None:
    """``show`` and ``rescore`` import neither mlx nor transformers, and a run's own scorers agree with it."""
    code = (
        "import sys\nfrom punie.__main__ import main\n"
        f"code = main([{command!r}, {str(world.first)!r}])\n"
        f"sys.exit(code or ' '.join(sys.modules.keys() & set({HEAVY!r})) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=world.cwd, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert read_json(world.first / "results.json")["identity"]["weights"]["whole"] in done.stdout
    assert "unverified" not in done.stdout


def test_show_names_every_digest_of_a_run(world: World) -> None:
    """Every sha256 in results.json's identity, and every artifact's key, is in ``show --tensors``."""
    results = read_json(world.first / "results.json")
    identity, weights = results["identity"], results["identity"]["weights"]
    digests = [identity[name] for name in ("tokenizer", "chat_template", "prompts")]
    digests += [weights["whole"], identity["suite"]["sha256"]]
    digests += [*weights["files"].values(), *weights["tensors"].values()]
    digests += [artifact["key"] for artifact in results["artifacts"].values()]
    done = punie("show", "--tensors", str(world.first), cwd=world.cwd)
    assert done.code == 0, done.err
    assert [digest for digest in digests if digest not in done.out] == []
