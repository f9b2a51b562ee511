"""A look over a folder of chat-format JSONL: faults row by row, overlaps, system prompts and lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tabulate import tabulate

from punie.data.load import NEXT_STEP, Row, check_messages
from punie.data.overlap import KINDS, Overlap, Request, find_overlaps
from punie.data.rows import Finding, Tokenize, check_row
from punie.data.similar import normal
from punie.formats.prompts import Message
from punie.util import jsonl
from punie.util.errors import DataError

SHOWN = 20
"""Findings of a kind, overlaps of a relation and system prompts listed; the rest are counted."""


@dataclass(frozen=True)
class Report:
    """What was found in a folder."""

    path: Path
    """The folder or file."""
    lengths: Mapping[str, Sequence[int]]
    """By file, the length of every readable row, in ``unit``."""
    unit: str
    """``tokens``, or ``characters`` where there was no tokenizer."""
    findings: Sequence[Finding]
    """Faults of rows, in the order of the files."""
    overlaps: Sequence[Overlap]
    """At most one per row and relation, the strongest; neither errors nor warnings."""
    system_prompts: Mapping[str, int]
    """Rows by the text of their system turn; "" for rows without one."""

    @property
    def errors(self) -> list[Finding]:
        """The findings that make a row useless."""
        return [each for each in self.findings if each.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """The findings that training can live with."""
        return [each for each in self.findings if each.severity == "warning"]

    def render(self) -> str:
        """The report as text for a terminal."""
        counts = {"rows": sum(map(len, self.lengths.values())), "errors": len(self.errors)}
        counts |= {"warnings": len(self.warnings), "overlaps": len(self.overlaps)}
        title = f"{self.path}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items())
        sections = [title, self._files()]
        sections += [self._findings()] if self.findings else []
        sections += [self._overlaps()] if self.overlaps else []
        return "\n\n".join([*sections, self._prompts(), self._histogram()]) + "\n"

    def _files(self) -> str:
        table = [
            [name, len(lengths), median(lengths or [0]), max(lengths, default=0)]
            for name, lengths in self.lengths.items()
        ]
        return tabulate(
            table, ["file", "rows", f"median {self.unit}", "longest"], intfmt=",", floatfmt=",.0f"
        )

    def _findings(self) -> str:
        kinds = Counter((each.severity, each.kind) for each in self.findings)
        lines = [
            tabulate([[*kind, count] for kind, count in sorted(kinds.items())], ["", "problem", "count"]),
            "",
        ]
        for kind in sorted(kinds):
            members = [each for each in self.findings if (each.severity, each.kind) == kind]
            lines += [f"{each.severity:8}{each.where}  {each.what}" for each in members[:SHOWN]]
            lines += _more(members)
        return "\n".join(lines)

    def _overlaps(self) -> str:
        counts = Counter((each.relation, each.kind) for each in self.overlaps)
        relations = dict.fromkeys(each.relation for each in self.overlaps)
        table = [[relation, *(counts[relation, kind] for kind in KINDS)] for relation in relations]
        lines = [tabulate(table, ["overlap", *KINDS], intfmt=","), ""]
        for relation in relations:
            members = [each for each in self.overlaps if each.relation == relation]
            for each in members[:SHOWN]:
                what = each.kind if each.kind in KINDS[:2] else f"{each.kind}, {each.similarity:.2f}"
                lines.append(f"{each.later.place} ~ {each.earlier.place}  {what}")
            lines += _more(members)
        return "\n".join(lines)

    def _prompts(self) -> str:
        table = [
            [count, jsonl.excerpt(prompt, 80) or "(none)"]
            for prompt, count in Counter(self.system_prompts).most_common(SHOWN)
        ]
        rest = len(self.system_prompts) - len(table)
        return tabulate(
            [*table, *([["", f"… and {rest:,} more"]] if rest else [])], ["rows", "system prompt"]
        )

    def _histogram(self) -> str:
        # A bin ends at a power of two.
        bins = {
            name: Counter((length - 1).bit_length() for length in each) for name, each in self.lengths.items()
        }
        used = sorted(set().union(*bins.values()))
        table = [[f"≤ {2**power:,}", *(bins[name][power] for name in bins)] for power in used]
        return tabulate(table, [self.unit, *bins], intfmt=",", colalign=("right",) * (1 + len(bins)))


def _more(members: Sequence[object]) -> list[str]:
    return [f"        … and {len(members) - SHOWN:,} more"] if len(members) > SHOWN else []


def check(
    path: Path,
    *,
    tokenize: Tokenize | None = None,
    max_seq_length: int = 2048,
    suites: Mapping[str, Mapping[str, str]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Check every row of a folder's ``*.jsonl`` files, or of one file.

    Args:
        path: The folder, or a file.
        tokenize: The model's way from messages to tokens; None leaves out what needs tokens.
        max_seq_length: Longest row, in tokens.
        suites: Prompts that must not be in the data: by suite, by the item's id.
        progress: Called now and then with the bytes read so far and in all.

    Raises:
        DataError: There is no such folder, or nothing in it to check.
    """
    files = sorted(path.glob("*.jsonl"), key=_by_split) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        found = "no *.jsonl file in it" if path.is_dir() else "no such file or folder"
        raise DataError("There is nothing to check.", where=path, found=found, next_step=NEXT_STEP)
    total = sum(file.stat().st_size for file in files)
    scan = _Scan(tokenize, max_seq_length)
    done = 0
    for file in files:
        scan.begin(file)
        try:
            for line in jsonl.read(file):
                scan.add(line)
                done += line.size
                if progress and line.number % 500 == 0:
                    progress(done, total)
        except OSError as error:
            raise DataError("The file cannot be read.", where=file, found=error.strerror) from error
        if not scan.lengths[file.name]:
            scan.findings.append(Finding("no rows", "The file has no row that can be used.", str(file)))
    if progress:
        progress(total, total)
    items = [
        Request(name, f"{name}[{key}]", normal(prompt))
        for name, prompts in (suites or {}).items()
        for key, prompt in prompts.items()
    ]
    overlaps = find_overlaps([*scan.requests, *items])
    unit = "characters" if tokenize is None else "tokens"
    return Report(path, scan.lengths, unit, scan.findings, overlaps, dict(scan.prompts))


