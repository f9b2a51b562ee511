"""Quantization quality: what is left of a fine-tune."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from punie.model.fidelity import Fidelity, measure, require_kept
from punie.model.fuse import fuse
from punie.util.errors import PunieError
from tests.unit.model.models import BASE_KEY, make_adapter, make_base

ROWS = [(list(range(3, 40)), 10), (list(range(100, 190)), 20)]
MEASURED = Fidelity(
    rows=2, tokens=91, base_logprob=-5.0, adapter_logprob=-1.0, quantized_logprob=-4.0, gain_kept=0.25,
    agreement=0.5, base_agreement=0.1, kl=1.5,
)  # fmt: skip


def test_more_bits_are_nearer_to_the_adapter(tmp_path: Path) -> None:
    """Divergence falls from 2 to 4 to 8 bits; fused in bfloat16 it is near 0. 64 tokens of an example count.
    The gain that is left is (quantized - base) / (adapter - base); of no gain there is no share."""
    base = make_base(tmp_path / "base", "moe")
    adapter, found = make_adapter(tmp_path / "adapter", base), []
    for bits in (2, 4, 8, None):
        out = tmp_path / str(bits)
        out.mkdir()
        fuse(base, adapter, out, base_key=BASE_KEY, bits=bits, group_size=64)
        found.append(f := measure(base, adapter, out, ROWS, float32=True))
        gain = f.adapter_logprob - f.base_logprob
        kept = None if gain < 0.01 else (f.quantized_logprob - f.base_logprob) / gain
        assert f.gain_kept == (kept and pytest.approx(kept, abs=1e-3))
    assert found[0].kl > found[1].kl > found[2].kl >= 0
    assert found[3].kl < 0.01
    assert found[0].tokens == 27 + 64
    assert found[3].adapter_logprob == pytest.approx(found[3].quantized_logprob, abs=0.02)
    assert len({(f.base_logprob, f.adapter_logprob, f.base_agreement) for f in found}) == 1


@pytest.mark.parametrize("name", ["base", "adapter", "quantized"])
def test_a_model_that_computes_no_numbers_is_not_a_loss_to_accept(name: str) -> None:
    """A NaN is refused whatever the threshold, by the model it is of, and nobody is advised to accept it."""
    broken = dataclasses.replace(MEASURED, **{f"{name}_logprob": math.nan, "gain_kept": math.nan})
    for threshold in (0.5, -1e9):
        with pytest.raises(PunieError, match=rf"(?i)\b{name} .*no numbers") as caught:
            require_kept(broken, threshold, 5)
        assert "min_gain_kept" not in str(caught.value)


def test_a_refusal_states_the_figures_and_the_remedy() -> None:
    """Below the threshold: every figure, the threshold's name, and more bits if the model was quantized. A
    gain at the threshold passes, and so does an adapter that gained nothing."""
    require_kept(MEASURED, 0.25, 5)
    require_kept(dataclasses.replace(MEASURED, gain_kept=None), 0.5, 5)
    with pytest.raises(PunieError) as caught:
        require_kept(MEASURED, 0.5, 5)
    message = str(caught.value)
    words = ["0.25", "-5.000", "-1.000", "-4.000", "50%", "91", "1.500", "min_gain_kept=0.5", "quantize=q6"]
    assert [word for word in words if word not in message] == []
    with pytest.raises(PunieError) as caught:
        require_kept(MEASURED, 0.5, None)
    assert "more bits" not in str(caught.value)
