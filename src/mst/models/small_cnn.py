"""ResNet-18 and VGG-16 for small images: the two CNNs that the paper masks besides its own network.

Both are ordinary ReLU networks made of timm's parts and registered with timm; they are quantised like any other.
"""

from __future__ import annotations

from typing import Any

from timm.layers import ClassifierHead
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vgg import VGG
from torch import Tensor, nn

from mst.errors import InputError

_CFG = {"input_size": (3, 32, 32), "num_classes": 10, "mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}
default_cfgs = generate_default_cfgs(
    {
        "resnet18_small": {**_CFG, "first_conv": "conv1", "classifier": "fc"},
        "vgg16_small": {**_CFG, "first_conv": "features.0", "classifier": "head.fc"},
    }
)
SMALL_CNN_NAMES: tuple[str, ...] = tuple(default_cfgs)
"""Names of the registered networks."""


class SmallResNet(ResNet):  # type: ignore[misc]
    """ResNet-18 whose stem is one 3x3 convolution without pooling.

    Args:
        width: channels of the first stage, even, at least 2; each later stage has twice its predecessor's. 64 is the
            full network.
        in_chans: channels of the image.
        num_classes: length of the output.
        options: further options of timm's ResNet.

    Raises:
        InputError: width odd or below 2.

    Source: He et al., "Deep Residual Learning", CVPR 2016, for the blocks; its CIFAR networks for the stem.
    """

    def __init__(self, width: int = 64, in_chans: int = 3, num_classes: int = 10, **options: Any) -> None:
        if width < 2 or width % 2:
            raise InputError(f"width must be even and at least 2, got {width}")
        super().__init__(
            BasicBlock, (2, 2, 2, 2), in_chans=in_chans, num_classes=num_classes,
            channels=tuple(width << stage for stage in range(4)), stem_type="deep", stem_width=width // 2, **options,
        )  # fmt: skip
        self.conv1 = nn.Conv2d(in_chans, width, 3, padding=1, bias=False)
        self.maxpool = nn.Identity()
        self.init_weights()


class SmallVGG(VGG):  # type: ignore[misc]
    """VGG-16 with BatchNorm whose head is a mean over places and one linear map.

    It has thirteen convolutions in five groups, and a pool after each group as long as at least one pixel remains.

    Args:
        width: channels of the first two convolutions, at least 1; 64 is the full network.
        in_chans: channels of the image.
        num_classes: length of the output.
        img_size: pixels, one number or (height, width); the shorter side decides how many pools there are.

    Raises:
        InputError: width below 1.

    Source: Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015, configuration D.
    """

    def __init__(
        self, width: int = 64, in_chans: int = 3, num_classes: int = 10, img_size: int | tuple[int, int] = 32
    ) -> None:
        if width < 1:
            raise InputError(f"width must be at least 1, got {width}")
        layers: list[int | str] = []
        side = img_size if isinstance(img_size, int) else min(img_size)
        for factor, convolutions in ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3)):
            layers += [factor * width] * convolutions
            if side >= 2:
                layers.append("M")
                side //= 2
        super().__init__(layers, num_classes=num_classes, in_chans=in_chans, norm_layer=nn.BatchNorm2d)
        self.pre_logits = nn.Identity()
        self.num_features = self.head_hidden_size = 8 * width
        self.head = ClassifierHead(8 * width, num_classes)
        self.init_weights() if hasattr(self, "init_weights") else None

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """[B, C, height, width] -> logits [B, num_classes], or the pooled features [B, C]."""
        y: Tensor = self.head(x, pre_logits=pre_logits)
        return y


def _create(kind: type[nn.Module], variant: str, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    if pretrained:
        raise InputError(f"no weights are published for {variant}", remedy="leave pretrained out, and train it")
    model: nn.Module = build_model_with_cfg(kind, variant, False, **options)
    return model


@register_model
def resnet18_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-18 for images of 28 or 32 px; `width` 64 gives 11.2 M parameters."""
    return _create(SmallResNet, "resnet18_small", pretrained, kwargs)


@register_model
def vgg16_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """VGG-16 for images of 28 or 32 px; `width` 64 gives 14.7 M parameters."""
    return _create(SmallVGG, "vgg16_small", pretrained, kwargs)
