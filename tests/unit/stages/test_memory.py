"""The memory of a run: estimated, and refused where it does not fit, with a change that makes it fit."""

from __future__ import annotations

import pytest

from punie.config import resolve
from punie.config.compose import compose
from punie.config.schema import Config
from punie.model import device
from punie.stages import memory

BOTH = ("train", "evaluate")
ROW, PROMPT, ANSWERS = 300, 80, 27


def configured(*overrides: str) -> Config:
    return resolve(compose(list(overrides)))


def shortage(config: Config, *stages: str, answers: int = ANSWERS) -> str:
    missing = [[config] if stage in stages else [] for stage in BOTH]
    return str(memory.shortage(*missing, row=ROW, prompt=PROMPT, answers=answers))


@pytest.fixture
def reference(monkeypatch: pytest.MonkeyPatch) -> Config:
    """The 30B recipe on a GPU; the model is not on this machine."""
    monkeypatch.setattr(device, "device_kind", lambda: "metal")
    return configured("+phase=33b", "store.dir=nowhere")


def machine_of(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    monkeypatch.setattr(device, "memory", lambda: int(size))


def test_the_published_peak(reference: Config) -> None:
    """The reference recipe's estimate is within 25 % of the published 21.4 GB."""
    assert memory.training(reference, ROW) == pytest.approx(21.4e9, rel=0.25)


def test_what_fits_is_not_refused(reference: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """32 GB are enough for the reference recipe, and a machine that does not state its memory is accepted."""
    for size in (32_000_000_000, None):
        monkeypatch.setattr(device, "memory", lambda size=size: size)
        assert shortage(reference, *BOTH) == "None"


def test_what_can_never_fit(reference: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the weights alone are too large, no change of the recipe is suggested."""
    machine_of(monkeypatch, 12e9)
    said = shortage(reference, *BOTH)
    words = ["not enough memory to train", "12.0 GB", "a smaller model"]
    assert [word for word in words if word not in said] == []


def test_weights_that_do_not_fit_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU 30.5 B parameters need 122 GB; without float32, or with fewer parameters, nothing is said."""
    monkeypatch.setattr(device, "device_kind", lambda: "cpu")
    machine_of(monkeypatch, 32e9)
    plain, half = configured("runtime.cpu_float32=true"), configured("runtime.cpu_float32=false")
    assert "122.3 GB" in str(memory.weights_shortage(plain, 30_532_122_624))
    fitting = [(half, 30_532_122_624), (plain, 7_000_000_000), (plain, None)]
    assert [memory.weights_shortage(*each) for each in fitting] == [None] * 3


def test_the_first_change_that_helps(reference: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many rows at once are refused with changes that do fit, and give the same updates."""
    config = configured("+phase=33b", "lora.batch_size=16", "lora.grad_accumulation_steps=1")
    machine_of(monkeypatch, 24e9)
    said = shortage(config, "train")
    assert "lora.grad_checkpoint=true lora.batch_size=1 lora.grad_accumulation_steps=16" in said
    fitting = configured(
        "+phase=33b", "lora.grad_checkpoint=true", "lora.batch_size=1", "lora.grad_accumulation_steps=16"
    )
    assert shortage(fitting, "train") == "None"


def test_answers_at_a_time(reference: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many answers at once are refused with the batch that fits; what is in the store needs no memory."""
    config = configured("+phase=33b", "eval.max_tokens=8192", "eval.repeats=8")
    machine_of(monkeypatch, 24e9)
    said = shortage(config, "evaluate", answers=8 * ANSWERS)
    assert "not enough memory to evaluate" in said
    size = int(said.rpartition("eval.batch_size=")[2])
    smaller = configured("+phase=33b", "eval.max_tokens=8192", "eval.repeats=8", f"eval.batch_size={size}")
    assert shortage(smaller, "evaluate", answers=8 * ANSWERS) == "None"
    assert shortage(config, answers=8 * ANSWERS) == "None"


def test_workers_on_this_machine_hold_a_model_each(reference: Config) -> None:
    """Four here take the weights four times; on hosts of their own each takes them once, and fewer rows."""
    few = ("+phase=33b", "store.dir=nowhere", "lora.batch_size=4")
    alone = memory.training(configured(*few), ROW)
    here = memory.training(configured(*few, "lora.workers=4"), ROW)
    hosts = "lora.hosts=[127.0.0.1,127.0.0.2,127.0.0.3,127.0.0.4]"
    elsewhere = memory.training(configured(*few, "lora.workers=4", hosts), ROW)
    assert elsewhere < alone
    assert here > alone + 3 * 17e9


def test_each_target_is_counted_by_itself(reference: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several evaluations the one that does not fit is found, whatever the first one's target is."""
    base, quantized = (configured("+phase=33b", f"eval.target={each}") for each in ("base", "quantized"))
    sizes = [memory.evaluation(each, ANSWERS, PROMPT) for each in (base, quantized)]
    machine_of(monkeypatch, sum(sizes) / 2)
    assert sizes[0] < sizes[1]
    assert memory.shortage([], [base], row=ROW, prompt=PROMPT, answers=ANSWERS) is None
    refused = memory.shortage([], [base, quantized], row=ROW, prompt=PROMPT, answers=ANSWERS)
    assert "not enough memory to evaluate" in str(refused)


def test_a_cpu_holds_the_model_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU the embedded model is counted in float32, unless the config says otherwise."""
    monkeypatch.setattr(device, "device_kind", lambda: "cpu")
    wide = memory.training(configured(), ROW)
    narrow = memory.training(configured("runtime.cpu_float32=false"), ROW)
    assert wide > narrow > memory.PROCESS


def test_the_memory_of_this_machine() -> None:
    """On the CPU it is what the system has, or less where a container has less."""
    if device.device_kind() != "cpu":
        pytest.skip("of a CPU")
    assert 0 < (device.memory() or 0) < 1e15
