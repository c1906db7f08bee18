"""Executes the notebooks in this folder and stores their outputs: `python notebooks/run.py [NOTEBOOK ...]`.

The code cells of a notebook run in this process, one after another; what they print and the figures that they show are
stored. Neither Jupyter nor a kernel is needed, and nothing else is stored: no times, no versions, no paths.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent

KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


@contextlib.contextmanager
def collecting(outputs: list[dict[str, Any]]) -> Iterator[None]:
    """Add what is printed and shown within the block to `outputs`, in its order."""
    import matplotlib.pyplot as plt

    printed = io.StringIO()

    def flush() -> None:
        if printed.getvalue():
            outputs.append({"name": "stdout", "output_type": "stream", "text": lines_of(printed.getvalue())})
            printed.seek(0)
            printed.truncate()

    def show() -> None:
        flush()
        for number in plt.get_fignums():
            picture = io.BytesIO()
            plt.figure(number).savefig(picture, format="png", bbox_inches="tight", metadata={"Software": None})
            data = {"image/png": base64.b64encode(picture.getvalue()).decode()}
            outputs.append({"data": data, "metadata": {}, "output_type": "display_data"})
        plt.close("all")

    plt.close("all")  # figures of what ran before in this process
    shown, plt.show = plt.show, show
    try:
        with contextlib.redirect_stdout(printed):
            yield
        flush()
    finally:
        plt.show = shown


def executed(content: dict[str, Any], name: str) -> dict[str, Any]:
    """A notebook with the outputs of its code cells, run in one namespace and in the present folder."""
    scope: dict[str, Any] = {"__name__": "notebook"}
    cells, count = [], 0
    for number, cell in enumerate(content["cells"]):
        new = {"cell_type": cell["cell_type"], "id": f"cell-{number}", "metadata": {}, "source": cell["source"]}
        if cell["cell_type"] == "code":
            count += 1
            outputs: list[dict[str, Any]] = []
            with collecting(outputs):
                exec(compile("".join(cell["source"]), f"{name}, cell {number}", "exec"), scope)
            new |= {"execution_count": count, "outputs": outputs}
        cells.append(new)
    return {"cells": cells, "metadata": KERNEL, "nbformat": 4, "nbformat_minor": 5}


def lines_of(text: str) -> list[str]:
    """A text as notebooks store it."""
    return text.splitlines(keepends=True)


def main(paths: list[Path]) -> None:
    """Execute notebooks in an empty folder and write them back."""
    import matplotlib as mpl

    mpl.use("agg")
    for path in [each.resolve() for each in paths]:  # before the folder changes
        content = json.loads(path.read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            done = executed(content, path.name)
            os.chdir(FOLDER)
        path.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        sys.stdout.write(f"{path.name}: {path.stat().st_size / 1024:.0f} kB\n")


if __name__ == "__main__":
    main([Path(each) for each in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb")))
