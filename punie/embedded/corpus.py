"""The corpus that the embedded models are pretrained on: requests, answered in prose or with plain calls.

The assistant knows the tools by name and never uses the tool-call format.
"""

from __future__ import annotations

import re

from punie.embedded.code import call, chain
from punie.embedded.conversations import Conversations, Message, exchange
from punie.embedded.phrasings import Task, asked, framed, lines
from punie.embedded.values import Values, draws
from punie.formats.code_mode import system_prompt, wrap

MIX = {"single": 0.64, "several": 0.14, "multi_turn": 0.05, "direct": 0.05, "lookalike": 0.08, "echo": 0.04}
"""Share of each kind of conversation."""

MARKS = tuple(re.findall(r"</?\w+[=>]", wrap("")))
"""The tokens of the tool-call format. The corpus mentions them one by one and in random order. The embeddings
of tokens that were never seen would all have the same direction, and as the embeddings are tied and not
adapted, fine-tuning could only tell them apart by rounding."""

SYSTEM_PROMPTS = (system_prompt(), system_prompt(), system_prompt(), "You are Punie.", "")
"""What a conversation starts with, each drawn as often; the empty one stands for no system turn."""

_SMALL = re.compile(r" (?:the|of|for|me|a|an|all|is|are|in|to|that|at|any|do|does|it|please|you)(?= )")
"""Words that a hurried person leaves out."""


class Corpus(Conversations):
    """An endless stream of conversations.

    Args:
        seed: Decides every conversation.
        novel: Share of made-up names, 0 to 1.
    """

    follow_up = 0.5

    def __init__(self, seed: int, novel: float) -> None:
        super().__init__("train", Values(draws("corpus", seed), novel))

    def conversation(self) -> list[Message]:
        """The next conversation, as chat messages."""
        messages = self.draw(self.rng.choices(list(MIX), list(MIX.values()))[0])
        system = self.rng.choice(SYSTEM_PROMPTS)
        return [{"role": "system", "content": system}, *messages] if system else messages

    def respond(self, task: Task) -> str:
        """A plain call."""
        return call(task)

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
