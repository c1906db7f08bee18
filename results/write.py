"""Write every table, figure and csv file of the documentation from the records of this folder: `make results`.

Tables stand in README.md, docs/results.md and docs/zoo.md between <!-- table: NAME --> and <!-- end -->; a function
of results/writing writes each. With --check nothing is written, and the exit code is 1 if anything would change.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from writing import FIGURES, csv_texts, figure_source, filled, read_records
from writing.figures import digest, draw
from writing.pages import PAGES, ROOT


def texts() -> dict[Path, str]:
    """Every page and csv file as the records would have it."""
    records = read_records()
    pages = {ROOT / page: filled((ROOT / page).read_text(encoding="utf-8"), records) for page in PAGES}
    return pages | {ROOT / "results" / name: text for name, text in csv_texts(records).items()}


def stale_figures() -> list[str]:
    """Figures that were drawn from other data."""
    records = read_records()
    return [
        name
        for name in FIGURES
        if not ((path := ROOT / "docs/figures" / name).exists() and figure_source(path) == digest(records, name))
    ]


def main() -> None:
    """Write what has changed, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if anything would change")
    options = parser.parse_args()
    changed = [path for path, text in texts().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    figures = stale_figures()
    for name in [*(path.relative_to(ROOT).as_posix() for path in changed), *figures]:
        print(name)
    if options.check:
        sys.exit(1 if changed or figures else 0)
    for path in changed:
        path.write_text(texts()[path], encoding="utf-8")
    for name in figures:
        draw(read_records(), name, ROOT / "docs/figures" / name)


if __name__ == "__main__":
    main()
