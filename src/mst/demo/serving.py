"""A web server for the page, on this machine only unless it is told otherwise."""

from __future__ import annotations

import importlib.util
import os
import socket
from typing import Any

from mst.errors import InputError
from mst.extras import install_command

from .frames import style
from .page import Session, make_page

SETTINGS = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""Environment of Gradio: it reports to nobody."""


def open_demo(checkpoint: str) -> Any:
    """The page, as `gradio.Blocks`, for a network.

    Args:
        checkpoint: a checkpoint, zoo:NAME or hf:USER/NAME.

    Raises:
        InputError: Gradio is not installed; the network cannot be watched.
        MissingFileError: there is no such network.
    """
    if importlib.util.find_spec("gradio") is None:
        raise InputError("mst demo needs Gradio, which is not installed", remedy=install_command("demo"))
    os.environ.update(SETTINGS)
    return make_page(Session(checkpoint))


def serve(page: Any, host: str, port: int, *, blocks: bool = True) -> str:
    """Start the server.

    Args:
        page: of `open_demo`.
        host: address that it listens at.
        port: port that it listens at.
        blocks: True waits until it is interrupted.

    Returns:
        The page's address.

    Raises:
        InputError: the port is in use, or this machine does not have the address.
    """
    import gradio as gr

    check_free(host, port)
    _, url, _ = page.launch(
        server_name=host, server_port=port, share=False, inbrowser=False, quiet=True, prevent_thread_lock=True,
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]), head=style(),
        footer_links=[], run_history=False, enable_monitoring=False, ssr_mode=False, mcp_server=False, pwa=False,
    )  # fmt: skip
    if blocks:
        page.block_thread()
    return str(url)


def check_free(host: str, port: int) -> None:
    """Check that a server can listen at an address.

    Raises:
        InputError: it cannot.
    """
    if not 1 <= port <= 65535:
        raise InputError(f"port must be from 1 to 65535, got {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"no server can listen at {host}:{port} ({error.strerror or error})",
                remedy="choose another --port, or end the program that uses it; --host is an address of this machine",
            ) from error
