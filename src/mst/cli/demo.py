"""`mst demo`: a page in the browser on which a network is watched step by step."""

from __future__ import annotations

from pathlib import Path

from .display import print_line


def demo(checkpoint: Path = Path("zoo:digits-mst"), host: str = "127.0.0.1", port: int = 7860) -> None:
    """Watch a network classify an image that you draw, upload or choose, after every time step.

    A page shows the class scores, the spikes of every site and the energy of rate and lossless coding side by side,
    with masks on or off and with early exit. All figures are counted in the run that is shown. It listens on this
    machine only, and neither the page nor the server loads or sends anything. It needs the extra demo;
    `mst doctor` prints the command that installs it.

    Example: mst demo
    Example: mst demo --checkpoint zoo:digits-dvs-mst --port 8000

    Args:
        checkpoint: The network that is open first, besides those of `mst zoo`: a checkpoint, zoo:NAME or hf:USER/NAME.
        host: Address that it listens at; 0.0.0.0 lets other machines in.
        port: Port that it listens at.
    """
    from mst.demo import open_demo, serve
    from mst.demo.serving import check_free

    check_free(host, port)
    page = open_demo(str(checkpoint))
    url = f"http://{'localhost' if host == '0.0.0.0' else host}:{port}/"
    print_line(f"{url} shows the demo. Ctrl+C ends it.")
    serve(page, host, port)
