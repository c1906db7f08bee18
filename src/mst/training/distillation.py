"""Distillation: a fixed network, the teacher, whose answers another network learns besides the labels."""

from __future__ import annotations

from hashlib import sha256

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mst.errors import InputError
from mst.models import NetworkInput, ann_of, check_answers, copy_network, logits_of
from mst.neurons import begin_run, running

from .config import TrainConfig


class Teacher:
    """The loss of a network whose logits z should also be near to the teacher's logits u.

        loss = (1 - a)·(loss of the labels) + a·τ²·KL(softmax(u/τ) ‖ softmax(z/τ)),    mean over the images

    with a = `distillation` and τ = `distillation_temperature`. The factor τ² keeps the gradients of the second part at
    the size of the first's, whatever τ is.

    Args:
        network: an ANN of the same classes; it is copied, so neither its mode nor its device changes.
        config: of the training.

    Raises:
        InputError: a spiking network, or weights with NaN or infinity.

    Source: Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network (2015), section 2.
    """

    def __init__(self, network: nn.Module, config: TrainConfig) -> None:
        network = ann_of(network, "the teacher of mst.train", "take the ANN that it was converted from")
        self.network = copy_network(network).eval().requires_grad_(False)
        self.weight, self.temperature = config.distillation, config.distillation_temperature
        self.fingerprint = _fingerprint(self.network)
        """The sha256 of its weights, by which a resumed training recognises it."""
        self._seed = config.seed
        self._intake = NetworkInput(self.network, has_warned=True)

    def to(self, device: torch.device) -> Teacher:
        """This teacher, moved to the device of the network that it teaches."""
        self.network.to(device)
        self._intake = NetworkInput(self.network, has_warned=True)
        return self

    def check(self, image: Tensor, num_classes: int) -> None:
        """Check that the teacher answers as the trained network does.

        Args:
            image: a training image, [C, height, width] or as the network takes it.
            num_classes: length of the trained network's output.

        Raises:
            InputError: it does not take the image, or gives no logits or logits of other classes.
        """
        logits = self.logits(image[None])
        check_answers(logits)
        if logits.shape[1] != num_classes:
            raise InputError(f"the teacher has {logits.shape[1]} classes, the network {num_classes}")

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """[B, classes]; masks of the teacher, if it has any, are those of the images' places in the batch."""
        images = self._intake.take(images)
        with running(begin_run(self.network, seed=self._seed, batch_size=len(images))), self._intake.shown(images):
            return logits_of(self.network(images), self.network, len(images))

    def loss(self, label_loss: Tensor, logits: Tensor, images: Tensor) -> Tensor:
        """The loss of the class's equation.

        Args:
            label_loss: loss of the labels, a scalar.
            logits: of the trained network, [B, classes].
            images: [B, ...], as the trained network sees them.
        """
        learned = F.log_softmax(logits.float() / self.temperature, dim=1)
        wanted = F.log_softmax(self.logits(images).float() / self.temperature, dim=1)
        divergence = F.kl_div(learned, wanted, reduction="batchmean", log_target=True)
        return (1 - self.weight) * label_loss + self.weight * self.temperature**2 * divergence


def teacher_of(model: nn.Module, network: nn.Module | None, config: TrainConfig) -> Teacher | None:
    """The teacher that a training asks for; None without distillation.

    Raises:
        InputError: a teacher without distillation or the reverse, or one that is itself to be trained.
    """
    if not config.distillation:
        if network is not None:
            raise InputError(
                "a teacher has no effect without distillation", remedy="set train.distillation, say to 0.5"
            )
        return None
    if network is None:
        raise InputError("distillation needs a teacher", remedy="give the trained network to learn from")
    trained = {id(parameter) for parameter in model.parameters()}
    if any(id(parameter) in trained for parameter in network.parameters()):
        raise InputError("the teacher shares weights with the network that is trained", remedy="give a copy of it")
    return Teacher(network, config)


def _fingerprint(network: nn.Module) -> str:
    digest = sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
