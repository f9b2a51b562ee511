"""What every record has in common: strict types, and a schema number where it is a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from punie.evals.scores import ALWAYS

Share = Annotated[float, Field(ge=0, le=1)]
"""A score or a rate, from 0 to 1."""
Ends = Annotated[tuple[float, float], Field(strict=False)]
"""Lower and upper end of a 95 % interval."""
Digest = str
"""sha256 as 64 hex digits."""


class Record(BaseModel):
    """A value read from, or written to, a JSON file. Unknown fields are ignored, wrong types refused."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)


class File(Record):
    """A record that is a file of its own."""

    VERSION: ClassVar[int] = 1
    KIND: ClassVar[str]
    """What the file is, in words, for errors."""
    version: int = Field(alias="schema")


def require_scores(found: Mapping[str, Any]) -> None:
    """Refuse scores without those that every record has."""
    if absent := [name for name in ALWAYS if name not in found]:
        raise ValueError(f"scores without {' and '.join(absent)}")
