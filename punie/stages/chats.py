"""The chat of a run: the format, the tools and the template's options by which conversations are rendered."""

from __future__ import annotations

import datetime
import functools
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from punie import formats
from punie.config.schema import ModelConfig, ToolsConfig
from punie.formats import Format
from punie.formats.chat import Chat
from punie.formats.tools import TOOLS, Tool, load_tools
from punie.stages.contract import Contents
from punie.stages.inputs import SPLITS, data_folder, resource_or_path, suite_path
from punie.store.keys import content_digests
from punie.util.errors import PunieError

_DECLARED = (b'"tools"', b'"functions"')
"""Keys by which examples declare tools."""
_MARKS = (*_DECLARED, b'"tool_calls"', b'"function_call"')
"""Keys by which examples and suites say that calls are not written as text."""
_REREAD = (b'"weight":', b'"train":', b'"training":', b'"loss":', b'"chat_template_kwargs":', b'"system":')
"""Keys that earlier versions left unread; what was made of examples with them is not reused."""
_NO_CALL = (b'"expect": []', b'"expect":[]')
"""How items of a suite say that no call is expected."""
_BLOCK = 2**20
"""Bytes of examples that are searched at once."""
_ASKED_DATE = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")


class Settings(Protocol):
    """What a stage's slice must hold to render conversations."""

    @property
    def model(self) -> ModelConfig:
        """For the template's options."""

    @property
    def data(self) -> Any:
        """For the path, by which ``format=auto`` decides."""

    @property
    def format(self) -> str:
        """How calls are written."""

    @property
    def tools(self) -> ToolsConfig:
        """What may be called."""


def name(settings: Settings) -> str:
    """The format's name; ``auto`` is native if the examples hold tools or calls, or tools are given."""
    if settings.format != formats.AUTO:
        return settings.format
    return decided([data_folder(settings.data) / SPLITS[0]], settings.tools.path)


def decided(files: Iterable[Path], tools_path: str | None) -> str:
    """What ``format=auto`` is for files of examples."""
    return "native" if tools_path or any(_mentions(file, _MARKS) for file in files) else "code_mode"


def declares(settings: Settings, files: Iterable[Path]) -> bool:
    """Whether the run, or any example of some files, declares tools."""
    return bool(settings.tools.path) or any(_mentions(file, _DECLARED) for file in files)


def _mentions(path: Path, marks: tuple[bytes, ...]) -> bool:
    stat = path.stat()
    return _search(path, marks, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=64)
def _search(path: Path, marks: tuple[bytes, ...], _time: int, _size: int) -> bool:
    with path.open("rb") as file:
        blocks = (b"".join(lines) for lines in iter(lambda: file.readlines(_BLOCK), []))
        return any(mark in block for block in blocks for mark in marks)


def contents(settings: Settings) -> Contents:
    """Digests of the tools; the format if it is not code_mode; a mark if examples are read otherwise now."""
    found: Contents = {} if name(settings) == "code_mode" else {"format": name(settings)}
    folder = data_folder(settings.data)
    if any(_mentions(folder / split, _REREAD) for split in SPLITS):
        found["rows"] = 2
    if settings.tools.path:
        path = resource_or_path(settings.tools.path)
        found["tools"] = next(iter(content_digests([path]).values()))
    return found


def judged(settings: Settings, suite: str) -> Contents:
    """A mark if items of a suite expect no call: earlier versions took code that fails for no call."""
    coded = name(settings) == "code_mode"
    return {"no_call": 2} if coded and _mentions(suite_path(suite), _NO_CALL) else {}


def tools(settings: Settings) -> tuple[Tool, ...]:
    """The tools of examples and items without their own: a file's, or in code_mode the embedded ones.

    Raises:
        DataError: The file cannot be read.
        Problems: What is wrong with each tool.
    """
    if settings.tools.path:
        return tuple(load_tools(resource_or_path(settings.tools.path)))
    return tuple(TOOLS.values()) if name(settings) == "code_mode" else ()


def system_prompt(settings: Settings, given: str | None) -> str:
    """The system prompt of the evaluation: ``eval.system_prompt``, else the format's own."""
    return formats.system_prompt(name(settings), tools(settings)) if given is None else given


def options(settings: Settings) -> dict[str, Any]:
    """The template's options as plain values: ``model.template_args``, and ``template_date``."""
    return {**settings.model.template_args, "template_date": settings.model.template_date}


def decisive_options(settings: Settings) -> Contents:
    """The template's options that are not the defaults, for a key."""
    model, plain = settings.model, ModelConfig()
    names = ("template_args", "template_date")
    return {f"model.{key}": value for key in names if (value := getattr(model, key)) != getattr(plain, key)}


def build(tokenizer: Any, form: str, given: Mapping[str, Any]) -> Chat:
    """The chat of a format by its name, with the options that :func:`options` gave.

    Raises:
        PunieError: The model's template cannot write calls in this format.
    """
    passed = {key: value for key, value in given.items() if key != "template_date"}
    source = getattr(tokenizer, "chat_template", None)
    if isinstance(source, str) and "strftime_now" in source:
        # transformers gives a template no functions but its own, so the date is written into its text.
        date = _date(given["template_date"])
        dated = _ASKED_DATE.sub(lambda asked: json.dumps(date.strftime(asked[2])), source)
        if re.search(r"strftime_now\s*\(", dated):
            raise PunieError(
                "The chat template asks for the date in a way that punie cannot fix to model.template_date.",
                where="chat template",
                next_step="write the date into the template",
            )
        passed["chat_template"] = dated
    try:
        found: Format = formats.build(form, tokenizer, passed)
    except Exception as error:  # the template is a program of the model's, and may raise anything
        raise PunieError(
            f"The model's chat template does not work with format={form}.",
            where="chat template",
            found=(str(error).splitlines() or [type(error).__name__])[0],
            next_step="format=prompted writes tools and calls as text, for any template",
        ) from error
    return Chat(tokenizer, found, passed)


def _date(given: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(given)
    except ValueError as error:
        raise PunieError(
            "The template's date is none.",
            where="model.template_date",
            found=given,
            expected="YYYY-MM-DD",
        ) from error


def chat(settings: Settings, tokenizer: Any) -> Chat:
    """The chat of a run.

    Raises:
        PunieError: The model's template cannot write calls in the run's format.
    """
    return build(tokenizer, name(settings), options(settings))
