"""The kernels of torch's convolutions."""

from __future__ import annotations

import torch
from torch import nn


def kernel_of(module: nn.Conv1d | nn.ConvTranspose1d) -> torch.Tensor:
    """Give a convolution's kernels as (unit, tap, channel), in the order that `engines.base.HasKernels` says.

    Weights that torch computes before each pass (weight and spectral norm of the older kind, pruning) are computed now, since what lies
    in `weight` is that of the last pass. Those of the newer kind are computed by reading `weight`.
    """
    for hook in module._forward_pre_hooks.values():
        if type(hook).__module__.startswith("torch.nn.utils"):
            hook(module, ())
    weight = module.weight.detach()
    if not isinstance(module, nn.ConvTranspose1d):
        return weight.permute(0, 2, 1)
    channels, filters, taps = weight.shape  # all channels, and the filters of one group
    grouped = weight.reshape(module.groups, channels // module.groups, filters, taps)
    return grouped.permute(0, 2, 3, 1).reshape(module.groups * filters, taps, channels // module.groups)
