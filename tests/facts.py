"""A run's facts without a run: answers that were never generated, but parsed, run and scored for real."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from punie.results.answers import asked, scored, summary

from punie.evals.sandbox import Sandbox
from punie.evals.suite import Expectation, Sample
from punie.results.pages.documents import Facts
from punie.results.verdict import judge

HOSTILE = (
    "</pre></dd></dl></details><script>window.hacked = 1</script></style></script><!-- "
    "<img src=x onerror='window.hacked = 1'> {{ 7 * 7 }} \x1b[31mred\x1b[0m \u202eesrever\u202c "
    "\x00\x07\x7f\x85\u2028\ud800 a lone \r and \u200bnothing"
)
"""What a model could write against the page that shows it."""
SHOWN = (
    "</pre></dd></dl></details><script>window.hacked = 1</script></style></script><!-- "
    "<img src=x onerror='window.hacked = 1'> {{ 7 * 7 }} ␛[31mred␛[0m ⟨U+202E⟩esrever⟨U+202C⟩ "
    "␀␇␡⟨U+0085⟩⟨U+2028⟩⟨U+D800⟩ a lone ␍ and ⟨U+200B⟩nothing"
)
"""The same as a person sees it."""
PHASE = {
    "id": "x",
    "title": "A phase & its <title>",
    "hypothesis": "It holds.",
    "score": "keyword",
    "criteria": [{"metric": "overall", "op": ">=", "value": 0.5}],
    "outcomes": [],
    "baseline": {"source": "as published", "overall": 0.8, "categories": {"lsp": 0.9}},
}
TRAINED = {
    "iters": 100, "updates": 100, "selected_iter": 80, "first_valid_loss": 4.0, "valid_loss": 0.1,
    "train_loss": 0.1, "supervised_tokens": 1000, "tokens": 2000, "padding_share": 0.1, "trainable": 10,
    "parameters": 100,
}  # fmt: skip
_WEIGHTS = {"whole": "0", "files": {"model.safetensors": "0"}, "tensors": {}}


def call(code: str) -> str:
    """An answer that runs code through the wrapper."""
    wrapped = f"<parameter=code>\n{code}\n</parameter>"
    return f"<tool_call>\n<function=execute_code>\n{wrapped}\n</function>\n</tool_call>"


def records(answers: Iterable[tuple[str, str | None]]) -> list[dict[str, Any]]:
    """Lines of samples.jsonl: for each answer its category and its output, None if it is missing."""
    found = []
    with Sandbox() as sandbox:
        for index, (category, output) in enumerate(answers):
            expect = (Expectation("read_file", {"path": "src/app.py"}),)
            sample = Sample(f"{category}-{index}", category, f"Show me file {index} <b>please</b>.", expect)
            row = {**asked(sample, 0, "0", 60), "missing": None, "output": output, "finish_reason": "stop"}
            if output is None:
                found.append({**row, "missing": "the server <b>timed out</b>"})
            else:
                found.append({**row, **scored(sample, output, truncated=False, sandbox=sandbox)})
    return found


def facts(samples: Sequence[dict[str, Any]], **more: Any) -> Facts:
    """A run with these answers; ``more`` goes into its results."""
    scores = summary(samples)
    results = {
        "scores": scores,
        "target": "quantized",
        "targets": {},
        "sampling": {"temperature": 0.7, "seed": 0, "repeats": 1},
        "identity": {
            "unverified": None,
            "weights": _WEIGHTS,
            "suite": {"name": "core27", "sha256": "0"},
            **dict.fromkeys(("model", "tokenizer", "chat_template", "prompts"), "0"),
        },
        "generation": {"samples": len(samples)},
        "paired": [],
        "verdict": judge(scores, PHASE),
    }
    return Facts(
        name="x", model="tiny", data="code_mode", suite="core27", phase=PHASE, results=results | more,
        samples=samples, metrics=[], info={}, settings={"eval.stop": ["</tool_call>"]},
    )  # fmt: skip
