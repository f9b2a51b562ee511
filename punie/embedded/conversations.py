"""Conversations by kind: the training data, and the corpus that the embedded models learn from."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

from punie.embedded.phrasings import (
    Split,
    Task,
    Values,
    asked,
    draw_task,
    draws,
    expand,
    form_of,
    framed,
    lines,
    sections,
)
from punie.formats.code_mode import system_prompt, wrap
from punie.formats.tools import REQUIRED, TOOLS

Message = dict[str, Any]
"""``{"role": ..., "content": ...}``, and in the native style ``tool_calls``."""

MIX = {"single": 0.64, "several": 0.14, "multi_turn": 0.05, "direct": 0.05, "lookalike": 0.08, "echo": 0.04}
"""Share of each kind of conversation in the corpus."""
MARKS = tuple(re.findall(r"</?\w+[=>]", wrap("")))
"""The tokens of the tool-call format. The corpus mentions them one by one and in random order. The embeddings
of tokens that were never seen would all have the same direction, and as the embeddings are tied and not
adapted, fine-tuning could only tell them apart by rounding."""
_SYSTEM_PROMPTS = (system_prompt(), system_prompt(), system_prompt(), "You are Punie.", "")
"""What a conversation of the corpus starts with, each drawn as often; the empty one is no system turn."""
_SMALL = re.compile(r" (?:the|of|for|me|a|an|all|is|are|in|to|that|at|any|do|does|it|please|you)(?= )")
"""Words that a hurried person leaves out."""

_RESULTS = {
    name: dict(line.split(": ", 1) for line in lines) for name, lines in sections("results.txt").items()
}


def _literal(value: object) -> str:
    """A value as Python source, strings in double quotes."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | list) else repr(value)


def call(task: Task) -> str:
    """A call as an expression: required arguments by position, others by name where they are given."""
    shown = []
    for parameter in TOOLS[task.tool].parameters:
        if parameter.name in task.arguments:
            value = _literal(task.arguments[parameter.name])
            shown.append(value if parameter.default is REQUIRED else f"{parameter.name}={value}")
    return f"{task.tool}({', '.join(shown)})"


def _fields(tool: str) -> str:
    return ", ".join(f"result.{name}" for name in _RESULTS[TOOLS[tool].returns]["fields"].split())


def step(task: Task) -> str:
    """Two lines of code: the call, and a print of the fields of its result."""
    return f"result = {call(task)}\nprint({_fields(task.tool)})"


def chain(tasks: Sequence[Task]) -> str:
    """Code that does one task after the other."""
    return "\n".join(map(step, tasks))


def condition(first: Task, second: Task) -> str:
    """Code that does the second task only if the first succeeds."""
    body = step(second).replace("\n", "\n    ")
    return f"result = {call(first)}\nif result.success:\n    {body}"


def loop(tool: str, paths: Sequence[str]) -> str:
    """Code that calls a tool, whose only argument is a path, for several paths."""
    return (
        f"for path in {_literal(list(paths))}:\n    result = {tool}(path)\n    print(path, {_fields(tool)})"
    )


def outcome(task: Task, rng: random.Random) -> tuple[str, str]:
    """What ``step(task)`` might print, and the sentence that tells a person."""
    subject = str(task.arguments.get("symbol") or next(iter(task.arguments.values()), "the project"))
    line, count = rng.randint(2, 99), rng.randint(1, 9)
    result = TOOLS[task.tool].returns
    words = _RESULTS[result].get("words", "").split("; ")
    if result == "CheckResult" and rng.random() < 0.5:
        return "[]", f"No errors in {subject}."
    if result == "TestResult":
        failed = rng.choice((0, 0, rng.randint(1, 4)))
        return f"{count} {failed}", f"{count} passed, {failed} failed."
    if result == "SymbolList":
        names = rng.sample(words, 2)
        return repr(names), f"Two symbols: {names[0]} and {names[1]}."
    drawn = {
        "text": rng.choice(words) if words != [""] else "",
        "subject": subject,
        "line": line,
        "count": count,
    }
    printed, told = (_RESULTS[result][name].format(**drawn) for name in ("printed", "told"))
    return printed.replace("\\n", "\n"), told


def exchange(request: str, response: str) -> list[Message]:
    """A user's turn and the assistant's."""
    return [{"role": "user", "content": request}, {"role": "assistant", "content": response}]


