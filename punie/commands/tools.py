"""Tools: check a file of function schemas before you train with it.

punie tools check tools.json     a table of the tools, and every fault of their schemas; exit code 1 on faults

The file is a JSON list in OpenAI's schema, each entry with or without {"type": "function"} around it:

  [{"type": "function", "function": {"name": "get_weather", "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]

Faults are types that JSON Schema does not have, required parameters that are not declared, and names that
occur twice. The types of BFCL's tools (dict, float, tuple) are read as JSON Schema's.
"""

from __future__ import annotations

import argparse

from tabulate import tabulate

from punie.formats.tools import REQUIRED, examine, file_text
from punie.stages.inputs import resource_or_path
from punie.util.errors import DataError, Problems
from punie.util.printable import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("action", choices=("check",))
    parser.add_argument("file", metavar="FILE", help="a JSON list of tools, such as data/tools/punie26.json")


def run(arguments: argparse.Namespace) -> int:
    """Print the tools that can be used.

    Raises:
        Problems: What is wrong with the others.
    """
    tools, problems = examine(file_text(resource_or_path(arguments.file)), arguments.file)
    rows = [
        [
            tool.name,
            ", ".join(f"{each.name}: {each.type}" for each in tool.parameters),
            ", ".join(each.name for each in tool.parameters if each.default is REQUIRED),
        ]
        for tool in tools
    ]
    if rows:
        cells = [[printable(value) or "–" for value in row] for row in rows]
        print(
            tabulate(cells, ["tool", "parameters", "required"], "simple", disable_numparse=True), end="\n\n"
        )
    if not tools and not problems:
        problems = [DataError("The file lists no tools.", where=arguments.file)]
    if problems:
        problems[-1].next_step = f"correct the file, then: punie tools check {arguments.file}"
        raise Problems("The tools are wrong:", problems)
    print(f"{len(tools)} tools, no fault")
    print(f"next: punie data check FOLDER tools=file tools.path={arguments.file}")
    return 0
