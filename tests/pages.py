"""Follow a document: type its commands in their order, and look for what it shows below each.

python -m tests.pages docs/tutorial.md              in a temporary folder, at full length, as a reader would
python -m tests.pages docs/tutorial.md --in DIR     in this folder, which is kept

In a ```console block each line that begins with ``$`` is a command; what is shown below it must come out,
line by line, with ``…`` for anything. A comment above a block says otherwise:

<!-- exit: 3 -->            the block's last command ends with this code instead of 0
<!-- file: mine/eval.yaml --> the block is that file, which the reader writes
<!-- line: punie/evals/scores.py --> a line of that file; tests/integration/test_extending.py adds it
<!-- not run: a reason -->  not here, and why

A test gives each command that composes a config the overrides of ``SHORT``, and does not start a Python for
each. What is scored then is not what a page may show; a comment on a line of its own

<!-- in the tests its figures are free -->

lets every figure of the page stand for any figure.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from punie.util.paths import PACKAGE
from tests.processes import start

ROOT = PACKAGE.parent
SHORT = (
    "lora.iters=3 lora.save_every=3 lora.val_batches=1 quantize.fidelity_rows=0 "
    "eval.max_tokens=16 eval.lock.temperatures=[]"
)
_BLOCK = re.compile(r"(?:^<!-- ([\w ]+): (.+?) -->\n)?^(`{3,})(\w*)\n(.*?)^\3$", re.MULTILINE | re.DOTALL)
_COMPOSES = re.compile(r"^(python -m punie|punie (plan|prereg))( |$)")
_OURS = re.compile(r"^(?:python -m )?punie\b([^|&;#]*)(#.*)?$")
_REST = re.compile(r"(\s+[#|].*)?$")
_FREE = "<!-- in the tests its figures are free -->\n"
_FIGURE = re.compile(r"(?<![\w.])[+-]?\d[\d,]*(\.\d+)?(?!\w)")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    mark: str
    about: str
    kind: str
    text: str

    @property
    def runs(self) -> bool:
        """Whether its commands are for a test, too."""
        return self.kind == "console" and self.mark != "not run"

    def commands(self) -> Iterator[tuple[str, list[str], int]]:
        """Each command with the lines shown below it and the exit code it must have."""
        parts = re.split(r"^\$ ", self.text.replace("\\\n", ""), flags=re.MULTILINE)[1:]
        for number, part in enumerate(parts, 1):
            command, *shown = part.rstrip().split("\n")
            last = self.mark == "exit" and number == len(parts)
            yield command, shown, int(self.about) if last else 0


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    found = _BLOCK.finditer(page.read_text("utf-8"))
    return [Block(each[1] or "", each[2] or "", each[4], each[5]) for each in found]


def shortened(command: str) -> str:
    """The command with short trainings, if it is one that takes overrides."""
    if not _COMPOSES.match(command):
        return command
    return _REST.sub(lambda rest: f" {SHORT}{rest[0]}", command, count=1)


def lacking(shown: list[str], output: str, *, figures: bool = True) -> list[str]:
    """The shown lines that do not come out, in their order; … stands for anything, and spaces for spaces.

    Args:
        shown: The lines below a command.
        output: What the command printed.
        figures: Whether a figure stands for itself, or else for any figure.
    """
    lines = iter([_plain(line, figures) for line in output.splitlines()])
    patterns = {line: re.escape(_plain(line, figures)).replace("…", ".*") for line in shown}
    wanted = [line for line in shown if line.strip() not in ("", "…")]
    return [line for line in wanted if not any(re.fullmatch(patterns[line], each) for each in lines)]


def _plain(line: str, figures: bool) -> str:
    words = " ".join(line.split())
    return words if figures else _FIGURE.sub("0", words)


def follow(page: Path, folder: Path, *, short: bool) -> Iterator[tuple[str, str, str]]:
    """Do what a page says, in a folder.

    Args:
        page: The document.
        folder: Where its commands are typed; fresh, unless the page goes on from another.
        short: As a test does, and not at full length.

    Yields:
        Each command as it was run, what it printed, and what is wrong with that, or nothing.
    """
    exact = not (short and _FREE in page.read_text("utf-8"))
    for block in blocks(page):
        if block.mark == "file":
            (folder / block.about).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.about).write_text(block.text, "utf-8")
        elif block.runs:
            for command, shown, code in block.commands():
                command = shortened(command) if short else command
                ended, output = (_fork if short else _type)(command, folder)
                missed = lacking(shown, output, figures=exact)
                wrong = [f"ends with {ended}, not {code}"] if ended != code else []
                yield command, output, "\n".join(wrong + [f"not shown: {line}" for line in missed])


def _type(command: str, folder: Path) -> tuple[int, str]:
    """A command as bash takes it: its exit code, and what it printed."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=_environment(), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, timeout=7200,
    )  # fmt: skip
    return done.returncode, done.stdout


def _fork(command: str, folder: Path) -> tuple[int, str]:
    """The same, with punie in a fork of a warm process; bash still makes words of what is typed."""
    if not (ours := _OURS.match(command)):
        return _type(command, folder)
    words = _type(f"printf '%s\\0'{ours[1]}", folder)[1].split("\0")[:-1]
    done = start(*words, cwd=folder, env={"COLUMNS": "120"}, together=True).wait()
    return done.code, done.out


def _environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PUNIE_", "HYDRA_"))}
    return {**own, "PATH": path, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "COLUMNS": "120"}


def main() -> int:
    """Follow a page as a reader would; 1 if anything did not come out as shown."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.pages",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
    )
    parser.add_argument("page", type=Path)
    parser.add_argument("--in", dest="folder", type=Path, metavar="DIR", help="default: a temporary folder")
    parser.add_argument("--short", action="store_true", help="as the tests do")
    arguments = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        for command, output, wrong in follow(arguments.page, folder, short=arguments.short):
            print(f"$ {command}\n{output}", end="")
            print(f"  ({time.monotonic() - begun:.0f} s since the start)", flush=True)
            print(f"!! {wrong}\n" if wrong else "", flush=True)
            faults += bool(wrong)
    print(f"{faults} of the commands did not do what the page says" if faults else "as the page says")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
