"""What every command of punie imports, loaded once: the fork server's processes begin with it."""

from punie.model import blas

blas.activate()

import hydra  # noqa: E402
import mlx.core  # noqa: E402
import mlx_lm.generate  # noqa: E402
import mlx_lm.tuner.utils  # noqa: E402
import pydantic_monty  # noqa: E402
import transformers  # noqa: E402

import punie.__main__  # noqa: E402
import punie.results.run  # noqa: E402

LOADED = (hydra, mlx.core, mlx_lm, pydantic_monty, transformers, punie.__main__, punie.results.run)
