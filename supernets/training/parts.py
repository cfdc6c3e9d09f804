"""Which weights of a network a fine-tuning changes.

Source: TinyTL (Cai et al., NeurIPS 2020): biases and the last layer adapt a network to other data at a few
percent of its weights. Biases of batch-norm become biases of convolutions where it is folded. Lite residuals
(`supernets.layers.lite`) add weights of their own.
"""

from __future__ import annotations

from torch import nn

from supernets.errors import InvalidTraining
from supernets.layers.lite import LiteResidual
from supernets.training.spec import PARTS_TRAINED


def last_layer(network: nn.Module) -> str:
    """Name of the last linear layer. Raises InvalidTraining for a network without one."""
    found: list[str] = [name for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    if not found:
        raise InvalidTraining("the network has no linear layer at its end that could be trained alone")
    return found[-1]


def train_part(network: nn.Module, train: str) -> None:
    """Ask for gradients of those weights only. Raises InvalidTraining for another word."""
    if train not in PARTS_TRAINED:
        raise InvalidTraining(f"train is one of {', '.join(PARTS_TRAINED)}")
    if train == "all":
        return
    head = last_layer(network)
    for name, parameter in network.named_parameters():
        whole, _, kind = name.rpartition(".")
        biases = kind == "bias" and train != "last"
        parameter.requires_grad_(whole == head or biases)
    for part in network.modules():
        if isinstance(part, LiteResidual):
            part.requires_grad_(True)
            part.mix.norm.get_parameter("bias").requires_grad_(False)  # the block's own bias is trained
