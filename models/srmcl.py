"""SRMCL: a vision transformer that also learns to redraw the motion, and has class prototypes.

Bao et al., "Boosting Micro-Expression Recognition via Self-Expression Reconstruction and Memory
Contrastive Learning", IEEE Transactions on Affective Computing 2024, doi
10.1109/TAFFC.2024.3397701. Training adds two losses to the cross-entropy: a decoder redraws patches
whose tokens were hidden after encoding, twice over, and the features are compared with a memory of
the classes' mean features. At test there is only the encoder.

The paper pretrains on data that it does not name; here nothing is pretrained.

Shapes in comments: b clips, t patches, d wide.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.causalnet import CLASSES
from models.inputs import FLOW_FIELD
from models.vit import Layer

_PATCH = 16
_WIDTH, _DEPTH = 768, 3
"""Of the encoder; one more layer follows where the features are read."""
_DECODER_WIDTH, _DECODER_DEPTH = 512, 3
_HEADS = 16
_HIDDEN = 0.75
_ROUNDS = 2
"""Share of the tokens that is hidden, and how often."""
_REDRAWN, _COMPARED = 0.5, 0.5
"""Weights of the two losses beside the cross-entropy."""
_TEMPERATURE, _MOMENTUM = 0.05, 0.1
"""Of the comparison with the prototypes; the share that a prototype keeps in a step."""


def _place_code(side: int, dim: int) -> Tensor:
    """(1, side^2 + 1, dim) sines and cosines of each place's row and column; 0 for the class token.

    Half the channels are for the columns, half for the rows.
    """
    rates = 10000.0 ** -torch.arange(0, 1, 4 / dim)  # dim / 4
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [place.reshape(-1, 1) * rates for place in (column, row)]
    code = torch.cat([wave for a in angles for wave in (a.sin(), a.cos())], dim=1)
    return torch.cat([torch.zeros(1, dim), code])[None]


class SRMCL(nn.Module):
    """19.5 million parameters at test, 26.6 in training, as printed. Sees u, v and their magnitude.

    Args:
        classes: How many there are.
        side: Height and width of the flow, a multiple of 16.
    """

    planes = FLOW_FIELD
    places: Tensor
    decoder_places: Tensor
    prototypes: Tensor

    def __init__(self, classes: int = CLASSES, side: int = FLOW_FIELD.shape[-1]) -> None:
        super().__init__()
        patches = side // _PATCH
        self.embed = nn.Conv2d(3, _WIDTH, _PATCH, stride=_PATCH)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, _WIDTH))
        self.register_buffer("places", _place_code(patches, _WIDTH), persistent=False)
        self.encoder = nn.Sequential(*(Layer(_WIDTH, _HEADS) for _ in range(_DEPTH)))
        self.norm = nn.LayerNorm(_WIDTH, eps=1e-6)
        self.last_layer = Layer(_WIDTH, _HEADS)

        self.hidden_token = nn.Parameter(0.02 * torch.randn(1, 1, _WIDTH))
        self.register_buffer("decoder_places", _place_code(patches, _DECODER_WIDTH), False)
        self.to_decoder = nn.Linear(_WIDTH, _DECODER_WIDTH)
        self.decoder = nn.Sequential(
            *(Layer(_DECODER_WIDTH, _HEADS) for _ in range(_DECODER_DEPTH)),
            nn.LayerNorm(_DECODER_WIDTH, eps=1e-6),
            nn.Linear(_DECODER_WIDTH, 3 * _PATCH**2),
        )
        # Unit features, a class each; 0 until training has seen the class.
        self.register_buffer("prototypes", torch.zeros(classes, _WIDTH))
        self.head = nn.Sequential(nn.LayerNorm(_WIDTH), nn.Linear(_WIDTH, classes))

    def forward(self, flow: Tensor) -> Tensor:
        """Logits (b, classes) of flow (b, 2, h, w): u and v, pixels of the face."""
        return self.head(self._feature(self._encode(_with_magnitude(flow))))

    def training_losses(self, flow: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and what is added to their cross-entropy; the prototypes follow.

        Args:
            flow: (b, 2, h, w).
            labels: (b,).
        """
        images = _with_magnitude(flow)
        tokens, redrawing = self._encode(images), torch.zeros((), device=flow.device)
        for _ in range(_ROUNDS):
            tokens, hidden = self._hide(tokens)
            redrawn = self.decoder(self.to_decoder(tokens) + self.decoder_places)[:, 1:]
            error = ((redrawn - _patches(images)) ** 2).mean(-1)  # (b, t)
            redrawing = redrawing + error[hidden].mean()
        feature = self._feature(tokens)
        further = _REDRAWN * redrawing + _COMPARED * self._compare(feature, labels)
        return self.head(feature), further

    def _encode(self, images: Tensor) -> Tensor:
        """Tokens (b, 1 + t, d) of images (b, 3, h, w); the first is the class token."""
        patches = self.embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1)
        return self.norm(self.encoder(tokens + self.places))

    def _feature(self, tokens: Tensor) -> Tensor:
        return self.last_layer(tokens)[:, 0]  # (b, d)

    def _hide(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of which patches are hidden at random, and which (b, t)."""
        order = torch.rand(tokens[:, 1:, 0].shape, device=tokens.device).argsort(1).argsort(1)
        hidden = order >= round((1 - _HIDDEN) * order.shape[1])
        patches = torch.where(hidden[..., None], self.hidden_token, tokens[:, 1:])
        return torch.cat([tokens[:, :1], patches], dim=1), hidden

    def _compare(self, feature: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of the features' likeness to the prototypes, which then follow them."""
        unit = functional.normalize(feature, dim=1)
        # A copy, since the prototypes change before the gradients are taken.
        loss = functional.cross_entropy(unit @ self.prototypes.T.clone() / _TEMPERATURE, labels)
        with torch.no_grad():
            for label in labels.unique():
                mean = unit[labels == label].mean(0)
                moved = _MOMENTUM * self.prototypes[label] + (1 - _MOMENTUM) * mean
                self.prototypes[label] = functional.normalize(moved, dim=0)
        return loss


def _with_magnitude(flow: Tensor) -> Tensor:
    """Images (b, 3, h, w) of flow (b, 2, h, w)."""
    flow = flow.float()
    return torch.cat([flow, flow.norm(dim=1, keepdim=True)], dim=1)


def _patches(images: Tensor) -> Tensor:
    """The pixels (b, t, 3 * 16 * 16) of each patch of images (b, 3, h, w)."""
    return functional.unfold(images, _PATCH, stride=_PATCH).transpose(1, 2)
