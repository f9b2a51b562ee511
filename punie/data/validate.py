"""The check of a data folder: faults of each example, overlaps, system prompts and lengths."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median

from tabulate import tabulate

from punie.data.load import NEXT_STEP, check_row, read_row
from punie.data.overlap import KINDS, Overlap, Request, find_overlaps
from punie.data.rows import Check, Finding
from punie.data.similar import normal
from punie.util import jsonl
from punie.util.errors import DataError, PunieError

SHOWN = 20
"""Findings of a kind, overlaps of a relation and system prompts that are listed; the rest are counted."""
_CHUNK = 100
"""Lines that a process is given at a time."""
_MUCH = 8 * 2**20
"""Bytes of examples from which several processes share the work: each needs seconds to start."""
_MOST_WORKERS = 4
"""Each holds the tokenizer and its library."""


@dataclass
class Report:
    """What was found in a folder."""

    name: str
    """The folder or file, or the data set."""
    unit: str
    """Of lengths: ``tokens``, or ``characters`` where there is no tokenizer."""
    lengths: dict[str, list[int]] = field(default_factory=dict)
    """By file, the length of every readable example."""
    findings: list[Finding] = field(default_factory=list)
    """Faults of examples, in the order of the files."""
    overlaps: Sequence[Overlap] = ()
    """At most one per example and relation, the strongest; neither errors nor warnings."""
    unused: Counter[str] = field(default_factory=Counter)
    """Number of examples by the keys that nothing reads."""
    system_prompts: Counter[str] = field(default_factory=Counter)
    """Number of examples by the text of their system turn; "" for examples without one."""

    @property
    def errors(self) -> list[Finding]:
        """The findings that make an example useless."""
        return [each for each in self.findings if each.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """The findings that training can live with."""
        return [each for each in self.findings if each.severity == "warning"]

    def render(self) -> str:
        """The report as text for a terminal."""
        counts = {"rows": sum(map(len, self.lengths.values())), "errors": len(self.errors)}
        counts |= {"warnings": len(self.warnings), "overlaps": len(self.overlaps)}
        title = f"{self.name}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items())
        sections = [self._files(), self._findings(), self._unused(), self._overlaps()]
        sections += [self._prompts(), self._histogram()]
        return "\n\n".join([title, *filter(None, sections)]) + "\n"

    def _files(self) -> str:
        rows = [
            [name, len(each), median(each or [0]), max(each, default=0)]
            for name, each in self.lengths.items()
        ]
        headers = ["file", "rows", f"median {self.unit}", "longest"]
        return tabulate(rows, headers, intfmt=",", floatfmt=",.0f")

    def _findings(self) -> str:
        kinds: dict[tuple[str, str], list[str]] = defaultdict(list)
        for each in self.findings:
            kinds[each.severity, each.kind].append(f"{each.severity:8}{each.where}  {each.what}")
        groups = [kinds[kind] for kind in sorted(kinds)]
        rows = [[*kind, len(kinds[kind])] for kind in sorted(kinds)]
        return _section(tabulate(rows, ["", "problem", "count"]), groups)

    def _unused(self) -> str:
        rows = [[key, count] for key, count in self.unused.most_common()]
        return tabulate(rows, ["key that nothing reads", "rows"], intfmt=",") if rows else ""

    def _overlaps(self) -> str:
        counts = Counter((each.relation, each.kind) for each in self.overlaps)
        relations: dict[str, list[str]] = defaultdict(list)
        for each in self.overlaps:
            what = each.kind if each.kind in KINDS[:2] else f"{each.kind}, {each.similarity:.2f}"
            relations[each.relation].append(f"{each.later.place} ~ {each.earlier.place}  {what}")
        rows = [[relation, *(counts[relation, kind] for kind in KINDS)] for relation in relations]
        return _section(tabulate(rows, ["overlap", *KINDS], intfmt=","), relations.values())

    def _prompts(self) -> str:
        shown = self.system_prompts.most_common(SHOWN)
        rows = [[str(count), jsonl.excerpt(prompt, 80) or "(none)"] for prompt, count in shown]
        rest = len(self.system_prompts) - len(shown)
        rows += [["", f"… and {rest:,} more"]] if rest else []
        return tabulate(rows, ["rows", "system prompt"])

    def _histogram(self) -> str:
        bins = {
            name: Counter((length - 1).bit_length() for length in each) for name, each in self.lengths.items()
        }
        powers = sorted(set().union(*bins.values()))
        rows = [[f"≤ {2**power:,}", *(bins[name][power] for name in bins)] for power in powers]
        return tabulate(rows, [self.unit, *bins], intfmt=",", colalign=("right",) * (1 + len(bins)))


def _section(table: str, groups: Iterable[Sequence[str]]) -> str:
    """A table of counts and the first lines of each group; empty if there are no groups."""
    lines: list[str] = []
    for group in groups:
        lines += group[:SHOWN]
        lines += [f"        … and {len(group) - SHOWN:,} more"] if len(group) > SHOWN else []
    return "\n".join([table, "", *lines]) if lines else ""


@dataclass(frozen=True)
class _Examined:
    """What the check made of one line."""

    findings: Sequence[Finding]
    length: int | None = None
    """None for a line that is no example."""
    unused: tuple[str, ...] = ()
    system_prompt: str = ""
    request: Request | None = None
    """None for an example without a user turn."""


_Chunk = tuple[Sequence[jsonl.Line], str, str]
"""Lines, the name of their file, and the file's place for the findings."""


