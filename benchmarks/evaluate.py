"""Evaluation beside mlx_lm.server; how exact, order-free and safe it is: figures of docs/benchmarks.md.

    python benchmarks/evaluate.py                    everything on the fine-tuned tiny model (20 minutes)
    python benchmarks/evaluate.py speed lock         some of it
    python benchmarks/evaluate.py --quick            fewer answers of the large model, samples and mutations

speed      core27 with 8 repeats at 0.7 in this process, against the same prompts one after another through
           mlx_lm.server with the same BLAS and float32 weights, in turn
large      the same with a generated model of 113 M parameters, up to 16 tokens an answer
order      the same answers with batch sizes 1, 8 and 32 and in shuffled order, at 0 and at 0.7
lock       the exact format lock against samples, and what a curve of 100 temperatures costs above one of 1
mutations  mutated outputs, parsed, run and scored; audited: nothing is executed outside the sandbox
limits     endless loops, memory bombs, files and network in the sandbox: how each ends, and when
plot       docs/evaluation.svg again: the lock of the fine-tuned tiny model, sampled 8 times a prompt at 1.2
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import models
from figures import Row, punie, report
from tabulate import tabulate

from punie.model import blas

blas.activate()

from punie.evals.endpoint import Endpoint  # noqa: E402
from punie.evals.replies import Reply  # noqa: E402
from punie.evals.sandbox import Limits, Sandbox  # noqa: E402
from punie.evals.serve import serve  # noqa: E402
from punie.evals.suite import load_suite  # noqa: E402
from punie.formats.chat import Chat  # noqa: E402
from punie.formats.code_mode import FORMAT, system_prompt, wrap  # noqa: E402
from punie.model import format_lock, generate, load  # noqa: E402 - after the BLAS
from punie.results import scoring as record  # noqa: E402
from punie.results.pages.plots import lock_curves, standalone  # noqa: E402
from punie.results.pages.tables import lock_sentence  # noqa: E402
from punie.results.statistics import wilson  # noqa: E402
from punie.stages import answering  # noqa: E402
from punie.util.paths import resource  # noqa: E402

Z99 = 2.5758293035489004
SUITE = load_suite(resource("data/suites/core27.jsonl"))
HARMLESS = "regular expression"
"""Endless elsewhere; the sandbox's own take time in proportion to the text, and so it ends well."""
PARTS = ("speed", "large", "order", "lock", "mutations", "limits")
SERVER = "python -m punie.model.server_main --float32 --model MODEL --port PORT"
"""mlx_lm.server on punie's BLAS, asked for one answer after the other."""
PLOT = Path(__file__).parents[1] / "docs" / "evaluation.svg"


def run(work: Path, *overrides: str) -> dict[str, Any]:
    """The results of ``+phase=43a model=tiny``, in a store of its own."""
    done = punie("+phase=43a", "model=tiny", *overrides, cwd=work)
    line = next(line for line in done.out.splitlines() if line.startswith("run directory: "))
    return json.loads((work / line.removeprefix("run directory: ") / "results.json").read_text())


def fine_tuned(work: Path) -> Path:
    """The folder of that run's quantized model."""
    return work / "outputs/store/quantize" / run(work)["artifacts"]["quantize"]["key"]


def plot(work: Path) -> None:
    lock = run(work, "eval.temperature=1.2", "eval.repeats=8")["lock"]
    PLOT.write_text(standalone(lock_curves(lock)), encoding="utf-8")
    print(f"wrote {PLOT.name}: {lock_sentence(lock)}")


def chat(loaded: Any) -> Chat:
    return Chat(loaded.tokenizer, FORMAT)


def dialogues(loaded: Any, repeats: int, max_tokens: int) -> list[answering.Dialogue]:
    return answering.dialogues(
        loaded, chat(loaded), SUITE, system=system_prompt(), repeats=repeats, max_tokens=max_tokens
    )


def requests(loaded: Any, repeats: int, max_tokens: int) -> list[generate.Request]:
    return [dialogue.request for dialogue in dialogues(loaded, repeats, max_tokens)]


