"""BatchNorm folded into the linear map before it: the network then computes the same with one operation less."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping

from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.nn.utils.parametrize import is_parametrized

from mst.models import TokenBatchNorm, set_submodule

_NORM_AFTER: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}


def fold_batch_norms(network: nn.Module, foldable: Mapping[str, str]) -> tuple[str, ...]:
    """Fold BatchNorms into the weights before them, in place.

    y = γ · (Wx + b - mean) / sqrt(var + eps) + β  =  W'x + b'

    Args:
        network: a network in evaluation mode.
        foldable: BatchNorm -> linear map, module paths; each map's output is read by that BatchNorm alone.

    Returns:
        The BatchNorms that were removed. Classes with another forward stay.
    """
    folded = []
    places = Counter(id(module) for _, module in network.named_modules(remove_duplicate=False))
    for norm_path, map_path in foldable.items():
        norm, linear = network.get_submodule(norm_path), network.get_submodule(map_path)
        assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
        if places[id(norm)] > 1 or places[id(linear)] > 1:
            continue  # to replace it in one place would leave it in the others
        if linear._forward_pre_hooks or is_parametrized(linear):
            continue  # its weight is computed again at each call
        if type(linear) is nn.Linear and type(norm) in (TokenBatchNorm, nn.BatchNorm1d):
            set_submodule(network, map_path, fuse_linear_bn_eval(linear, norm))
        elif type(norm) in (_NORM_AFTER.get(type(linear)), BatchNormAct2d):
            assert isinstance(linear, nn.Conv1d | nn.Conv2d | nn.Conv3d)
            set_submodule(network, map_path, fuse_conv_bn_eval(linear, norm))
        else:
            continue
        left: nn.Module = nn.Identity()
        if isinstance(norm, BatchNormAct2d):
            left = nn.Sequential(OrderedDict([("drop", norm.drop), ("act", norm.act)]))
        set_submodule(network, norm_path, left)
        folded.append(norm_path)
    return tuple(folded)
