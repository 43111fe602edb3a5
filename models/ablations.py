"""The compact CausalNet with a part left out, to measure what the part is worth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.causalnet import CompactCausalNet


class _Unchanged(nn.Module):
    """In place of CMPLM: the direction images learn nothing from each other."""

    def forward(self, rise: Tensor, fall: Tensor) -> tuple[Tensor, Tensor]:
        return rise, fall


class _SideBySide(nn.Module):
    """In place of CAB: rise and fall side by side, as many tokens as CAB gives."""

    def forward(self, rise: Tensor, fall: Tensor) -> Tensor:
        return torch.cat([rise + fall, rise, fall], dim=1)  # (b, 3 n, d)


class WithoutCMPLM(CompactCausalNet):
    """Adds the tokens of the direction images to those of the flow images as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.CrossAttention = _Unchanged()


class WithoutCAB(CompactCausalNet):
    """The head sees the tokens of rise and fall with no attention between them."""

    def __init__(self) -> None:
        super().__init__()
        self.cab = _SideBySide()


class WithoutDirections(CompactCausalNet):
    """Neither direction images nor CMPLM, which sees nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.CrossAttention = _Unchanged()
        del self.direction_encoder

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        motions = self.centre(x[:, :2, self.first_channel :]).flatten(0, 1)  # (b 2, c, 28, 28)
        flows = self.flow_encoder(motions).unflatten(0, (-1, 2))  # (b, 2, n, d)
        nothing = torch.zeros_like(flows[:, 0])
        return flows[:, 0], flows[:, 1], nothing, nothing


class WithStrain(CompactCausalNet):
    """Sees the optical strain as well."""

    def __init__(self) -> None:
        super().__init__(strain=True)
