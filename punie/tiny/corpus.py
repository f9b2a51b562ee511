"""What an embedded model reads before anyone fine-tunes it: requests of the registry's world, answered by
an assistant that knows the tools by name and writes prose or plain calls, never the wrapper.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

from punie.datasets.code import call, chain, outcome
from punie.datasets.generate import JOINTS, Message
from punie.datasets.phrasings import Task, draw_task, framed
from punie.datasets.talk import draw_direct, draw_lookalike
from punie.datasets.values import Values, draws
from punie.tools.registry import TOOLS, system_prompt

MIX = {"single": 0.58, "several": 0.14, "dialogue": 0.05, "direct": 0.05, "lookalike": 0.08, "echo": 0.10}
"""Share of each kind of conversation. An echo repeats made-up names, which is how copying is learned soon."""

SYSTEM_PROMPTS = (system_prompt(), system_prompt(), system_prompt(), "You are Punie.", "")
"""What a conversation starts with, each as often as the others; the empty one is left out."""

_SINGLE = (
    "I would call {tool} on {subject}.",
    "{tool} is the tool for {subject}.",
    "For {subject} I can use {tool}.",
    "Let me use {tool} for {subject}.",
)
_BARE = ("I would call {tool}.", "{tool} is the tool for this.", "I can use {tool}.", "Let me use {tool}.")


class Corpus:
    """An endless stream of conversations that are a function of the seed.

    Args:
        seed: Decides every draw.
        novel: Share of made-up names, 0 to 1.
    """

    def __init__(self, seed: int, novel: float) -> None:
        self.rng = draws("corpus", seed)
        self.values = Values(self.rng, novel)
        self.tools: Iterator[str] = cycle(self.rng.sample(list(TOOLS), len(TOOLS)))

    def conversation(self) -> list[Message]:
        """The next conversation, as chat messages."""
        kind = self.rng.choices(list(MIX), list(MIX.values()))[0]
        messages: list[Message] = getattr(self, f"_{kind}")()
        system = self.rng.choice(SYSTEM_PROMPTS)
        return [{"role": "system", "content": system}, *messages] if system else messages

    def _single(self) -> list[Message]:
        task = draw_task(next(self.tools), "train", self.values)
        text = framed(task.text, "train", self.rng) if task.is_order else task.text
        return _exchange(text, self._answer(task))

    def _answer(self, task: Task) -> str:
        """A plain call for most orders, prose for most questions."""
        if self.rng.random() < (0.85 if task.is_order else 0.3):
            return chain([task]) if self.rng.random() < 0.2 else call(task.tool, task.arguments)
        subject = next(iter(task.arguments.values()), None)
        if isinstance(subject, str):
            return self.rng.choice(_SINGLE).format(tool=task.tool, subject=subject)
        return self.rng.choice(_BARE).format(tool=task.tool)

    def _several(self) -> list[Message]:
        names = self.rng.sample(list(TOOLS), self.rng.choice((2, 2, 3, 3, 4)))
        tasks = [draw_task(name, "train", self.values, order=True) for name in names]
        start, comma, last = self.rng.choice(JOINTS["train"])
        text = start + comma.join(task.text for task in tasks[:-1]) + last + tasks[-1].text
        if self.rng.random() < 0.8:
            answer = "\n".join(call(task.tool, task.arguments) for task in tasks)
        else:
            answer = f"I would call {', then '.join(names)}."
        return _exchange(framed(text, "train", self.rng), answer)

    def _dialogue(self) -> list[Message]:
        task = draw_task(next(self.tools), "train", self.values)
        text = framed(task.text, "train", self.rng) if task.is_order else task.text
        printed, told = outcome(task, self.rng)
        return [
            *_exchange(text, call(task.tool, task.arguments)),
            *_exchange(f"<tool_response>\n{printed}\n</tool_response>", told),
            *(self._single() if self.rng.random() < 0.5 else ()),
        ]

    def _echo(self) -> list[Message]:
        names = Values(self.rng, novel=0.8)
        draw = (names.file, names.symbol, names.symbol, lambda: str(self.rng.randint(1, 99)))
        text = " ".join(self.rng.choice(draw)() for _ in range(self.rng.randint(2, 7)))
        return _exchange(f"repeat: {text}", text)

    def _direct(self) -> list[Message]:
        return _exchange(*draw_direct("train", self.rng))

    def _lookalike(self) -> list[Message]:
        return _exchange(*draw_lookalike("train", self.values))


def _exchange(request: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": request}, {"role": "assistant", "content": answer}]
