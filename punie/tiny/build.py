"""Build an embedded model from its seed: tokenizer, pretraining on the corpus, files as mlx-lm reads them.

Shape letters: B = conversations of a batch, T = tokens of the longest of them, D = hidden width,
E = experts, F = width of an expert.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from punie.backend import blas
from punie.errors import PunieError
from punie.files import write_json
from punie.tiny import tokenizer as tokenizers_
from punie.tiny.corpus import Corpus
from punie.tiny.specs import SPECS, Spec

blas.activate()

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402
import mlx.optimizers as optim  # noqa: E402
from mlx.utils import tree_flatten, tree_map  # noqa: E402
from mlx_lm.utils import _get_classes  # noqa: E402