def check(
    path: Path,
    checks: Check,
    *,
    suites: Mapping[str, Mapping[str, str]] | None = None,
    name: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    workers: int | None = None,
) -> Report:
    """Check every example of a folder's ``*.jsonl`` files, or of one file.

    Args:
        path: The folder, or a file.
        checks: How examples are rendered and checked.
        suites: Prompts that must not be in the data: by suite, by the item's id.
        name: What the folder is called in the report; default its path.
        progress: Called now and then with the bytes read so far and in all.
        workers: Processes that share the work; default one for each core if there is much of it. The report
            is the same whatever their number.

    Raises:
        DataError: There is no such folder, or nothing in it to check.
        PunieError: One of the processes was killed.
    """
    files = sorted(path.glob("*.jsonl"), key=_by_split) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        found = "no *.jsonl file in it" if path.is_dir() else "no such file or folder"
        raise DataError("There is nothing to check.", where=path, found=found, next_step=NEXT_STEP)
    done, total = 0, sum(file.stat().st_size for file in files)
    report = Report(name or str(path), "characters" if checks.chat is None else "tokens")
    report.lengths = {file.name: [] for file in files}
    requests: list[Request] = []
    workers = workers or (min(os.cpu_count() or 1, _MOST_WORKERS) if total > _MUCH else 1)
    with _examiner(checks, workers) as examine:
        for (lines, file, _), examined in examine(_chunks(files, name)):
            for each in examined:
                report.findings += each.findings
                if each.length is not None:
                    report.lengths[file].append(each.length)
                    report.unused.update(each.unused)
                    report.system_prompts[each.system_prompt] += 1
                requests += [each.request] if each.request else []
            done += sum(line.size for line in lines)
            progress(done, total)
    empty = [str(file) for file in files if not report.lengths[file.name]]
    report.findings += [Finding("no rows", "The file has no example that can be used.", e) for e in empty]
    progress(total, total)
    for suite, prompts in (suites or {}).items():
        requests += [Request(suite, f"{suite}[{key}]", normal(prompt)) for key, prompt in prompts.items()]
    report.overlaps = find_overlaps(requests)
    return report


def _chunks(files: Sequence[Path], name: str | None) -> Iterator[_Chunk]:
    """The lines of all files, a hundred at a time.

    Raises:
        DataError: A file cannot be read.
    """
    for file in files:
        try:
            lines = jsonl.read(file)
            while chunk := list(islice(lines, _CHUNK)):
                yield chunk, file.name, f"{name}/{file.name}" if name else str(file)
        except OSError as error:
            raise DataError("The file cannot be read.", where=file, found=error.strerror) from error


@contextmanager
def _examiner(
    checks: Check, workers: int
) -> Generator[Callable[[Iterator[_Chunk]], Iterator[tuple[_Chunk, list[_Examined]]]]]:
    """A function that examines chunks in order, in this process or in several."""
    if workers < 2:
        yield lambda chunks: ((chunk, _examine(checks, chunk)) for chunk in chunks)
        return
    context = multiprocessing.get_context("spawn")  # a process that runs MLX must not be forked
    with ProcessPoolExecutor(workers, context, _start, (checks,)) as pool:

        def examine(chunks: Iterator[_Chunk]) -> Iterator[tuple[_Chunk, list[_Examined]]]:
            # A few chunks wait, so that no process does, and memory holds these only.
            waiting: deque[tuple[_Chunk, Future[list[_Examined]]]] = deque()
            for chunk in chunks:
                waiting.append((chunk, pool.submit(_examine_here, chunk)))
                if len(waiting) > 4 * workers:
                    first, result = waiting.popleft()
                    yield first, result.result()
            yield from ((first, result.result()) for first, result in waiting)

        try:
            yield examine
        except BrokenProcessPool as error:
            raise PunieError(
                "A process that checked examples was killed.",
                found="memory ran out, if nobody killed it",
                next_step="check the files one by one: punie data check FILE",
            ) from error


_here: list[Check] = []
"""In a worker process: how examples are checked there."""


def _start(checks: Check) -> None:
    _here.append(checks)


def _examine_here(chunk: _Chunk) -> list[_Examined]:
    return _examine(_here[0], chunk)


def _examine(checks: Check, chunk: _Chunk) -> list[_Examined]:
    lines, file, place = chunk
    return [_examined(checks, line, file, f"{place}:{line.number}") for line in lines]


def _examined(checks: Check, line: jsonl.Line, file: str, where: str) -> _Examined:
    problems = [line.problem] if line.problem else list(check_row(line.value, where))
    if problems:
        kind = "cannot be read" if line.problem else "not an example"
        return _Examined([_unusable(kind, each) for each in problems])
    row = read_row(line.value, line.number)
    checked = checks.row(row, where)
    roles = [each["role"] for each in row.messages]
    texts = [each["content"] for each in row.messages]
    return _Examined(
        checked.findings,
        checked.length,
        row.unused,
        texts[0] if roles and roles[0] in ("system", "developer") else "",
        Request(file, where, normal(texts[roles.index("user")]), _digest(row.messages))
        if "user" in roles
        else None,
    )


def _digest(value: object) -> str:
    """The same in every process, other than ``hash``."""
    return hashlib.sha256(str(value).encode(errors="replace")).hexdigest()


def _by_split(file: Path) -> tuple[int, str]:
    """Training data first, because an overlap is shown at the later file."""
    order = ("train", "valid", "test")
    return (order.index(file.stem) if file.stem in order else len(order), file.name)


def _unusable(kind: str, problem: DataError) -> Finding:
    """Why a line is no example."""
    found = f" Found: {problem.found}." if problem.found else ""
    return Finding(kind, problem.what + found, problem.where or "")
