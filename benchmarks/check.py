"""How long `punie data check` takes for 100,000 rows, tokenization included.

python benchmarks/check.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from punie.paths import resource

ROWS = 100_000
CLAIM = 60
"""Seconds, on two cores."""


def main() -> None:
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
        clock = time.perf_counter()
        command = [sys.executable, "-m", "punie", "data", "check", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - clock
    print(done.stdout.splitlines()[0].replace(folder, "100,000 rows"))
    print(f"{seconds:.0f} s (claimed: under {CLAIM} s on two cores)")


if __name__ == "__main__":
    main()
