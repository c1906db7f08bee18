"""A network comes in; a page in the browser goes out, on which it is watched step by step. Needs Gradio, which is
loaded when the page is made."""

from .frames import frame, picture_markup
from .inputs import drawing_as_picture, example_pictures, read_picture, takes_drawings
from .serving import open_demo, serve

__all__ = [
    "drawing_as_picture",
    "example_pictures",
    "frame",
    "open_demo",
    "picture_markup",
    "read_picture",
    "serve",
    "takes_drawings",
]
