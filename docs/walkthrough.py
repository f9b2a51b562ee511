"""Make a walkthrough's page and its pictures again, by running every command in it.

python docs/walkthrough.py                   docs/walkthrough.md: about ten minutes on two cores
python docs/walkthrough.py real              docs/walkthrough-real.md, on SmolLM2: about two hours
python docs/walkthrough.py --folder DIR      keeps what it ran in DIR, and goes on from what is there
python docs/walkthrough.py --quick           short trainings, printed and not written: to work on the text

The text is the page's .jinja file. What it shows of a command is what the command printed, cut to the
paragraphs that it names, with what differs from one run to the next (times, commits, ids) written as such.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from punie.results.pages.plots import standalone

DOCS = Path(__file__).resolve().parent
PAGES = {"tiny": "walkthrough", "real": "walkthrough-real"}
"""By name, the page's file in docs/, without its suffix."""
QUICK = " lora.iters=12 lora.save_every=12 eval.max_tokens=8"
_VARYING = (
    (r"\d{8}T\d{6}-[0-9a-f]{6}", "<id>"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\+00:00)?", "<time>"),
    (r"(?<=commit `)[0-9a-f]{40}|(?<=commit)( +)[0-9a-f]{40}(, with changes)?", r"\1<commit>"),
    (r"Linux-\S+|macOS-\S+", "<system>"),
)
_SECONDS = (
    r"^(\d{3} .* finished .* )(\d+\.\d)$",
    r"^((?:preflight|base|train|quantize|evaluate|likelihood|report)(?: +\d+){3} +)(\d+\.\d)",
    r"^([✓▸] \w+ +\w+ +\w{12})( +\d+\.\d)(?= s )",
)
"""Where they stand in a table, after what is left as it is."""


@dataclass
class Walk:
    """The walk through one working folder: what its commands printed, and the pictures taken on the way."""

    folder: Path
    quick: bool = False
    pictures: dict[str, str] = field(default_factory=dict)

    def console(self, command: str, *, only: Sequence[str] = (), code: int = 0) -> str:
        """Run a command, or recall what it printed; returns both as a fenced block.

        Args:
            command: As a reader types it, in bash.
            only: How the paragraphs begin that are shown, each title with what follows it; all by default.
            code: The exit code it must end with.
        """
        paragraphs = normal(self._run(command, code).strip("\n")).split("\n\n")
        for start in only:
            if not any(each.startswith(start) for each in paragraphs):
                raise SystemExit(f"{command}\nprints no paragraph that begins with {start}")
        kept = [index for index, each in enumerate(paragraphs) if each.startswith(tuple(only) or "")]
        kept = sorted({*kept, *(index + 1 for index in kept if only and "\n" not in paragraphs[index])})
        shown, last = [], -1
        for index in (each for each in kept if each < len(paragraphs)):
            shown += ["…"] * (index > last + 1) + [paragraphs[index]]
            last = index
        shown += ["…"] * (last < len(paragraphs) - 1)
        lines = "\n\n".join(shown).split("\n")
        return "\n".join(["```console", f"$ {command}", *(line.rstrip() for line in lines), "```"])

    def picture(self, name: str, pattern: str, label: str, words: str) -> str:
        """Take a picture from a page that punie made; returns the Markdown that shows it.

        Args:
            name: Of the file in docs/, without its suffix.
            pattern: Of the page in the working folder; the last that matches, of the newest run.
            label: The picture's ``aria-label``.
            words: What stands below it.
        """
        page = max(self.folder.glob(pattern)).read_text("utf-8")
        (svg,) = [each for each in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if f'"{label}"' in each]
        self.pictures[f"{name}.svg"] = standalone(svg)
        return f"![{label}]({name}.svg)\n\n*{words}*"

    def read(self, pattern: str) -> Any:
        """A JSON file of the working folder; the last that matches, of the newest run."""
        return json.loads(max(self.folder.glob(pattern)).read_text("utf-8"))

    def read_all(self, pattern: str) -> list[Any]:
        """The JSON files of the working folder that match, in the order of their paths."""
        return [json.loads(path.read_text("utf-8")) for path in sorted(self.folder.glob(pattern))]

    def _run(self, command: str, code: int) -> str:
        kept = self.folder / "transcript.json"
        transcript = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
        if command not in transcript:
            print(f"$ {command}", file=sys.stderr)
            trains = "model=" in command
            done = subprocess.run(
                ["bash", "-c", command + QUICK * (self.quick and trains)],
                cwd=self.folder,
                env=_environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if done.returncode != code:
                raise SystemExit(f"{command}\nends with {done.returncode}, not {code}:\n{done.stdout}")
            transcript[command] = done.stdout.replace(QUICK, "")
            kept.write_text(json.dumps(transcript, indent=1, ensure_ascii=False), "utf-8")
        return transcript[command]


def normal(text: str) -> str:
    """Output without what differs from one run to the next; tables keep their columns."""
    for pattern, words in _VARYING:
        text = re.sub(pattern, words, text)
    for pattern in _SECONDS:
        text = re.sub(pattern, _hide, text, flags=re.MULTILINE)
    return re.sub(r"(?<=time: about )[\d.]+ \w+", "…", text)


def _hide(seconds: re.Match[str]) -> str:
    number = seconds[2]
    return seconds[1] + ("…".rjust if number.startswith(" ") else "…".ljust)(len(number))


def _environment() -> dict[str, str]:
    """Of a reader's shell with punie's environment active."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ours = {"PATH": path, "PYTHONPATH": str(DOCS.parent), "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}
    return {**{key: value for key, value in os.environ.items() if not key.startswith("PUNIE_")}, **ours}


def render(page: str, walk: Walk) -> str:
    """A page of ``PAGES``, with every command in it run."""
    environment = jinja2.Environment(  # noqa: S701 - Markdown, of our own
        loader=jinja2.FileSystemLoader(DOCS),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = environment.get_template(f"{PAGES[page]}.md.jinja")
    return template.render(console=walk.console, picture=walk.picture, read=walk.read, read_all=walk.read_all)


def main() -> None:
    """Write the page and its pictures, or print the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", nargs="?", choices=PAGES, default="tiny", help="default: %(default)s")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="default: a temporary one")
    parser.add_argument("--quick", action="store_true", help="short trainings; print, write nothing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        walk = Walk(folder, quick=arguments.quick)
        page = render(arguments.page, walk)
    if arguments.quick:
        print(page)
        return
    written = {f"{PAGES[arguments.page]}.md": page, **walk.pictures}
    for name, text in written.items():
        (DOCS / name).write_text(text, "utf-8")
    print(f"wrote {', '.join(written)}")


if __name__ == "__main__":
    main()
