"""The embedded training data: requests to the tools of the registry and the code that answers them.

A row is a function of the seed, the split, its kind and the draws before it; nothing else is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import cycle
from pathlib import Path

from punie.embedded.code import chain, condition, loop, outcome, step
from punie.embedded.data_card import card
from punie.embedded.phrasings import Split, Task, asked, draw_task, framed
from punie.embedded.talk import draw_direct, draw_lookalike
from punie.embedded.values import Values, draws
from punie.formats.code_mode import system_prompt, wrap
from punie.formats.tools import TOOLS
from punie.util.errors import DataError
from punie.util.files import write_lines, write_text

Message = dict[str, str]
Row = dict[str, list[Message]]
"""``{"messages": [{"role": ..., "content": ...}, ...]}``; the last message is the assistant's."""

DEFAULT_MIX: Mapping[str, float] = {
    "single": 0.60,
    "multi_step": 0.18,
    "multi_turn": 0.10,
    "direct": 0.06,
    "lookalike": 0.06,
}
"""Share of each kind of row: one call; code of several steps; a conversation with a tool's answer in it;
a question that needs no tool; a request that only looks like a tool's."""

JOINTS: dict[Split, tuple[tuple[str, str, str], ...]] = {
    "train": (
        *(("", ", ", " and "), ("", ", ", " and then "), ("", ", ", " and after that ")),
        *(("first ", ", then ", ", then "), ("", ", then ", ", then ")),
        *(("two or more things: ", "; ", "; "), ("", "; also ", "; also ")),
    ),
    "valid": (("in this order: ", " > ", " > "), ("start to ", ", go on to ", ", end with: ")),
}
"""What stands before, between and before the last of several orders."""

_IFS: dict[Split, tuple[str, ...]] = {
    "train": ("{a}, and if that works {b}", "{a}; if it succeeds, {b}", "if you can {a}, then also {b}"),
    "valid": ("{a} and, provided that went well, {b}",),
}
_ATTEMPTS = 1000


def generate(
    *, seed: int, train_rows: int = 1159, valid_rows: int = 123, mix: Mapping[str, float] = DEFAULT_MIX
) -> tuple[list[Row], list[Row]]:
    """Training and validation rows that share no phrasing and hold no duplicate.

    Args:
        seed: Decides every draw.
        train_rows: Rows to train on.
        valid_rows: Rows to validate on.
        mix: Relative share of each kind of row; see DEFAULT_MIX.

    Raises:
        DataError: A kind is unknown, a share is negative, or so many rows are asked for that no new one
            can be found.
    """
    unknown = sorted(set(mix) - set(DEFAULT_MIX))
    usable = all(0 <= share < math.inf for share in mix.values()) and sum(mix.values()) > 0
    if unknown or not usable:
        raise DataError(
            "The mix of rows cannot be used.",
            where="data.mix",
            found=dict(mix),
            expected=f"shares of at least 0, not all 0, for some of {', '.join(DEFAULT_MIX)}",
        )
    seen: set[str] = set()
    return _rows("train", seed, train_rows, mix, seen), _rows("valid", seed, valid_rows, mix, seen)


def write(
    folder: Path,
    *,
    seed: int,
    train_rows: int = 1159,
    valid_rows: int = 123,
    mix: Mapping[str, float] = DEFAULT_MIX,
    tokenizer: Path | None = None,
) -> None:
    """Generate the rows and put train.jsonl, valid.jsonl and the data card README.md into a folder.

    Args:
        folder: Made if it is missing; files of these names are replaced, each in one step.
        seed: As for ``generate``; so are train_rows, valid_rows and mix.
        tokenizer: A ``tokenizer.json`` to measure lengths with, or None for characters only.
    """
    train, valid = generate(seed=seed, train_rows=train_rows, valid_rows=valid_rows, mix=mix)
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in (("train", train), ("valid", valid)):
        write_lines(folder / f"{split}.jsonl", rows)
    write_text(folder / "README.md", card(train, valid, seed=seed, mix=mix, tokenizer=tokenizer))


