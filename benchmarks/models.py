"""Models to measure with: the embedded one in another precision, or a qwen3 of random weights.

    python benchmarks/models.py OUT --bits 4                       tiny, as large models come
    python benchmarks/models.py OUT --width 1024 --layers 16       about 200 M parameters

Their tokenizer is tiny's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from figures import run

from punie.util.paths import resource


def write(out: Path, *options: object) -> Path:
    """Make a model with these options, in a process of its own."""
    run(sys.executable, __file__, out, *options)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder to write, which must not exist")
    parser.add_argument("--width", type=int, help="hidden size, a multiple of 128 (default: tiny itself)")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--vocabulary", type=int, default=1024)
    parser.add_argument("--bits", type=int, help="quantized in groups of 64")
    parser.add_argument("--float32", action="store_true", help="instead of bfloat16")
    arguments = parser.parse_args()

    from punie.model import blas

    blas.activate()
    import mlx.core as mx
    from mlx_lm.models import qwen3
    from mlx_lm.utils import load_model, quantize_model, save_config, save_model

    tiny, out, width = resource("data/models/tiny"), arguments.out, arguments.width
    if width is None:
        model, config = load_model(tiny)
    else:
        config = json.loads((tiny / "config.json").read_text())
        sparse = ("decoder_sparse_step", "mlp_only_layers")
        config = {k: v for k, v in config.items() if "expert" not in k and k not in sparse}
        config |= {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": width,
                   "num_hidden_layers": arguments.layers, "intermediate_size": 3 * width,
                   "num_attention_heads": width // 64, "num_key_value_heads": width // 128,
                   "head_dim": arguments.head_dim, "vocab_size": arguments.vocabulary}  # fmt: skip
        mx.random.seed(0)
        model = qwen3.Model(qwen3.ModelArgs.from_dict(config))
    dtype = "float32" if arguments.float32 else "bfloat16"
    model.set_dtype(getattr(mx, dtype))
    config["torch_dtype"] = dtype
    if arguments.bits:
        model, config = quantize_model(model, config, 64, arguments.bits)
    out.mkdir(parents=True)
    save_model(out, model)
    save_config(config, out / "config.json")
    for path in tiny.iterdir():
        if path.name.startswith(("tokenizer", "chat_template", "generation_config")):
            shutil.copyfile(path, out / path.name)


if __name__ == "__main__":
    main()
