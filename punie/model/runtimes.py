"""Runs an exported model where people will run it, in a process of its own, to compare its answers.

``ask`` starts ``python -m punie.model.runtimes NAME MODEL BASE``, which reads requests and writes answers.
llama.cpp is its server, from the package xllamacpp; PEFT computes with torch on the CPU, in float32.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from punie.util.errors import PunieError

NEEDS = {"llama.cpp": ("llamacpp", ("xllamacpp",)), "peft": ("peft", ("peft", "torch"))}
"""By runtime the extra of punie, and the packages in it."""
_LAST_LINES = 12


@dataclass(frozen=True)
class Request:
    """A prompt to answer greedily."""

    prompt: list[int]
    text: str
    """The same, as it was before it became tokens."""
    chat: dict[str, Any]
    """The same, as OpenAI's chat API takes it."""
    max_tokens: int
    ends: list[int]
    """Tokens at which an answer ends."""


@dataclass(frozen=True)
class Answer:
    """What a runtime made of it."""

    tokens: list[int]
    """Without the token that ended the answer."""
    logprobs: list[float]
    """Of each of the tokens."""
    ended: bool
    """By a token that ends answers, not by the limit."""
    rendered: str | None
    """The prompt, as the runtime renders the chat; None if it does not."""
    ids: list[int] | None
    """The tokens of that prompt."""


def installed(name: str) -> bool:
    """Whether a runtime is installed."""
    return all(importlib.util.find_spec(each) for each in NEEDS[name][1])


def require(name: str) -> None:
    """Check that a runtime is installed.

    Raises:
        PunieError: It is not.
    """
    extra, packages = NEEDS[name]
    if not installed(name):
        raise PunieError(
            f"{name} is not installed here, so that nothing can be proved.",
            expected=f"the packages {' and '.join(packages)}",
            next_step=f"pip install 'punie[{extra}]'; docs/export.md says more",
        )


def ask(name: str, model: Path, base: Path, requests: Sequence[Request]) -> list[Answer]:
    """The answers of a runtime, in order.

    Raises:
        PunieError: It failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        given, log = Path(scratch) / "requests", Path(scratch) / "log"
        given.write_text(json.dumps([asdict(each) for each in requests]))
        with given.open("rb") as stdin, log.open("wb") as stderr:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "punie.model.runtimes", name, str(model), str(base)],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=os.environ | {"HF_HUB_OFFLINE": "1"},
                check=False,
            )
        lines = done.stdout.splitlines()
        if done.returncode or len(lines) != len(requests):
            end = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
            raise PunieError(
                f"{name} cannot run the exported model.",
                where=model,
                found="\n           | ".join([f"exit code {done.returncode}", *end]),
            )
        return [Answer(**json.loads(line)) for line in lines]


def _llama(model: str, _: str, requests: Sequence[Request]) -> Iterator[Answer]:
    import httpx2
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = model
    options.n_ctx = max(len(each.prompt) + each.max_tokens for each in requests) + 8
    options.n_parallel, options.port, options.use_jinja = 1, 0, True
    options.warmup = False
    server = xllamacpp.Server(options)
    with httpx2.Client(base_url=server.listening_address, trust_env=False, timeout=None) as client:

        def post(route: str, **payload: Any) -> Any:
            response = client.post(route, json=payload)
            if response.status_code != 200:
                raise RuntimeError(f"{route}: {response.status_code} {response.text[:300]}")
            return response.json()

        for each in requests:
            rendered = post("/apply-template", **each.chat)["prompt"]
            ids = post("/tokenize", content=rendered, add_special=True, parse_special=True)["tokens"]
            found = post(
                "/completion",
                prompt=each.prompt,
                n_predict=each.max_tokens,
                temperature=0.0,
                n_probs=1,
                return_tokens=True,
            )
            ended = found["stop_type"] == "eos"
            chosen = found["completion_probabilities"][: -1 if ended else None]
            tokens, values = ([one[key] for one in chosen] for key in ("id", "logprob"))
            yield Answer(tokens, values, ended, rendered, ids)


def _peft(model: str, base: str, requests: Sequence[Request]) -> Iterator[Answer]:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BatchEncoding

    plain = AutoModelForCausalLM.from_pretrained(
        base, dtype="float32", local_files_only=True, use_safetensors=True
    )
    adapted = PeftModel.from_pretrained(plain, model).eval()
    for each in requests:
        given = {"input_ids": [each.prompt], "attention_mask": [[1] * len(each.prompt)]}
        found = adapted.generate(
            **BatchEncoding(given, tensor_type="pt"),
            do_sample=False,
            max_new_tokens=each.max_tokens,
            eos_token_id=each.ends,
            pad_token_id=each.ends[0],
            return_dict_in_generate=True,
            output_logits=True,
        )
        tokens = found.sequences[0, len(each.prompt) :].tolist()
        values = [
            logits[0].log_softmax(-1)[token].item()
            for logits, token in zip(found.logits, tokens, strict=True)
        ]
        ended = tokens[-1] in each.ends
        count = len(tokens) - ended
        yield Answer(tokens[:count], values[:count], ended, None, None)


if __name__ == "__main__":
    _, _name, _model, _base = sys.argv
    _given = [Request(**each) for each in json.load(sys.stdin)]
    for _answer in {"llama.cpp": _llama, "peft": _peft}[_name](_model, _base, _given):
        print(json.dumps(asdict(_answer)), flush=True)
