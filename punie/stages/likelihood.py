"""likelihood: the log-probability of text that nothing was trained on, for the decision whether to ship.

Held-out prose and code say whether a model has lost what it knew; responses of validation examples, whether
it has learned. Only a run that decides has this stage, once for each target.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from punie.config.targets import TARGETS
from punie.evals.scores import LIKELIHOODS
from punie.stages import chats
from punie.stages.contract import LOADING, READING, Contents, Inputs, Stage
from punie.stages.inputs import SPLITS, data_digests, target_folders
from punie.stages.slices import Likelihood
from punie.store.keys import content_digests
from punie.util.errors import PunieError
from punie.util.paths import resource
from punie.util.progress import Reporter

FILE = "likelihood.json"
TEXTS = {kind: f"data/held_out/{kind}.jsonl" for kind in LIKELIHOODS[:2]}
"""Shipped texts by kind."""
ROWS = 16
"""Validation examples, evenly spread over the file."""
_VALID = SPLITS[1]


def contents(settings: Likelihood) -> Contents:
    """Digests of the texts and of the validation examples."""
    texts = {kind: next(iter(content_digests([resource(path)]).values())) for kind, path in TEXTS.items()}
    data = {_VALID: data_digests(settings.data)[_VALID]}
    return {"texts": texts, "data": data, **chats.contents(settings), **chats.decisive_options(settings)}


def run(settings: Likelihood, inputs: Inputs, out: Path, reporter: Reporter) -> Contents:
    """Write likelihood.json: the mean log-probability per token of each text."""
    from punie.model import fidelity, load
    from punie.results import files
    from punie.results.records import Likelihood as Record
    from punie.results.records import Text

    target = settings.eval.target
    folder, adapter = target_folders(settings, target, inputs)
    loaded = load.load(
        folder,
        adapter=adapter,
        float32=settings.runtime.float32,
        threads=settings.runtime.threads,
    )
    texts = list(_texts(settings, loaded.tokenizer))
    found: list[Text] = []
    with reporter.bar(f"likelihood, {target}", len(texts), "texts") as bar:
        for kind, name, tokens, prompt in texts:
            values = fidelity.token_logprobs(loaded.model, tokens, prompt)
            mean = round(math.fsum(values) / len(values), 6)
            if not math.isfinite(mean):
                raise PunieError(
                    "A model computes no numbers.",
                    where=f"the {target} model, on {name} of the {kind} texts",
                    found=f"log-probability per token {mean}",
                    expected="a finite number",
                    next_step="a smaller lora.learning_rate or lora.scale; ship=none measures nothing",
                )
            found.append(Text(kind=kind, id=name, tokens=len(values), logprob=mean))
            bar(len(found))
    files.write(out / FILE, Record(version=Record.VERSION, target=target, texts=found))
    return {"texts": len(found)}


def _texts(settings: Likelihood, tokenizer: Any) -> Iterator[tuple[str, str, list[int], int]]:
    """Kind, name, tokens, and how many of them are given: those of a prompt, or the first."""
    from punie.stages.quantize import examples

    for kind, path in TEXTS.items():
        for line in resource(path).read_text("utf-8").splitlines():
            item = json.loads(line)
            yield kind, item["id"], list(tokenizer.encode(item["text"])), 1
    for number, (tokens, prompt) in enumerate(examples(settings, tokenizer, ROWS), 1):
        yield LIKELIHOODS[2], f"example {number}", tokens, prompt


_SOURCES = ("model/fidelity.py", "results/records", "stages/likelihood.py", "stages/quantize.py")
STAGE = Stage(
    name="likelihood",
    version=1,
    reads=Likelihood,
    needs=lambda settings: TARGETS[settings.eval.target].loads,
    sources=lambda _: (*READING, *LOADING, *_SOURCES),
    contents=contents,
    run=run,
    libraries=("mlx", "mlx-lm", "transformers", "tokenizers"),
    computes=True,
)
