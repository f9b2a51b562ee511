"""The memory of a run: estimated, and refused where it does not fit, with a change that makes it fit."""

from __future__ import annotations

import pytest

from punie.config import resolve
from punie.config.compose import compose
from punie.config.schema import Config
from punie.model import device
from punie.stages import memory

ROW, PROMPT, ANSWERS = 300, 80, 27


def configured(*overrides: str) -> Config:
    return resolve(compose(["+phase=33b", "store.dir=nowhere", *overrides]))


def shortage(*configs: Config, stage: str, answers: int = ANSWERS) -> str:
    asked = (configs, ()) if stage == "train" else ((), configs)
    return str(memory.shortage(*asked, row=ROW, prompt=PROMPT, answers=answers))


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The 30B recipe on a GPU; the model is not on this machine."""
    monkeypatch.setattr(device, "device_kind", lambda: "metal")


def machine_of(monkeypatch: pytest.MonkeyPatch, size: float | None) -> None:
    monkeypatch.setattr(device, "memory", lambda: size and int(size))


def test_the_published_peak() -> None:
    """The reference recipe's estimate is within 25 % of the published 21.4 GB."""
    assert memory.training(configured(), ROW) == pytest.approx(21.4e9, rel=0.25)


def test_what_fits_and_what_never_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """32 GB are enough for the reference recipe, and a machine that does not state its memory is accepted;
    where the weights alone are too large, no change of the recipe is suggested."""
    for size in (32e9, None):
        machine_of(monkeypatch, size)
        assert [shortage(configured(), stage=stage) for stage in ("train", "evaluate")] == ["None"] * 2
    machine_of(monkeypatch, 12e9)
    said = shortage(configured(), stage="train")
    words = ["not enough memory to train", "12.0 GB", "a smaller model"]
    assert [word for word in words if word not in said] == []


def test_a_cpu_holds_the_model_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU 30.5 B parameters need 122 GB and the embedded model more than in half precision; without
    float32, or with fewer parameters, nothing is refused."""
    monkeypatch.setattr(device, "device_kind", lambda: "cpu")
    machine_of(monkeypatch, 32e9)
    wide, narrow = (resolve(compose([f"runtime.cpu_float32={each}"])) for each in ("true", "false"))
    assert "122.3 GB" in str(memory.weights_shortage(wide, 30_532_122_624))
    fitting = [(narrow, 30_532_122_624), (wide, 7_000_000_000), (wide, None)]
    assert [memory.weights_shortage(*each) for each in fitting] == [None] * 3
    assert memory.training(wide, ROW) > memory.training(narrow, ROW) > memory.PROCESS


def test_the_first_change_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many examples at once are refused with changes that do fit, and give the same updates."""
    machine_of(monkeypatch, 21e9)
    changes = ["lora.grad_checkpoint=true", "lora.batch_size=1", "lora.grad_accumulation_steps=16"]
    large = configured("lora.batch_size=16", "lora.grad_accumulation_steps=1")
    assert " ".join(changes) in shortage(large, stage="train")
    assert shortage(configured(*changes), stage="train") == "None"


def test_answers_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many answers at once are refused with the batch that fits."""
    machine_of(monkeypatch, 24e9)
    many = ("eval.max_tokens=8192", "eval.repeats=8")
    said = shortage(configured(*many), stage="evaluate", answers=8 * ANSWERS)
    assert "not enough memory to evaluate" in said
    smaller = configured(*many, f"eval.batch_size={int(said.rpartition('eval.batch_size=')[2])}")
    assert shortage(smaller, stage="evaluate", answers=8 * ANSWERS) == "None"


def test_workers_on_this_machine_hold_a_model_each() -> None:
    """Four here take the weights four times; on hosts of their own each takes them once, and less."""
    hosts = "lora.hosts=[127.0.0.1,127.0.0.2,127.0.0.3,127.0.0.4]"
    alone, here, elsewhere = (
        memory.training(configured("lora.batch_size=4", *more), ROW)
        for more in ((), ("lora.workers=4",), ("lora.workers=4", hosts))
    )
    assert elsewhere < alone
    assert here > alone + 3 * 17e9


def test_each_target_is_counted_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several evaluations the one that does not fit is found, whatever the first one's target is."""
    base, quantized = (configured(f"eval.target={each}") for each in ("base", "quantized"))
    sizes = [memory.evaluation(each, ANSWERS, PROMPT) for each in (base, quantized)]
    machine_of(monkeypatch, sum(sizes) / 2)
    assert sizes[0] < sizes[1]
    assert shortage(base, stage="evaluate") == "None"
    assert "not enough memory to evaluate" in shortage(base, quantized, stage="evaluate")


def test_the_memory_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU it is what the system has, or less where a container has less."""
    monkeypatch.undo()
    if device.device_kind() != "cpu":
        pytest.skip("of a CPU")
    assert 0 < (device.memory() or 0) < 1e15
