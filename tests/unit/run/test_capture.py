"""What a run says of its surroundings, and what it keeps to itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from punie.results.files import plain
from punie.results.records import Provenance
from punie.run.capture import ENVIRONMENT, capture, finish, peak_memory_mb
from punie.store.artifact import Artifact


def record(*argv: str) -> Provenance:
    return capture(argv=list(argv), overrides=list(argv), config_digest="0" * 64)


def test_nothing_is_missing(tmp_path: Path) -> None:
    """Every field of the record is set, and it is read again as it was written."""
    made = Artifact(tmp_path, {"key": "k", "files": {}})
    found = finish(record("seed=1"), blas="a BLAS", inputs={"suite": "s"}, artifacts={"train": made}, data={})
    assert [name for name, value in plain(found).items() if value in (None, [], "")] == []
    assert found.machine
    assert all(dict(found.machine).values())
    assert found.packages["mlx-lm"]
    assert (found.started or "") <= (found.ended or "")
    assert Provenance.model_validate(json.loads(json.dumps(plain(found)))) == found


def test_only_listed_variables_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all environment variables only the listed ones are there, with their values."""
    for name in list(os.environ):
        if name in ENVIRONMENT:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = record()
    assert found.environment == {"OMP_NUM_THREADS": "3"}
    assert "secret" not in json.dumps(plain(found))


def test_a_command_line_loses_its_passwords() -> None:
    """User and password of a URL are in neither command nor overrides; a name of the user's own is."""
    found = record("eval.server.url=http://me:secret@host/v1", "name=hf_xxx")
    assert found.command == found.overrides == ["eval.server.url=http://***@host/v1", "name=hf_xxx"]


def test_memory_of_a_stage_in_its_own_process_counts() -> None:
    """The peak is that of the largest process, though it has ended and this one stayed small."""
    before = peak_memory_mb()
    size = int(before) + 200
    subprocess.run([sys.executable, "-c", f"b'x' * {size * 10**6}"], check=True)
    assert peak_memory_mb() > before + 150
