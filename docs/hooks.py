"""What the site adds to the pages of docs/ while mkdocs builds it.

- `<!-- options: VERB -->` becomes the table of the verb's options, from its parser.
- `<!-- api: ROOM -->` becomes the reference of every name that `mst` takes from that room, from `__init__.pyi`;
  `<!-- api: ROOM NAME NAME -->` that of the named ones.
- Files beside docs/ that are worth a page (CONTRIBUTING.md, ...) get one, and links to them lead there. Links to other
  files of the repository lose their target, because the site does not know where the repository is published.
- What search needs in pages that are files comes from the site itself, not from the network.
"""

from __future__ import annotations

import ast
import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from mst.cli.datasets import DATASETS_VERBS
from mst.cli.parser import verb_parser
from mst.cli.verbs import VERBS

ROOT = Path(__file__).parents[1]
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md"}
"""File beside docs/ -> its page."""

SHIM, SHIM_ON_THE_NETWORK = "javascripts/iframe-worker.js", "https://unpkg.com/iframe-worker/shim"
"""Workers in pages that are files."""

_MARKER = re.compile(r"<!-- (options|api): ([^>]*?) -->")
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each file of PAGES."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill the markers and mend the links of a page."""
    source = page.file.src_uri
    folder = "." if source in PAGES.values() else os.path.join("docs", os.path.dirname(source))
    mended = _LINK.sub(lambda link: _mended(link, folder, os.path.dirname(source)), markdown)
    return _MARKER.sub(lambda marker: _FILLED[marker[1]](*marker[2].split()), mended)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Let the page load the copy of the script in docs/javascripts."""
    return output.replace(SHIM_ON_THE_NETWORK, posixpath.relpath(SHIM, posixpath.dirname(page.file.dest_uri) or "."))


def on_post_template(output_content: str, template_name: str, **_: Any) -> str:
    """Likewise the page for addresses that do not exist."""
    return output_content.replace(SHIM_ON_THE_NETWORK, "/" + SHIM)


def _mended(link: re.Match[str], folder: str, page_folder: str) -> str:
    text, target, anchor = link[1], link[2], link[3] or ""
    if "://" in target or target.startswith("mailto:"):
        return link[0]
    file = os.path.normpath(os.path.join(folder, target))
    if file in PAGES:
        return f"[{text}]({os.path.relpath(PAGES[file], page_folder or '.')}{anchor})"
    if file.startswith("docs" + os.sep):
        return f"[{text}]({os.path.relpath(file, os.path.join('docs', page_folder))}{anchor})"
    return text if (ROOT / file).exists() else link[0]


def options_table(verb: str, subcommand: str = "") -> str:
    """The options of a verb as a table for each group, as `mst VERB --help` explains them."""
    function = DATASETS_VERBS[subcommand] if subcommand else VERBS[verb].load()
    parser = verb_parser(f"{verb} {subcommand}".strip(), function)
    lines: list[str] = []
    for group in parser._action_groups:
        rows = [_option_row(action) for action in group._group_actions if _is_shown(action)]
        if rows:
            title = {"options": "Options", "positional arguments": "Files"}.get(group.title, group.title)
            lines += [f"**{title}**", "", "| option | default | effect |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _is_shown(action: Any) -> bool:
    return action.dest not in ("help", "print_config", "config") and type(action).__name__ != "_ActionConfigLoad"


def _option_row(action: Any) -> str:
    name = action.option_strings[0].replace("_", "-") if action.option_strings else action.dest.upper()
    default = "" if action.default in (None, "==SUPPRESS==", ()) else f"`{_shown(action.default)}`"
    kind = str(getattr(action, "_typehint", ""))
    choices = re.findall(r"'([^']*)'", kind) if "Literal" in kind else []
    effect = " ".join((action.help or "").split()).replace("|", "\\|")
    allowed = f" One of {', '.join(f'`{each}`' for each in choices)}." if choices else ""
    return f"| `{name}` | {default} | {effect}{allowed} |"


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return ",".join(map(str, default)) if isinstance(default, (tuple, list)) else str(default)


def reference(room: str, *names: str) -> str:
    """Directives of mkdocstrings for the public names of a room."""
    return "\n\n".join(f"::: {room if names else 'mst'}.{name}" for name in names or public_names()[room])


def public_names() -> dict[str, list[str]]:
    """Room -> the names that `mst` takes from it."""
    stub = ast.parse((ROOT / "src/mst/__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {str(node.module): [alias.name for alias in node.names] for node in imports}


_FILLED = {"options": options_table, "api": reference}
