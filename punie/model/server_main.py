"""Runs mlx_lm.server with punie's BLAS and loader: ``python -m punie.model.server_main``, for evals.serve.

The server itself uses neither the BLAS nor float32, without which a product on a CPU under Linux takes 25 to
200 times as long (docs/decisions/0003-cpu-float32.md). The loader runs no code from a model's folder and
contacts no hub. Options that are not named here are the server's own.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from punie.model import blas
from punie.util import processes

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> None:
    """Serve until this process or its parent ends."""
    parser = argparse.ArgumentParser(prog="punie.model.server_main", allow_abbrev=False)
    parser.add_argument("--parent", type=int, required=True, help="process id that the server ends with")
    parser.add_argument("--float32", action="store_true", help="dequantize and compute in float32")
    parser.add_argument("--no-blas", action="store_true", help="leave MLX's own BLAS in place")
    parser.add_argument("--threads", type=int, help="threads of a product on the CPU")
    own, servers = parser.parse_known_args(arguments)
    processes.end_with(own.parent)
    blas.activate(not own.no_blas)

    # mlx must not be imported before the BLAS is in place.
    from mlx_lm import server

    from punie.model import compat, load

    def load_model(model_path: str, adapter_path: str | None = None, **_: Any) -> tuple[Any, Any, Any]:
        loaded = load.load(
            Path(model_path),
            adapter=None if adapter_path is None else Path(adapter_path),
            float32=own.float32,
            threads=own.threads,
        )
        log.info("loaded %s, float32: %s, BLAS: %s", model_path, own.float32, blas.in_use())
        return loaded.model, loaded.tokenizer, loaded.config

    # The options that the server passes are trust_remote_code and another chat template; neither is used.
    compat.set_server_loader(load_model)
    sys.argv = ["mlx_lm.server", *servers]
    server.main()


if __name__ == "__main__":
    main(sys.argv[1:])
