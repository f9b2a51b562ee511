"""The check of a data folder: faults of each example, overlaps, system prompts and lengths."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tabulate import tabulate

from punie.data.load import NEXT_STEP, check_row, read_row
from punie.data.overlap import KINDS, Overlap, Request, find_overlaps
from punie.data.rows import Check, Finding
from punie.data.similar import normal
from punie.util import jsonl
from punie.util.errors import DataError

SHOWN = 20
"""Findings of a kind, overlaps of a relation and system prompts that are listed; the rest are counted."""


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


def check(
    path: Path,
    checks: Check,
    *,
    suites: Mapping[str, Mapping[str, str]] | None = None,
    name: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Check every example of a folder's ``*.jsonl`` files, or of one file.

    Args:
        path: The folder, or a file.
        checks: How examples are rendered and checked.
        suites: Prompts that must not be in the data: by suite, by the item's id.
        name: What the folder is called in the report; default its path.
        progress: Called now and then with the bytes read so far and in all.

    Raises:
        DataError: There is no such folder, or nothing in it to check.
    """
    files = sorted(path.glob("*.jsonl"), key=_by_split) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        found = "no *.jsonl file in it" if path.is_dir() else "no such file or folder"
        raise DataError("There is nothing to check.", where=path, found=found, next_step=NEXT_STEP)
    done, total = 0, sum(file.stat().st_size for file in files)
    report = Report(name or str(path), "characters" if checks.chat is None else "tokens")
    requests: list[Request] = []
    for file in files:
        lengths = report.lengths[file.name] = []
        try:
            for line in jsonl.read(file):
                done += line.size
                if line.number % 500 == 0:
                    progress(done, total)
                where = f"{f'{name}/{file.name}' if name else file}:{line.number}"
                problems = [line.problem] if line.problem else list(check_row(line.value, where))
                if problems:
                    kind = "cannot be read" if line.problem else "not an example"
                    report.findings += [_unusable(kind, each) for each in problems]
                    continue
                row = read_row(line.value, line.number)
                checked = checks.row(row, where)
                report.findings += checked.findings
                report.unused.update(row.unused)
                lengths.append(checked.length)
                roles = tuple(each["role"] for each in row.messages)
                texts = [each["content"] for each in row.messages]
                report.system_prompts[texts[0] if roles and roles[0] in ("system", "developer") else ""] += 1
                if "user" in roles:
                    text = normal(texts[roles.index("user")])
                    requests.append(Request(file.name, where, text, hash((roles, *map(str, row.messages)))))
        except OSError as error:
            raise DataError("The file cannot be read.", where=file, found=error.strerror) from error
        if not lengths:
            what = "The file has no example that can be used."
            report.findings.append(Finding("no rows", what, str(file)))
    progress(total, total)
    for name, prompts in (suites or {}).items():
        requests += [Request(name, f"{name}[{key}]", normal(prompt)) for key, prompt in prompts.items()]
    report.overlaps = find_overlaps(requests)
    return report


def _by_split(file: Path) -> tuple[int, str]:
    """Training data first, because an overlap is shown at the later file."""
    order = ("train", "valid", "test")
    return (order.index(file.stem) if file.stem in order else len(order), file.name)


def _unusable(kind: str, problem: DataError) -> Finding:
    """Why a line is no example."""
    found = f" Found: {problem.found}." if problem.found else ""
    return Finding(kind, problem.what + found, problem.where or "")