def _rows(split: Split, seed: int, count: int, mix: Mapping[str, float], seen: set[str]) -> list[Row]:
    rng = draws(seed, split)
    builder = _Builder(split, Values(rng))
    rows = []
    for kind in _kinds(count, mix):
        for _ in range(_ATTEMPTS):
            messages = builder.build(kind)
            if (prompt := messages[1]["content"].casefold()) not in seen:
                seen.add(prompt)
                rows.append({"messages": messages})
                break
        else:
            raise DataError(
                f"No new row of kind {kind} was found in {_ATTEMPTS} draws.",
                where=f"data.mix.{kind}",
                found=f"{len(rows)} of {count} rows for {split}",
                next_step="Ask for fewer rows, or lower the share of this kind.",
            )
    rng.shuffle(rows)
    return rows


def _kinds(count: int, mix: Mapping[str, float]) -> list[str]:
    """One kind a row, the shares met as exactly as whole rows allow (largest remainders)."""
    total = sum(mix.values())
    exact = {kind: count * share / total for kind, share in mix.items()}
    number = {kind: int(share) for kind, share in exact.items()}
    by_remainder = sorted(exact, key=lambda kind: number[kind] - exact[kind])
    for kind in by_remainder[: count - sum(number.values())]:
        number[kind] += 1
    return [kind for kind in mix for _ in range(number[kind])]


class _Builder:
    """Builds the messages of rows of one split."""

    def __init__(self, split: Split, values: Values) -> None:
        self.split, self.values, self.rng = split, values, values.rng
        # Every tool in turn, so that no family is rare by chance.
        self.tools: Iterator[str] = cycle(self.rng.sample(list(TOOLS), len(TOOLS)))

    def build(self, kind: str) -> list[Message]:
        system: Message = {"role": "system", "content": system_prompt()}
        return [system, *getattr(self, f"_{kind}")()]

    def _single(self) -> list[Message]:
        task = draw_task(next(self.tools), self.split, self.values)
        return self._turn(task)

    def _multi_step(self) -> list[Message]:
        kind = self.rng.random()
        if kind < 0.2:
            first, second = self._orders(2)
            text = self.rng.choice(_IFS[self.split]).format(a=first.text, b=second.text)
            code = condition(first, second)
        elif kind < 0.35:
            text, code = self._loop()
        else:
            tasks = self._orders(self.rng.choice((2, 2, 3, 3, 4)))
            start, comma, last = self.rng.choice(JOINTS[self.split])
            text = start + comma.join(task.text for task in tasks[:-1]) + last + tasks[-1].text
            code = chain(tasks)
        return exchange(framed(text, self.split, self.rng), wrap(code))

    def _loop(self) -> tuple[str, str]:
        """One check over several paths."""
        checks = [name for name, tool in TOOLS.items() if tool.returns in ("CheckResult", "TestResult")]
        task = draw_task(self.rng.choice(checks), self.split, self.values, order=True)
        path = str(*task.arguments.values())
        paths = [path, *(self.values.file() for _ in range(self.rng.randint(1, 2)))]
        return task.text.replace(path, f"{', '.join(paths[:-1])} and {paths[-1]}"), loop(task, paths)

    def _multi_turn(self) -> list[Message]:
        """A call, what it printed, and then the answer in prose, or also the next request and its code."""
        task = draw_task(next(self.tools), self.split, self.values)
        printed, told = outcome(task, self.rng)
        response = f"<tool_response>\n{printed}\n</tool_response>"
        messages = [*self._turn(task), *exchange(response, told)]
        if self.rng.random() < 0.4:
            messages += self._turn(draw_task(next(self.tools), self.split, self.values))
        return messages

    def _direct(self) -> list[Message]:
        return exchange(*draw_direct(self.split, self.rng))

    def _lookalike(self) -> list[Message]:
        return exchange(*draw_lookalike(self.split, self.values))

    def _orders(self, count: int) -> list[Task]:
        names = self.rng.sample(list(TOOLS), count)
        return [draw_task(name, self.split, self.values, order=True) for name in names]

    def _turn(self, task: Task) -> list[Message]:
        return exchange(asked(task, self.split, self.rng), wrap(step(task)))


def exchange(request: str, answer: str) -> list[Message]:
    """A user's turn and the assistant's."""
    return [{"role": "user", "content": request}, {"role": "assistant", "content": answer}]
