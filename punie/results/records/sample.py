"""samples.jsonl: a response to an item of the suite, with its scores."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from punie.results.records.base import Record, Share, require_scores


class Call(Record):
    """A tool call: one that was made, or one that the suite expects."""

    tool: str
    arguments: dict[str, Any]


class Block(Record):
    """A tool-call block found in a response."""

    name: str | None
    problem: str | None


class Scored(Record):
    """What one scorer says of a response."""

    value: Share
    reason: str


class Sample(Record):
    """A line of samples.jsonl: one response to one item of the suite, with its scores.

    A response that is missing has a reason in ``missing`` and no scores.
    """

    model_config = ConfigDict(extra="allow")  # a record scored again keeps what it does not know

    id: str
    """The suite item's."""
    repeat: Annotated[int, Field(ge=0)]
    category: str
    prompt: str
    prompt_sha256: str
    prompt_tokens: Annotated[int, Field(ge=0)]
    expect: list[Call]
    match: Literal["any", "all"]
    missing: str | None
    """Why there is no response; None if there is one."""
    output: str | None
    tokens: list[Annotated[int, Field(ge=0)]] | None = None
    output_tokens: int | None = None
    logprobs: list[float] | None = None
    finish_reason: str | None = None
    seconds: float | None = None
    wrapper: bool = False
    """The response holds a tool-call marker."""
    opening: str | None = None
    blocks: list[Block] = []
    calls: list[Call] = []
    """The calls that were made, in order."""
    execution: str | None = None
    """How the code ended; None without code."""
    scores: dict[str, Scored] = {}
    taxonomy: str = ""

    @model_validator(mode="after")
    def _is_scored(self) -> Sample:
        if self.missing is None:
            absent = {
                "output",
                "finish_reason",
                "wrapper",
                "calls",
                "scores",
                "taxonomy",
            } - self.model_fields_set
            if absent or self.output is None or self.finish_reason is None:
                raise ValueError(
                    f"a response without {', '.join(sorted(absent)) or 'output or finish_reason'}"
                )
            require_scores(self.scores)
        return self

    @property
    def answered(self) -> bool:
        """There is a response."""
        return self.missing is None

    def plain(self) -> dict[str, Any]:
        """The record as it is written: JSON values, fields that were not set left out."""
        return self.model_dump(mode="json", exclude_unset=True)