class Conversations:
    """Draws conversations of one split; a subclass adds kinds, and changes what the assistant says.

    Every choice is drawn from the generator of ``values``.
    """

    follow_up = 0.4
    """Share of ``multi_turn`` conversations that go on with another request."""

    def __init__(self, split: Split, values: Values) -> None:
        self.split, self.values, self.rng = split, values, values.rng
        self.named: list[str] = []
        """The tools that the last conversation is about."""
        # Tools take turns, so that none of them is rare by chance.
        self._tools: Iterator[str] = cycle(self.rng.sample(list(TOOLS), len(TOOLS)))

    def draw(self, kind: str) -> list[Message]:
        """A conversation of a kind, without system prompt."""
        self.named = []
        return getattr(self, f"_{kind}")()

    def respond(self, *tasks: Task) -> Message:
        """The response to a request for one tool, or for several."""
        return {"role": "assistant", "content": wrap(chain(tasks))}

    def returned(self, printed: str) -> Message:
        """The turn with what a call has returned."""
        return {"role": "user", "content": f"<tool_response>\n{printed}\n</tool_response>"}

    def task(self) -> Task:
        """A request for the next tool."""
        return self.order(next(self._tools), order=False)

    def order(self, tool: str, *, order: bool = True) -> Task:
        """A request for a tool, by default an order."""
        self.named.append(tool)
        return draw_task(tool, self.split, self.values, order=order)

    def orders(self, count: int) -> list[Task]:
        """Orders for several tools."""
        return [self.order(name) for name in self.rng.sample(list(TOOLS), count)]

    def joined(self) -> tuple[str, list[Task]]:
        """A request that gives two to four orders, without a frame, and the orders."""
        tasks = self.orders(self.rng.choice((2, 2, 3, 3, 4)))
        start, comma, last, _ = self.rng.choice(lines("joints", self.split)).split("{}")
        return start + comma.join(task.text for task in tasks[:-1]) + last + tasks[-1].text, tasks

    def _single(self) -> list[Message]:
        """One request for one tool."""
        return self._turn(self.task())

    def _turn(self, task: Task) -> list[Message]:
        return [{"role": "user", "content": asked(task, self.split, self.rng)}, self.respond(task)]

    def _multi_turn(self) -> list[Message]:
        """A call, its result, the response in prose, and sometimes another request."""
        task = self.task()
        printed, told = outcome(task, self.rng)
        messages = [*self._turn(task), self.returned(printed), {"role": "assistant", "content": told}]
        return messages + (self._single() if self.rng.random() < self.follow_up else [])

    def _direct(self) -> list[Message]:
        """A question of general knowledge."""
        pairs = self.rng.sample(lines("concepts", "train"), 2)
        (concept, first), (other, second) = (pair.split(": ") for pair in pairs)
        alone = self.rng.random() < 0.5
        text = self._line("about" if alone else "compare").format(concept=concept, other=other)
        return exchange(self._framed(text), first if alone else f"{first} {second}")

    def _lookalike(self) -> list[Message]:
        """A question about a tool, an order not to use one, or an order that leaves out what it is about."""
        kind, tool = self.rng.random(), TOOLS[self.rng.choice(list(TOOLS))]
        self.named.append(tool.name)
        if kind < 0.45:
            text = self._framed(self._line("tools").format(tool=tool.name))
            return exchange(text, f"{tool.description} Name a target and I will call it.")
        if kind < 0.8:
            order = draw_task(tool.name, self.split, self.values, order=True).text
            text = self._line("not now").format(order=order)
            return exchange(text[0].upper() + text[1:], "Understood, I will not do that.")
        order, response = self._line("too little").split(": ")
        return exchange(framed(order, self.split, self.rng), response)

    def _line(self, name: str) -> str:
        return self.rng.choice(expand(self.rng.choice(lines(name, self.split))))

    def _framed(self, text: str) -> str:
        return framed(text, self.split, self.rng, form_of(text))


class Corpus(Conversations):
    """An endless stream of conversations: requests, answered in prose or with plain calls.

    The assistant knows the tools by name and never uses the tool-call format. ``novel`` is the share of
    made-up names, 0 to 1.
    """

    follow_up = 0.5

    def __init__(self, seed: int, novel: float) -> None:
        super().__init__("train", Values(draws("corpus", seed), novel))

    def conversation(self) -> list[Message]:
        """The next conversation, as chat messages."""
        messages = self.draw(self.rng.choices(list(MIX), list(MIX.values()))[0])
        system = self.rng.choice(_SYSTEM_PROMPTS)
        return [{"role": "system", "content": system}, *messages] if system else messages

    def respond(self, *tasks: Task) -> Message:
        """Plain calls."""
        return {"role": "assistant", "content": "\n".join(map(call, tasks))}

    def _single(self) -> list[Message]:
        task = self.task()
        return exchange(self._noisy(asked(task, "train", self.rng)), self._varied(task))

    def _noisy(self, text: str) -> str:
        """A request with small words left out, or with a sentence before or after. Names stay whole."""
        if self.rng.random() < 0.15:
            parts = text.split("`")
            parts[::2] = [
                _SMALL.sub(lambda word: word[0] if self.rng.random() < 0.5 else "", part)
                for part in parts[::2]
            ]
            text = "`".join(parts)
        if self.rng.random() < 0.12:
            text = f"{self.rng.choice(lines('before', 'train'))} {text}"
        if self.rng.random() < 0.12:
            text = f"{text}{'' if text[-1] in '.?' else '.'} {self.rng.choice(lines('after', 'train'))}"
        return text

    def _varied(self, task: Task) -> str:
        """Code or a plain call for most orders, prose for most questions."""
        if self.rng.random() < (0.3 if task.form == "sentence" else 0.85):
            return chain([task]) if self.rng.random() < 0.2 else call(task)
        subject = next(iter(task.arguments.values()), None)
        prose = "prose" if isinstance(subject, str) else "prose without subject"
        return self.rng.choice(lines(prose, "train")).format(tool=task.tool, subject=subject)

    def _several(self) -> list[Message]:
        """A request for several tools."""
        text, tasks = self.joined()
        if self.rng.random() < 0.8:
            answer = "\n".join(map(call, tasks))
        else:
            answer = f"I would call {', then '.join(task.tool for task in tasks)}."
        return exchange(framed(text, "train", self.rng), answer)

    def _echo(self) -> list[Message]:
        """Tokens of the tool-call format and letters from beyond ASCII, to be repeated."""
        said = [
            self.rng.choice(MARKS) if self.rng.random() < 0.7 else chr(self.rng.randint(0xA1, 0x17F))
            for _ in range(self.rng.randint(3, 8))
        ]
        return exchange(f"repeat: {' '.join(said)}", " ".join(said))