def _by_split(file: Path) -> tuple[int, str]:
    """Training data first: it is the others that repeat it."""
    order = ("train", "valid", "test")
    return (order.index(file.stem) if file.stem in order else len(order), file.name)


class _Scan:
    """What is gathered in one pass over all rows."""

    def __init__(self, tokenize: Tokenize | None, max_seq_length: int) -> None:
        self.findings: list[Finding] = []
        self.lengths: dict[str, list[int]] = {}
        self.prompts: Counter[str] = Counter()
        self.requests: list[Request] = []
        self._tokenize = self._measuring(tokenize) if tokenize else None
        self._max_seq_length = max_seq_length
        self._length = 0

    def begin(self, file: Path) -> None:
        self._file = file
        self.lengths[file.name] = []

    def add(self, line: jsonl.Line) -> None:
        where = f"{self._file}:{line.number}"
        if line.problem:
            self.findings.append(_as_finding("cannot be read", line.problem))
            return
        problems = list(check_messages(line.value, where))
        if problems:
            self.findings += [_as_finding("not a conversation", each) for each in problems]
            return
        row = Row(tuple(line.value["messages"]), line.number)
        texts = [each["content"] for each in row.messages]
        self._length = sum(map(len, texts))
        self.findings += check_row(row, self._tokenize, self._max_seq_length, where=where)
        self.lengths[self._file.name].append(self._length)
        roles = tuple(each["role"] for each in row.messages)
        self.prompts[texts[0] if roles[0] == "system" else ""] += 1
        if "user" in roles:
            text = normal(texts[roles.index("user")])
            self.requests.append(Request(self._file.name, where, text, hash((roles, *texts))))

    def _measuring(self, tokenize: Tokenize) -> Tokenize:
        """The same tokenizer, which leaves each row's length for the histogram."""

        def measured(messages: Sequence[Message]) -> tuple[list[int], int]:
            tokens, prompt = tokenize(messages)
            self._length = len(tokens)
            return tokens, prompt

        return measured


def _as_finding(kind: str, problem: DataError) -> Finding:
    found = f" Found: {problem.found}." if problem.found else ""
    return Finding(kind, problem.what + found, problem.where or "")