def ours(loaded: Any, asked: list[generate.Request], sampling: generate.Sampling, batch: int = 64) -> Any:
    return generate.generate(
        loaded.model, loaded.tokenizer, asked, sampling, stop=(), batch_size=batch, done=lambda _: None
    )


def speed(
    name: str, folder: Path, work: Path, *, repeats: int, max_tokens: int, runs: int, aim: float
) -> Row:
    """Seconds of both, in turn."""
    loaded = load.load(folder, float32=True)
    started = dialogues(loaded, repeats, max_tokens)
    for each in started:
        each.request = dataclasses.replace(each.request, max_tokens=min(each.request.max_tokens, max_tokens))
    asked = [each.request for each in started]
    theirs = [answering.served(chat(loaded), each) for each in started]
    sampling = generate.Sampling(0.7)
    with contextlib.ExitStack() as running:
        server = running.enter_context(serve(folder, log=work / "server.log", float32=True))
        endpoint = running.enter_context(Endpoint(server.url, loaded.tokenizer, token_ids=False))
        ours(loaded, asked[:8], sampling)
        for each in theirs[:8]:
            endpoint.answer(each, sampling)
        a, b, tokens = [], [], []
        for _ in range(runs):
            clock = time.perf_counter()
            answers = ours(loaded, asked, sampling)
            a.append(time.perf_counter() - clock)
            clock = time.perf_counter()
            replies = [endpoint.answer(each, sampling) for each in theirs]
            b.append(time.perf_counter() - clock)
            counts = [reply.completion_tokens or 0 for reply in replies if isinstance(reply, Reply)]
            if len(counts) < len(asked):
                raise SystemExit(f"{len(asked) - len(counts)} answers are missing")
            tokens.append((sum(len(x.tokens) for x in answers), sum(counts)))
    print(f"{name}: {len(asked)} answers, tokens of ours and theirs {tokens}", flush=True)
    what = f"core27, {repeats} answers to each prompt at 0.7, {name}, OpenBLAS and float32 for both"
    return Row(what, a, "s", b, SERVER, at_least=aim)


def order(folder: Path) -> Iterator[Row]:
    loaded = load.load(folder, float32=True)
    asked = requests(loaded, 2, 64)
    shuffled = random.Random(0).sample(asked, len(asked))
    for temperature in (0.0, 0.7):
        sampling = generate.Sampling(temperature)
        found = [{x.id: x.tokens for x in ours(loaded, asked, sampling, batch)} for batch in (1, 8, 32)]
        found.append({x.id: x.tokens for x in ours(loaded, shuffled, sampling)})
        same = sum(all(each[r.id] == found[0][r.id] for each in found) for r in asked)
        what = f"answers the same in batches of 1, 8, 32 and shuffled, at {temperature}"
        yield Row(what, [same], f"of {len(asked)}", at_least=len(asked))


