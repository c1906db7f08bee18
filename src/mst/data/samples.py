"""The form of samples and batches: what users have for images and labels, as tensors.

Letters: B images of a batch, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from mst.errors import InputError
from mst.numbers import is_finite

Batch = tuple[Tensor, Tensor | None]
"""Images [B, ...], and their labels, int64 [B], if there are any."""

IMAGE_KEYS = ("pixel_values", "image", "images", "img")
"""Keys under which a dict holds its image or images; the first that it has counts."""

LABEL_KEYS = ("label", "labels")

_SAMPLE_REMEDY = (
    "return such pairs from the data set: the image a tensor or an array, the label a whole number from 0 to K - 1 for "
    f"K classes. A dict needs the keys {IMAGE_KEYS[1]} and {LABEL_KEYS[0]}"
)
_ONE_HOT = "for one-hot labels or scores give their argmax, the class number"


def entries_of(item: Any) -> tuple[Any, Any] | None:
    """The entries of a sample or batch that hold image and label; the label is None where there is none.

    Args:
        item: a pair, a longer tuple whose other entries are ignored, a dict, or images alone.

    Returns:
        None if it is none of these.
    """
    if isinstance(item, Tensor | np.ndarray):
        return item, None
    if isinstance(item, Mapping):
        image = next((item[key] for key in IMAGE_KEYS if key in item), None)
        return None if image is None else (image, next((item[key] for key in LABEL_KEYS if key in item), None))
    if isinstance(item, tuple | list) and item:
        return item[0], item[1] if len(item) > 1 else None
    return None


def as_tensor(value: Any) -> Tensor | None:
    """Real numbers as a tensor: of a tensor, a NumPy array, numbers, or lists of these. None for anything else."""
    if isinstance(value, Tensor):
        is_plain = value.layout is torch.strided and not value.is_quantized and not value.is_complex()
        return value if is_plain and value.device.type != "meta" else None
    if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor | np.ndarray):
        parts = [as_tensor(each) for each in value]
        shapes = {None if part is None else part.shape for part in parts}
        return torch.stack(parts) if len(shapes) == 1 and None not in shapes else None  # type: ignore[arg-type]
    leaf = value
    while isinstance(leaf, list | tuple) and leaf:
        leaf = leaf[0]
    if not isinstance(leaf, np.ndarray | np.generic | list | tuple | int | float):
        return None
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        return None
    if array.dtype.kind not in "biuf":
        return None
    if array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))


def form_of(item: Any) -> str:
    """The form of a value in a few words: types, shapes, keys."""
    if isinstance(item, Tensor | np.ndarray):
        on = f" on {item.device}" if isinstance(item, Tensor) and item.device.type != "cpu" else ""
        return f"{type(item).__name__} {list(item.shape)} of {str(item.dtype).removeprefix('torch.')}{on}"
    if isinstance(item, Mapping):
        return f"{type(item).__name__} with the keys {', '.join(map(repr, item))}"
    if isinstance(item, tuple | list):
        inside = [form_of(each) if not isinstance(each, list | tuple) else type(each).__name__ for each in item[:3]]
        return f"{type(item).__name__} of {', '.join(inside)}{', ...' if len(item) > 3 else ''}"
    return f"{type(item).__name__} {item!r}" if isinstance(item, int | float | str) else type(item).__name__


def check_finite(images: Tensor, indices: Sequence[int], called: str = "image {}") -> None:
    """Check that images hold neither NaN nor infinity.

    Args:
        images: [B, ...].
        indices: number of each image in the data.
        called: for the error, how an image of a number is called.

    Raises:
        InputError: names the first image that does.
    """
    if is_finite(images):
        return
    first = int((~images.isfinite()).flatten(1).any(dim=1).nonzero()[0])
    what = "NaN" if bool(images[first].isnan().any()) else "infinite values"
    raise InputError(f"it holds {what}", where=called.format(indices[first]), remedy="repair it or leave it out")


def as_batch(item: Any, first_image: int, needs_labels: bool) -> Batch:
    """A batch as tensors, looked at.

    Args:
        item: images [B, ...], (images, labels), or a dict of both; tensors, arrays or lists.
        first_image: number of its first image in the data.
        needs_labels: True refuses images alone.

    Raises:
        InputError: another form; images without axes; NaN or infinity; labels that are not class numbers.
    """
    entries = entries_of(item)
    images = None if entries is None else as_tensor(entries[0])
    if entries is None or images is None or (needs_labels and entries[1] is None):
        wanted = "(images, labels)" if needs_labels else "images or (images, labels)"
        raise InputError(f"a batch is {wanted}, got {form_of(item)}", remedy=_batch_remedy(entries))
    if images.dim() < 2:
        raise InputError(f"images are [B, ...], an axis of images first, got {form_of(images)}")
    indices = range(first_image, first_image + len(images))
    check_finite(images, indices)
    return images, None if entries[1] is None else _class_numbers(entries[1], indices)


def _batch_remedy(entries: tuple[Any, Any] | None) -> str:
    if entries is not None and hasattr(entries[0], "getbands"):  # an image of Pillow
        return "convert it to a tensor, for instance with torchvision.transforms.ToTensor"
    return (
        "give tensors or arrays: (images, labels), batches of such pairs (a DataLoader), or a data set of "
        "(image, class number) pairs, such as one split of mst.load_dataset"
    )


def _class_numbers(value: Any, indices: Sequence[int]) -> Tensor:
    """int64 [B]: the labels of the images with these numbers."""
    labels, count = as_tensor(value), len(indices)
    if labels is None:
        raise InputError(f"labels are class numbers, got {form_of(value)}")
    if labels.dim() == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (count,):
        remedy = _ONE_HOT if labels.dim() == 2 and len(labels) == count else ""
        raise InputError(
            f"{count} images need {count} labels, got labels of shape {tuple(labels.shape)}", remedy=remedy
        )
    if labels.is_floating_point():
        is_whole = labels.isfinite() & (labels == labels.round())
        if not bool(is_whole.all()):
            first = int((~is_whole).nonzero()[0])
            raise InputError(
                f"its label {float(labels[first])} is not a class number",
                where=f"image {indices[first]}",
                remedy="a label is a whole number from 0 to K - 1, for K classes",
            )
    return labels.long()


def as_sample(sample: Any, where: str, needs_label: bool = True) -> tuple[Tensor, int | None]:
    """A sample as a tensor and a class number.

    Args:
        sample: (image, label), longer tuples and dicts included, see `entries_of`.
        where: its place, for the error.
        needs_label: True refuses an image alone.

    Returns:
        The image, and its label if there is one.

    Raises:
        InputError: another form, or a label that is not a whole number.
    """
    entries = entries_of(sample)
    if entries is not None:
        image, label = as_tensor(entries[0]), entries[1]
        number = None if label is None else _class_number(label)
        if image is not None and image.dim() > 0 and (number is not None or (label is None and not needs_label)):
            return image, number
    wanted = "(image, class number)" if needs_label else "an image or (image, class number)"
    remedy = _SAMPLE_REMEDY
    if entries is not None and hasattr(entries[0], "getbands"):
        remedy = _batch_remedy(entries)
    elif entries is not None and _is_vector_beside(*entries):
        remedy = _ONE_HOT
    raise InputError(f"a sample is {wanted}, got {form_of(sample)}", where=where, remedy=remedy)


def _is_vector_beside(image: Any, label: Any) -> bool:
    """True for a label of several numbers that are not the labels of a batch."""
    arrays = Tensor | np.ndarray
    return isinstance(image, arrays) and isinstance(label, arrays) and label.ndim == 1 and len(label) != len(image)


def _class_number(label: Any) -> int | None:
    """A label as an int; None if it is not one whole number."""
    if type(label) is int:
        return label
    number = as_tensor(label)
    if number is None or number.numel() != 1 or number.dim() > 1:
        return None
    value = number.item()
    return int(value) if float(value).is_integer() else None


def is_sample(item: Any) -> bool:
    """True for an item that holds one image with one label rather than a batch of them."""
    entries = entries_of(item)
    if entries is None or entries[1] is None:
        return False
    label = entries[1]
    if isinstance(label, Tensor | np.ndarray):
        # A label of shape [1] may also be that of a batch of one image.
        return label.ndim == 0 or (label.shape == (1,) and getattr(entries[0], "shape", ())[:1] != (1,))
    return isinstance(label, int | float | np.generic)


def collate(samples: Sequence[tuple[int, Any]], needs_labels: bool = True) -> Batch:
    """A batch of samples.

    Args:
        samples: pairs (number in the data, sample), at least one.
        needs_labels: True refuses samples without a label.

    Raises:
        InputError: a sample of another form, or with NaN or infinity; images of several shapes; labels missing.
    """
    indices = [index for index, _ in samples]
    pairs = [as_sample(sample, f"sample {index}", needs_labels) for index, sample in samples]
    images, labels = [image for image, _ in pairs], [label for _, label in pairs]
    for index, image, label in zip(indices, images, labels, strict=True):
        if image.shape != images[0].shape:
            raise InputError(
                f"its image is {list(image.shape)}, that of sample {indices[0]} is {list(images[0].shape)}",
                where=f"sample {index}",
                remedy="bring all images to one shape, for instance with a transform of the data set",
            )
        if (label is None) != (labels[0] is None):
            raise InputError(
                "some samples have a label and others have none",
                where=f"samples {indices[0]} and {index}",
                remedy="label all or none",
            )
    stacked: Tensor = default_collate(images)
    check_finite(stacked, indices)
    return stacked, None if labels[0] is None else torch.tensor(labels, dtype=torch.int64)
