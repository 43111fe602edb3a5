"""The networks by name, to train and compare them under one protocol.

Each takes (batch, 4, 3, 28, 28), raw 0..255, and gives logits (batch, 3), or as many as
`make_network` is asked for. The images are composites, or whole where the network's class says
`composites = False`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from models.ablations import WithoutCAB, WithoutCMPLM, WithoutDirections, WithStrain
from models.causalnet import CLASSES, CausalNet
from models.htnet import HTNet
from models.off_apexnet import OffApexNet
from models.off_tanet import OffTANet
from models.ststnet import STSTNet

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "causalnet-compact": CausalNet.compact,
    "causalnet-released": CausalNet.released,
    "htnet": HTNet,
    "off-tanet": OffTANet,
    "ststnet": STSTNet,
    "off-apexnet": OffApexNet,
    # What a part of the compact CausalNet is worth.
    "compact-without-cmplm": WithoutCMPLM,
    "compact-without-cab": WithoutCAB,
    "compact-without-directions": WithoutDirections,
    "compact-with-strain": WithStrain,
}


def make_network(name: str, classes: int = CLASSES) -> nn.Module:
    """A network of `NETWORKS` with as many outputs as there are classes.

    All of them end in a linear layer, which is replaced where the classes are others than the
    composite's three.
    """
    network = NETWORKS[name]()
    if classes == CLASSES:
        return network
    place, last = [
        (path, module) for path, module in network.named_modules() if isinstance(module, nn.Linear)
    ][-1]
    if last.out_features != CLASSES:
        raise ValueError(f"{name} does not end in a linear layer with {CLASSES} outputs")
    parent, _, attribute = place.rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Linear(last.in_features, classes))
    return network