def lock(folder: Path, samples: int, runs: int, seed: int) -> Iterator[Row]:
    loaded = load.load(folder, float32=True)
    branches = format_lock.branches(loaded.tokenizer, FORMAT.spellings)
    prompts = [request.prompt for request in requests(loaded, 1, 1)]
    temperature, length = 1.2, 1 + max(len(branch.tokens) for branch in branches)
    sampling = generate.Sampling(temperature, seed=seed)

    def curves(grid: list[float]) -> Any:
        return format_lock.format_lock(
            loaded.model, branches, prompts, temperatures=grid, samplings=[sampling]
        )[0]

    inside, exact = 0, curves([temperature])
    opened, squares = [], 0.0
    for index, (prompt, locked) in enumerate(zip(prompts, exact, strict=True)):
        asked = [generate.Request(f"{index}#{n}", prompt, length) for n in range(samples)]
        texts = [answer.text for answer in ours(loaded, asked, sampling, 256)]
        opened.append(sum(any(t.startswith(s) for s in FORMAT.spellings.values()) for t in texts) / samples)
        low, high = wilson(opened[-1], samples, Z99)
        inside += bool(low <= locked.total[0] <= high)
        variance = locked.total[0] * (1 - locked.total[0]) / samples
        squares += (opened[-1] - locked.total[0]) ** 2 / variance if variance > 1e-9 else 0.0
        print(f"\r{index + 1} of {len(prompts)} prompts", end="", file=sys.stderr)
    print(file=sys.stderr)
    mean = statistics.fmean(lock.total[0] for lock in exact)
    print(f"exact {mean:.4f}, sampled {statistics.fmean(opened):.4f} at temperature {temperature}")
    print(f"squared deviations in standard errors: {squares:.1f} (expected: one an uncertain prompt)")
    what = f"exact lock inside the 99 % interval of {samples:,} samples at {temperature}, prompts"
    yield Row(what, [inside], f"of {len(prompts)}", at_least=26)
    grid = [0.02 * step for step in range(1, 101)]
    one, hundred = [], []
    for _ in range(runs):
        for times, temperatures in ((one, [0.7]), (hundred, grid)):
            clock = time.process_time()
            curves(temperatures)
            times.append(time.process_time() - clock)
    yield Row(
        "the lock at 100 temperatures against one, CPU time",
        hundred,
        "s",
        one,
        "the same at one",
        at_most=1.3,
    )


def mutated(seed: int, count: int) -> Iterator[str]:
    """Outputs like a model's, with characters deleted, doubled, swapped, replaced and spliced."""
    rng = random.Random(seed)
    codes = [
        'r = git_status(path="src")',
        "while True: pass",
        "import os\nos.system('touch punie-was-here')",
        "open('punie-was-here', 'w').write('x')",
        "x = [0] * 10**12",
        "read_file(path='a'); 1/0",
        "def f(): return f()\nf()",
        "print(__import__('socket').create_connection(('127.0.0.1', 9)))",
    ]
    quoted = [json.dumps({"name": "execute_code", "arguments": {"code": code}}) for code in codes]
    bases = [wrap(code) for code in codes] + [f"<tool_call>\n{each}\n</tool_call>" for each in quoted]
    bases += ["I would call git_status(path='src').", "<think>\nhm\n</think>\n\n" + bases[0], bases[0] * 2]
    odd = ["<tool_call>", "</tool_call>", "<function=", "</parameter>", "<think>", "{", "}", '"', "\\ud800"]
    odd += ["\0", "\u202e", "\x1b[2J", "é", "\U0001f600", "\n" * 50, "((((" * 200, "9" * 5000]
    for _ in range(count):
        text = rng.choice(bases)
        for _ in range(rng.randint(1, 6)):
            at, to = sorted(rng.randrange(len(text) + 1) for _ in range(2))
            piece = rng.choice((rng.choice(odd), text[at:to], chr(rng.randrange(32, 1000)), ""))
            text = (text[:at] + piece + text[to if rng.random() < 0.5 else at :])[:20_000]
        yield text


WATCHED = {"exec", "compile", "open", "os.system", "os.exec", "os.posix_spawn", "socket.connect"}
WATCHED |= {"subprocess.Popen"}


def audited() -> Callable[[], Counter[str]]:
    """Count from now on what this process executes, opens or connects to."""
    seen: Counter[str] = Counter()
    sys.addaudithook(lambda event, _: seen.update([event]) if event in WATCHED else None)
    return lambda: seen


