"""The compact CausalNet with a part taken away, to measure what the part is worth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.causalnet import CompactCausalNet


class _Apart(nn.Module):
    """In place of CMPLM: the direction images learn nothing from each other."""

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        return first, second


class _Beside(nn.Module):
    """In place of CAB: rise and fall stand side by side, as many tokens as CAB gives."""

    def forward(self, rise: Tensor, fall: Tensor) -> Tensor:
        return torch.cat([rise + fall, rise, fall], dim=1)


class WithoutCMPLM(CompactCausalNet):
    """The tokens of the direction images are added to those of the flow as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.CrossAttention = _Apart()


class WithoutCAB(CompactCausalNet):
    """The head sees the tokens of rise and fall with no attention between them."""

    def __init__(self) -> None:
        super().__init__()
        self.cab = _Beside()


class WithoutDirections(CompactCausalNet):
    """Neither direction images nor CMPLM, which looks at nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.CrossAttention = _Apart()
        del self.direction_encoder

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        motions = self.centre(x[:, :2, self.first_channel :])
        flows = self.flow_encoder(motions.flatten(0, 1)).unflatten(0, (-1, 2))
        nothing = torch.zeros_like(flows[:, 0])
        return flows[:, 0], flows[:, 1], nothing, nothing


class WithStrain(CompactCausalNet):
    """Sees the optical strain as well."""

    def __init__(self) -> None:
        super().__init__(strain=True)
