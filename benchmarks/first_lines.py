"""Run the blocks of Python in a page, one after the other, for a package that was just installed.

python benchmarks/first_lines.py README.md
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from time import perf_counter

import mst

BLOCKS = re.findall(r"^```python\n(.*?)^```", Path(sys.argv[1]).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
if not BLOCKS:
    sys.exit(f"no block of Python in {sys.argv[1]}")
if not Path(mst.__file__).is_relative_to(sys.prefix):
    sys.exit(f"mst comes from {Path(mst.__file__).parent}, not from the environment {sys.prefix}")
for block in re.findall(
    r"^```python\n(.*?)^```", Path(sys.argv[1]).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
):
    start = perf_counter()
    exec(compile(block, sys.argv[1], "exec"), {})
    print(f"{block.splitlines()[-1].strip()}: {perf_counter() - start:.1f} s")
