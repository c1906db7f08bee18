"""One look at the first samples, before a training loads, prepares or writes anything."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from mst.accuracy import check_labels
from mst.data import first_readable
from mst.errors import errors_at
from mst.models import NetworkInput, logits_of
from mst.neurons import begin_run, running
from mst.quantization import in_evaluation


def check_first_samples(
    model: nn.Module, train_data: Dataset[Any], test_data: Dataset[Any]
) -> tuple[tuple[int, ...], int]:
    """Show the network the first training sample and the first test sample.

    Args:
        model: an ANN; its mode and its statistics do not change.
        train_data, test_data: (image, class number), or what else `mst.data.ImageData` allows for a sample.

    Returns:
        The shape of the first training image, and the number of classes.

    Raises:
        InputError: a sample of another form, NaN or infinity in its image, a label outside the classes, or a network
            that does not take the image or does not return logits.
    """
    intake = NetworkInput(model)
    shapes, num_classes = [], 0
    for name, dataset in (("train_data", train_data), ("test_data", test_data)):
        image, label = first_readable(dataset, name)
        run = begin_run(model, batch_size=1)  # its masks leave the global generators alone
        with errors_at(name), torch.no_grad(), in_evaluation(model), running(run):
            batch = intake.take(image[None])
            with intake.shown(batch):
                num_classes = logits_of(model(batch), model, 1).shape[1]
        check_labels(torch.tensor([label]), 1, num_classes, name)
        shapes.append(tuple(image.shape))
    return shapes[0], num_classes
