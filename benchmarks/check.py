"""How long `punie data check` takes for 100,000 rows, tokenization included.

python benchmarks/check.py
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from figures import Row, punie, report

from punie.util.paths import resource

ROWS = 100_000


def measure() -> Iterator[Row]:
    rows = [json.loads(line) for line in resource("data/code_mode/train.jsonl").open(encoding="utf-8")]
    with tempfile.TemporaryDirectory() as folder:
        with (Path(folder) / "train.jsonl").open("w", encoding="utf-8") as stream:
            for number in range(ROWS):
                row = rows[number % len(rows)]
                request = {
                    **row["messages"][1],
                    "content": f"{row['messages'][1]['content']} (ticket {number})",
                }
                messages = [row["messages"][0], request, *row["messages"][2:]]
                stream.write(json.dumps({"messages": messages}) + "\n")
        done = punie("data", "check", folder)
    print(done.out.splitlines()[0].replace(folder, f"{ROWS:,} rows"))
    yield Row(f"`punie data check`, {ROWS:,} rows", [done.seconds], "s", at_most=60)


if __name__ == "__main__":
    report(measure())
