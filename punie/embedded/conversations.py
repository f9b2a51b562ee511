"""Conversations by kind: the base of the training data and of the embedded models' corpus."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

from punie.embedded.code import outcome, step
from punie.embedded.phrasings import Split, Task, asked, draw_task, expand, form_of, framed, lines
from punie.embedded.values import Values
from punie.formats.code_mode import wrap
from punie.formats.tools import TOOLS

Message = dict[str, str]
"""``{"role": ..., "content": ...}``"""


def exchange(request: str, response: str) -> list[Message]:
    """A user's turn and the assistant's."""
    return [{"role": "user", "content": request}, {"role": "assistant", "content": response}]


class Conversations:
    """Draws conversations of one split; a subclass adds kinds, and changes what the assistant says.

    Args:
        split: Whose phrasings to use.
        values: Every choice is drawn from its generator.
    """

    follow_up = 0.4
    """Share of ``multi_turn`` conversations that go on with another request."""

    def __init__(self, split: Split, values: Values) -> None:
        self.split, self.values, self.rng = split, values, values.rng
        # Tools take turns, so that none of them is rare by chance.
        self._tools: Iterator[str] = cycle(self.rng.sample(list(TOOLS), len(TOOLS)))

    def draw(self, kind: str) -> list[Message]:
        """A conversation of a kind, without system prompt."""
        return getattr(self, f"_{kind}")()

    def respond(self, task: Task) -> str:
        """The response to a request for one tool."""
        return wrap(step(task))

    def task(self) -> Task:
        """A request for the next tool."""
        return draw_task(next(self._tools), self.split, self.values)

    def orders(self, count: int) -> list[Task]:
        """Orders for several tools."""
        names = self.rng.sample(list(TOOLS), count)
        return [draw_task(name, self.split, self.values, order=True) for name in names]

    def joined(self) -> tuple[str, list[Task]]:
        """A request that gives two to four orders, without a frame, and the orders."""
        tasks = self.orders(self.rng.choice((2, 2, 3, 3, 4)))
        start, comma, last, _ = self.rng.choice(lines("joints", self.split)).split("{}")
        return start + comma.join(task.text for task in tasks[:-1]) + last + tasks[-1].text, tasks

    def _single(self) -> list[Message]:
        """One request for one tool."""
        return self._turn(self.task())

    def _turn(self, task: Task) -> list[Message]:
        return exchange(asked(task, self.split, self.rng), self.respond(task))

    def _multi_turn(self) -> list[Message]:
        """A call, its result, the response in prose, and sometimes another request."""
        task = self.task()
        printed, told = outcome(task, self.rng)
        result = f"<tool_response>\n{printed}\n</tool_response>"
        messages = [*self._turn(task), *exchange(result, told)]
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
