"""Surface: GGUF files: the header, metadata, tokenizer and tensors of a model that is converted."""

from __future__ import annotations

import functools
import importlib.util
import random
import shutil
import tempfile
from pathlib import Path

from punie.model.gguf.convert import convert
from tests.malformed.mutation import damaged
from tests.malformed.surface import Surface


@functools.cache
def _whole() -> bytes:
    import gguf

    from tests.gguf_files import write

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.gguf"
        write(path, "gemma", kind=gguf.GGMLQuantizationType.Q4_0, tokenizer="llama")
        return path.read_bytes()


def gguf_file(rng: random.Random) -> bytes:
    """A GGUF file with one or two wrong places, most of them in its header."""
    content, header = bytearray(_whole()), _whole().index(b"blk.2.")
    for _ in range(rng.randint(1, 2)):
        content = content or bytearray(1)
        at = rng.randrange(min(len(content), header if rng.random() < 0.9 else len(content)))
        kind = rng.random()
        if kind < 0.5:
            content[at] = rng.randrange(256)
        elif kind < 0.7:
            content[at : at + 8] = rng.choice((0, 1, 2**31, 2**63, 2**64 - 1)).to_bytes(8, "little")
        elif kind < 0.8:
            del content[at : at + rng.randint(1, 16)]
        elif kind < 0.9:
            del content[at:]
        else:
            content = bytearray(damaged(rng, bytes(content)))
    return bytes(content)


def _convert(content: bytes, folder: Path) -> None:
    out = folder / "model"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    (folder / "m.gguf").write_bytes(content)
    convert(folder / "m.gguf", out, dtype="float32")


SURFACES = (Surface("gguf files", gguf_file, _convert, 2),) if importlib.util.find_spec("gguf") else ()
"""Without the `gguf` package there is no way in."""
