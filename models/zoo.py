"""The networks by name, to train and compare them under one protocol.

Those of `NETWORKS` take (batch, 4, 3, 28, 28), raw 0..255, and give logits (batch, 3), or as many
as `make_network` is asked for. The images are composites, or whole where the network's class says
`composites = False`. Those of `OTHER_INPUTS` see the planes that their class names (see
`models.inputs`). `CLASSICAL` are baselines without a network.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from models.ablations import WithoutCAB, WithoutCMPLM, WithoutDirections, WithStrain
from models.bi_woof import BiWoof
from models.causalnet import CLASSES, CausalNet
from models.htnet import HTNet
from models.kernel_ridge import KernelRidge
from models.lbp_top import LbpTop
from models.micro_exp_stcnn import MicroExpSTCNN
from models.mmnet import MMNet
from models.off_apexnet import OffApexNet
from models.off_tanet import OffTANet
from models.srmcl import SRMCL
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
OTHER_INPUTS: dict[str, Callable[[int], nn.Module]] = {
    "mmnet": MMNet,
    "srmcl": SRMCL,
    "micro-exp-stcnn": MicroExpSTCNN,
}
CLASSICAL: dict[str, Callable[[int], nn.Module]] = {
    "bi-woof-svm": BiWoof,
    "kernel-ridge": KernelRidge,
    "lbp-top-svm": LbpTop,
}
NAMES = (*NETWORKS, *OTHER_INPUTS, *CLASSICAL)


def make_network(name: str, classes: int = CLASSES) -> nn.Module:
    """A network or a baseline of `NAMES` with as many outputs as there are classes.

    The networks of `NETWORKS` end in a linear layer, which is replaced where the classes are others
    than the composite's three.
    """
    if name not in NETWORKS:
        return (OTHER_INPUTS | CLASSICAL)[name](classes)
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
