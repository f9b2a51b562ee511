"""What an embedded model reads before anyone fine-tunes it: requests, answered in prose or plain calls.

The assistant knows the tools by name and never uses the wrapper.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle

from punie.embedded.code import call, chain, outcome
from punie.embedded.generate import JOINTS, Message, exchange
from punie.embedded.phrasings import Task, asked, draw_task, framed
from punie.embedded.talk import draw_direct, draw_lookalike
from punie.embedded.values import Values, draws
from punie.formats.code_mode import system_prompt, wrap
from punie.formats.tools import TOOLS

MIX = {"single": 0.64, "several": 0.14, "dialogue": 0.05, "direct": 0.05, "lookalike": 0.08, "echo": 0.04}
"""Share of each kind of conversation. An echo repeats marks that nothing else in the corpus holds."""

MARKS = tuple(re.findall(r"</?\w+[=>]", wrap("")))
"""The wrapper's own tokens. They are mentioned, one by one and in no order, and never used: a token that was
never seen shares its embedding's direction with every other such token, and as the embeddings are tied and
not adapted, fine-tuning could then only tell them apart by rounding."""

SYSTEM_PROMPTS = (system_prompt(), system_prompt(), system_prompt(), "You are Punie.", "")
"""What a conversation starts with, each as often as the others; the empty one is left out."""

_BEFORE = (
    *("I am new here.", "Quick question.", "The build is red.", "My editor crashed.", "I have a suspicion."),
    *("Good morning!", "I changed a few things.", "We ship tomorrow.", "One more thing.", "Hello again."),
    *("I am reviewing this.", "There was a bug report.", "This is confusing.", "As we said:", "Small task:"),
)
_AFTER = (
    *("Thanks!", "No rush.", "It is urgent.", "I will wait.", "Then we go on.", "That is all.", "Just that."),
    *("I am curious.", "Tell me what you find.", "I need it for a review.", "Nothing else.", "Do it now."),
)
_SMALL = re.compile(r" (?:the|of|for|me|a|an|all|is|are|in|to|that|at|any|do|does|it|please|you)(?= )")
"""Words that a hurried person leaves out."""

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
        return exchange(self._noisy(asked(task, "train", self.rng)), self._answer(task))

    def _noisy(self, text: str) -> str:
        """A request as it may come: with a word before or after, or in a hurry. Names in ticks stay whole."""
        if self.rng.random() < 0.15:
            parts = text.split("`")
            parts[::2] = [
                _SMALL.sub(lambda word: word[0] if self.rng.random() < 0.5 else "", part)
                for part in parts[::2]
            ]
            text = "`".join(parts)
        if self.rng.random() < 0.12:
            text = f"{self.rng.choice(_BEFORE)} {text}"
        if self.rng.random() < 0.12:
            text = f"{text}{'' if text[-1] in '.?' else '.'} {self.rng.choice(_AFTER)}"
        return text

    def _answer(self, task: Task) -> str:
        """A plain call for most orders, prose for most questions."""
        if self.rng.random() < (0.3 if task.form == "sentence" else 0.85):
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
        return exchange(framed(text, "train", self.rng), answer)

    def _dialogue(self) -> list[Message]:
        task = draw_task(next(self.tools), "train", self.values)
        printed, told = outcome(task, self.rng)
        return [
            *exchange(asked(task, "train", self.rng), call(task.tool, task.arguments)),
            *exchange(f"<tool_response>\n{printed}\n</tool_response>", told),
            *(self._single() if self.rng.random() < 0.5 else ()),
        ]

    def _echo(self) -> list[Message]:
        """Marks and letters from beyond ASCII, to be said again."""
        said = [
            self.rng.choice(MARKS) if self.rng.random() < 0.7 else chr(self.rng.randint(0xA1, 0x17F))
            for _ in range(self.rng.randint(3, 8))
        ]
        return exchange(f"repeat: {' '.join(said)}", " ".join(said))

    def _direct(self) -> list[Message]:
        return exchange(*draw_direct("train", self.rng))

    def _lookalike(self) -> list[Message]:
        return exchange(*draw_lookalike("train", self.values))