def mutations(count: int) -> Iterator[Row]:
    taxonomy: Counter[str] = Counter()
    raised: Counter[str] = Counter()
    with Sandbox(Limits(duration=0.1)) as sandbox, contextlib.chdir(tempfile.mkdtemp()):
        for text in mutated(1, 300):  # what is imported when it is first needed is imported now
            record.scored(FORMAT, SUITE[0], text, truncated=False, sandbox=sandbox)
        events = audited()
        clock = time.perf_counter()
        for index, text in enumerate(mutated(0, count)):
            try:
                found = record.scored(
                    FORMAT, SUITE[index % 27], text, truncated=index % 2 == 0, sandbox=sandbox
                )
                json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
                taxonomy[found["taxonomy"]] += 1
            except Exception as error:
                raised[f"{type(error).__name__}: {error}"[:100]] += 1
        seconds = time.perf_counter() - clock
        outside = dict(events()), [path.name for path in Path.cwd().iterdir()]
    print(f"{count:,} mutated outputs in {seconds:.0f} s: {dict(raised) or 'no exception'}")
    print(f"executed, opened or connected to by this process: {outside[0] or 'nothing'}; files: {outside[1]}")
    yield Row(f"exceptions of parser and scorers, {count:,} mutated outputs", [raised.total()], at_most=0)
    found = sum(outside[0].values()) + len(outside[1])
    yield Row("of them executed, opened or written outside the sandbox", [found], at_most=0)
    print(tabulate(taxonomy.most_common(), ["what became of them", "outputs"], "github"))


def limits() -> Iterator[Row]:
    snippets = {
        "endless loop": "while True: pass",
        "endless loop of calls": "while True: read_file(path='a')",
        "memory bomb": "x = [0]\nwhile True: x = x + x",
        "long text": "x = 'a'\nwhile True: x += x",
        "large power": "x = 9**9**9",
        "endless recursion": "def f(): return f()\nf()",
        "endless output": "while True: print('a' * 1000)",
        "file": "open('/etc/passwd').read()",
        "network": "import socket\nsocket.create_connection(('127.0.0.1', 9))",
        "process": "import subprocess\nsubprocess.run(['id'])",
        HARMLESS: "import re\nre.match('(a+)+$', 'a' * 40 + 'b')",
    }
    rows = []
    with Sandbox() as sandbox:
        for name, code in snippets.items():
            clock = time.perf_counter()
            outcome = sandbox.run(code).outcome
            rows.append((name, outcome, time.perf_counter() - clock))
            if sandbox.run("read_file(path='a')").outcome != "ok":
                raise SystemExit(f"the sandbox is of no use after: {name}")
    print(tabulate(rows, ["code", "ends as", "seconds"], "github", floatfmt=".2f"))
    rows = [row for row in rows if row[0] != HARMLESS]
    ended = sum(outcome in ("limit hit", "runtime error") for _, outcome, _ in rows)
    yield Row(
        "loops, bombs, files, network: limit hit or runtime error",
        [ended],
        f"of {len(rows)}",
        at_least=len(rows),
    )
    yield Row("the same: the longest until it ended", [max(seconds for *_, seconds in rows)], "s", at_most=2)


def measure(parts: Sequence[str], quick: bool, seed: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        folder = fine_tuned(work) if {"speed", "order", "lock"} & set(parts) else work
        if "speed" in parts:
            yield speed("tiny, fine-tuned", folder, work, repeats=8, max_tokens=192, runs=3, aim=5)
        if "large" in parts:
            model = models.write(work / "generated", "--width", 1024, "--layers", 9, "--float32")
            name, repeats = "generated, 113 M, 16 tokens", 2 if quick else 8
            yield speed(name, model, work, repeats=repeats, max_tokens=16, runs=3, aim=3)
        if "order" in parts:
            yield from order(folder)
        if "lock" in parts:
            yield from lock(folder, 400 if quick else 4000, 3 if quick else 5, seed)
    if "mutations" in parts:
        yield from mutations(5_000 if quick else 100_000)
    if "limits" in parts:
        yield from limits()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join((*PARTS, "plot")))
    parser.add_argument(
        "--quick", action="store_true", help="fewer answers of the large model, samples and mutations"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the lock's samples (default: %(default)s)")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - {*PARTS, "plot"}:
        parser.error(f"no part: {', '.join(sorted(unknown))}")
    if "plot" in arguments.parts:
        with tempfile.TemporaryDirectory() as scratch:
            plot(Path(scratch))
    if arguments.parts != ["plot"]:
        report(measure(arguments.parts or PARTS, arguments.quick, arguments.seed))


if __name__ == "__main__":
    main()
