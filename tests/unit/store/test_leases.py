"""An artifact in use is not dropped."""

from __future__ import annotations

from pathlib import Path

from punie.store.artifacts import Artifact, Store
from punie.store.leases import drop, lease


def built(store: Store) -> Artifact:
    def build(out: Path) -> None:
        (out / "model").write_text("weights")

    return store.get_or_build("quantize", {"bits": 5}, build)[0]


def test_a_leased_artifact_stays(tmp_path: Path) -> None:
    """While anyone holds a lease the artifact stays; afterwards it goes, and can be built again."""
    store = Store(tmp_path)
    artifact = built(store)
    with lease(store, "quantize", artifact.key), lease(store, "quantize", artifact.key):
        assert not drop(store, artifact)
        assert store.find("quantize", artifact.key)
    assert drop(store, artifact)
    assert store.find("quantize", artifact.key) is None
    assert store.leftovers() == []
    assert built(store).key == artifact.key


def test_a_lease_can_come_before_the_artifact(tmp_path: Path) -> None:
    """A key is leased before anything is built for it, so that no gap is left."""
    store = Store(tmp_path)
    key = built(Store(tmp_path / "other")).key
    with lease(store, "quantize", key):
        assert not drop(store, built(store))
