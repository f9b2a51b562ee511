"""The literals of one way to write tool calls: learned from a template, and all that the parser needs.

Templates agree on little: ``<tool_call>{"name": …}</tool_call>``, ``[TOOL_CALLS]name[ARGS]{…}``,
``<function=name><parameter=key>value</parameter>``, ``[name(key='value')]``. All of them are literals around
a name and its arguments. So known calls are rendered, the literals are what stands around them
(:mod:`punie.formats.learning`), and the same literals are the parser (:mod:`punie.formats.reading`): what the
template writes can be read back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from punie.formats import Call
from punie.formats.tools import Tool

Holder = Literal["object", "json", "tagged", "python", "quoted"]
"""How a call holds its arguments: ``object``, in the JSON object that holds the name; ``json``, in a JSON
object after the name; ``tagged``, each between literals; ``python``, as keyword arguments; ``quoted``, in an
object of Gemma's, whose strings stand between ``<|"|>``."""

CONTENT, CALL_ID = "zqcontentqz", "zqid12345"
"""Texts that the rendering of a plain response and of a call hold, to be found again."""
NAME, ARGUMENTS = "zqnameqz", {"zqfirstqz": "zqonevalueqz", "zqsecondqz": "zqtwovalueqz"}
PROBE = Call(NAME, ARGUMENTS)
PROBE_TOOL = Tool(
    NAME,
    "A tool.",
    {
        "type": "object",
        "properties": {name: {"type": "string", "description": "A value."} for name in ARGUMENTS},
        "required": list(ARGUMENTS),
    },
)
"""The call that is rendered, and its tool."""


@dataclass(frozen=True)
class Spelling:
    """The literals of one way to write calls."""

    holder: Holder
    """How a call holds its arguments."""
    section: str = ""
    """What stands once before all calls; empty if nothing does."""
    open: str = ""
    """What stands before each call."""
    name_end: str = ""
    """What follows a name that stands by itself, up to the arguments."""
    close: str = ""
    """What follows each call."""
    section_close: str = ""
    """What stands once after all calls."""
    keys: tuple[str, str] = ("name", "arguments")
    """Keys of name and arguments in an object; both empty where the name is the only key."""
    argument: tuple[str, str, str, str] = ("", "", "", "")
    """Of a tagged argument: what stands before its key; what follows it, as a beginning and an end with
    anything between them; what follows its value. A ``{key}`` in them is the key again."""
    canonical: str = ""
    """What a response with a call begins with, as far as it is the same for every call."""
    lead: str = ""
    """What the template writes before the calls: a thought that it closes or leaves empty."""
    by_template: bool = True
    """Whether the chat template writes the calls; otherwise they are part of the content."""

    @property
    def mark(self) -> str:
        """The text that shows that a call follows; empty where a call is ordinary JSON."""
        return next(iter((self.section.strip() or self.open.strip()).split()), "")

    def openings(self) -> dict[str, str]:
        """The ways in which a response may open a call, by name; none is the beginning of another."""
        if not self.canonical.strip():
            return {}
        texts = {"canonical": self.lead + self.canonical}
        texts["no line break"] = self.lead + self.canonical.replace("\n", "")
        texts["without a thought"] = self.canonical
        kept: dict[str, str] = {}
        for name, text in texts.items():
            if not any(text.startswith(other) or other.startswith(text) for other in kept.values()):
                kept[name] = text
        return kept

    def render(self, calls: Sequence[Call]) -> str:
        """Calls as text, for a template that writes none: of the holders ``object`` and ``python``."""
        if self.holder == "python":
            listed = ", ".join(
                f"{call.tool}({', '.join(f'{name}={value!r}' for name, value in call.arguments.items())})"
                for call in calls
            )
            return f"{self.open}{listed}{self.close}"
        name, arguments = self.keys
        return "\n".join(
            self.open
            + json.dumps({name: c.tool, arguments: dict(c.arguments)}, ensure_ascii=False)
            + self.close
            for c in calls
        )


HERMES = Spelling(
    "object",
    open="<tool_call>\n",
    close="\n</tool_call>",
    canonical='<tool_call>\n{"name": "',
    by_template=False,
)
"""What most models without a spelling of their own are taught."""
PYTHONIC = Spelling(
    "python",
    open="<|tool_call_start|>[",
    close="]<|tool_call_end|>",
    canonical="<|tool_call_start|>[",
    by_template=False,
)
"""LFM2's, whose template renders tools and leaves the calls to the content."""


def common_prefix(one: str, other: str) -> str:
    """The longest text with which both begin."""
    same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    return min(one, other, key=len) if same is None else one[:same]
