"""Start a module of mlx-lm as ``python -m`` does, with one thing less that is slow, or with its steps told.

    python benchmarks/peer.py mlx_lm.fuse --help                as installed
    python benchmarks/peer.py --openblas mlx_lm.fuse --help     on punie's BLAS, with one thread
    python benchmarks/peer.py --openblas 2 mlx_lm.fuse --help   with two

mlx_lm.lora prints tokens a second without decimals; ``--report-to json``, registered here as its own
reporters are, prints every step's report as JSON.
"""

from __future__ import annotations

import json
import runpy
import sys


def main() -> None:
    if sys.argv[1] == "--openblas":
        del sys.argv[1]
        from punie.model import blas

        blas.activate()
        if sys.argv[1].isdecimal():
            blas.set_threads(0, int(sys.argv.pop(1)))
        import mlx.core as mx

        mx.enable_compile()  # as in mlx-lm's own process: only the BLAS differs
    from mlx_lm.tuner import callbacks  # after the BLAS: it imports mlx

    class Told(callbacks.TrainingCallback):
        """A reporter as mlx-lm starts it, which prints what it is told."""

        def __init__(self, **_: object) -> None: ...

        def on_train_loss_report(self, train_info: dict[str, float]) -> None:
            print(json.dumps(train_info), flush=True)

    callbacks.SUPPORT_CALLBACK["json"] = Told  # ty: ignore[invalid-assignment]
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
