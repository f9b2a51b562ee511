"""A suite to select checkpoints by: every tool, in the phrasings of the validation split.

It is drawn from the patterns that are validated on, with values of its own: like the evaluated suites it
shares no phrasing with training, and unlike them it may be looked at as often as one likes.
"""

from __future__ import annotations

from punie.embedded.phrasings import asked, draw_task
from punie.embedded.values import Values, draws
from punie.formats.tools import TOOLS


def selection_suite(*, seed: int = 0, per_tool: int = 2) -> list[dict[str, object]]:
    """Items in the form of a suite's file, ``per_tool`` for each tool; a function of its arguments.

    Args:
        seed: Decides every draw.
        per_tool: Items of each tool.
    """
    rng = draws(seed, "selection")
    values = Values(rng)
    items: list[dict[str, object]] = []
    seen: set[str] = set()
    for name, tool in TOOLS.items():
        for number in range(1, per_tool + 1):
            task = draw_task(name, "valid", values)
            while (prompt := asked(task, "valid", rng)).casefold() in seen:
                task = draw_task(name, "valid", values)
            seen.add(prompt.casefold())
            items.append(
                {
                    "id": f"{name}-{number}",
                    "category": tool.family,
                    "prompt": prompt,
                    "expect": [{"tool": name, "arguments": dict(task.arguments)}],
                    "match": "any",
                    "max_tokens": 192,
                }
            )
    return items
