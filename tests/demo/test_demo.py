"""What the page of `mst demo` shows and how it is served, without a browser."""

from __future__ import annotations

import base64
import importlib.util
import io
import re
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import mst
from mst.cli.main import main
from mst.demo import drawing_as_picture, example_pictures, frame, picture_markup, read_picture, takes_drawings
from mst.demo.page import DRAW, EXAMPLE, UPLOAD, Session, _preview, options_of, upload_hint
from mst.errors import InputError
from mst.experiments import WatchableNetwork, WatchOptions
from mst.extras import install_command
from mst.simulation import EarlyExit


@pytest.fixture(scope="module")
def session() -> Session:
    return Session("zoo:digits-mst")


@pytest.mark.parametrize("name", ["digits", "digits-dvs"])
def test_examples_are_test_images_of_every_class(name: str) -> None:
    network = WatchableNetwork(f"zoo:{name}-mst")
    pictures = example_pictures(network)
    assert tuple(pictures) == network.info.class_names
    test = mst.load_dataset(name, preprocessing=network.preprocessing, img_size=network.image_shape[-1]).test
    found = next(number for number in range(len(test)) if test[number][1] == 4)
    levels = 1 / 255 / network.preprocessing.std[0]  # pictures of 8 bits
    torch.testing.assert_close(read_picture(network, pictures["4"]), test[found][0], atol=levels, rtol=0)


def test_examples_of_fashion_mnist_are_recognised() -> None:
    network = WatchableNetwork("zoo:fashion-mnist-mst")
    pictures = example_pictures(network)
    images = torch.stack([read_picture(network, picture) for picture in pictures.values()])
    answers = mst.evaluate(network.model, (images, torch.arange(10))).logits.argmax(dim=1)
    assert tuple(pictures) == network.info.class_names
    assert answers.tolist() == list(range(10))


def test_drawing_is_cut_out_centred_and_inverted(session: Session) -> None:
    paper = np.full((280, 280), 255, np.uint8)
    paper[40:200, 180:220] = 0
    picture = drawing_as_picture(session.network("zoo:digits-mst"), paper)
    assert picture.shape == (8, 8)
    assert (picture[:, 3:5] == 255).all()
    assert (picture[:, [0, 1, 2, 5, 6, 7]] == 0).all()
    drawing = {"composite": Image.fromarray(paper).convert("RGB")}
    image = session.input("zoo:digits-mst", DRAW, None, drawing, None)
    assert session.watch("zoo:digits-mst", image, WatchOptions(1)).class_names[0] == "0"


def test_missing_inputs_are_explained(session: Session) -> None:
    with pytest.raises(InputError, match="nothing has been drawn"):
        session.input("zoo:digits-mst", DRAW, None, None, None)
    with pytest.raises(InputError, match="nothing has been drawn"):
        session.input("zoo:digits-mst", DRAW, None, {"composite": Image.new("RGB", (9, 9), "white")}, None)
    with pytest.raises(InputError, match="no file has been uploaded"):
        session.input("zoo:digits-mst", UPLOAD, None, None, None)
    with pytest.raises(InputError, match="no such example"):
        session.input("zoo:digits-mst", EXAMPLE, "Sandal", None, None)


def test_event_network_sees_drawings_by_a_simulated_camera(session: Session) -> None:
    network = session.network("zoo:digits-dvs-mst")
    assert takes_drawings(network)
    image = session.input("zoo:digits-dvs-mst", EXAMPLE, "1", None, None)
    assert image.shape == network.image_shape


def test_events_are_orange_blue_or_both_in_white() -> None:
    on, off = torch.tensor([0.0, 5.0, 0.0, 5.0]), torch.tensor([0.0, 0.0, 5.0, 5.0])
    markup = picture_markup(torch.stack([off, on])[:, None], True, "events")
    assert "events (2 x 1 x 4)" in markup
    data = re.search(r"base64,([^\"]+)", markup)
    assert data is not None
    (black, orange, blue, both) = np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))))[0].tolist()
    assert black == [0, 0, 0]
    assert orange[0] > orange[1] > orange[2]
    assert blue[0] < blue[1] < blue[2]
    assert both == [255, 255, 255]


def test_preview_and_hint_name_what_the_network_takes(session: Session) -> None:
    for name, caption, hint in (
        ("zoo:digits-mst", "What the network sees (1 x 8 x 8)", "test images were. Fashion-MNIST and digits are light"),
        ("zoo:digits-dvs-mst", "ON orange, OFF blue, both white (2 x 16 x 16)", "test recordings were."),
    ):
        assert caption in _preview(session, name, EXAMPLE, "1", None, None)
        assert hint in upload_hint(session.network(name))
    assert "No image yet: no file has been uploaded" in _preview(session, "zoo:digits-mst", UPLOAD, None, None, None)


def test_choices_become_options() -> None:
    assert options_of(8, "as trained", 0.75, "never", 3, 0) == WatchOptions(8)
    assert options_of(8, "off", 0.75, "margin", 2.5, 1) == WatchOptions(8, 0.0, EarlyExit("margin", 2.5), 1)
    assert options_of(8, "on", 0.75, "stability", 3.0, 0) == WatchOptions(8, 0.75, EarlyExit("stability", 3))


def test_frame_holds_the_figures_of_its_step(session: Session) -> None:
    image = session.input("zoo:digits-mst", EXAMPLE, "7", None, None)
    watched = session.watch("zoo:digits-mst", image, WatchOptions(5))
    rate, lossless = watched.codings["rate"], watched.codings["lossless"]
    early, late = frame(watched, 2), frame(watched, 5)
    assert f'<strong class="count">{rate.spikes_after(2):,}</strong>' in early
    assert f'<strong class="count">{rate.spikes_after(5):,}</strong>' in late
    assert "settled, no neuron can fire again" in late
    assert "settled, no" not in early
    assert 'role="status"' in late
    assert 'role="status"' not in early
    energy = sum(lossless.energy_after(5).values()) / sum(watched.ann.energy_pj.values())
    assert f"{energy:.2f}x" in late
    assert f"{energy:.3f}" in late
    assert all(re.search('alt="[^"]+"', tag) for tag in re.findall("<img[^>]*>", late))


def test_frame_shows_why_a_coding_is_missing() -> None:
    network = WatchableNetwork("zoo:fashion-mnist-mst-4-bits")
    shown = frame(network.watch(torch.zeros(network.image_shape), WatchOptions(1)), 1)
    assert "This coding cannot carry the network." in shown


def test_gradio_is_imported_when_a_page_is_made_only() -> None:
    code = "import sys, mst.demo, mst.demo.serving, mst.cli.demo; sys.exit('gradio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_missing_gradio_is_explained(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    assert main(["demo", "--port", str(free)]) == 1
    assert install_command("demo") in capsys.readouterr().err


def test_port_in_use_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["demo", "--port", str(port)]) == 1
    message = capsys.readouterr().err
    assert f"no server can listen at 127.0.0.1:{port} (Address already in use)" in message
    assert "choose another --port" in message
    assert message.count("\n") == 1


def test_impossible_port_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--port", "70000"]) == 1
    assert "port must be from 1 to 65535, got 70000" in capsys.readouterr().err
