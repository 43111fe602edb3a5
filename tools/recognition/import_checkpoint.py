"""Makes an ONNX file for the runtime from an official CausalNet checkpoint.

    python tools/recognition/import_checkpoint.py OFFICIAL.pth --out causalnet-released.onnx

The checkpoint is the state dict that the released code saves, with block_repeats 3, 3, 9 or any
other. A block of its encoders holds one token, so its attention is a linear map: the tool folds it
into one convolution, which leaves three quarters of the weights and the same answers. Like all
weights here, the file takes flow pairs and gives probabilities; a card is written beside it. The
tool reads only tensors from the checkpoint, never code.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.causalnet import BlockAttention, CausalNet, ReleasedCausalNet
from models.data import LABELS
from realtime_mer.errors import InputError
from tools.command import command_parser, exit_status
from tools.recognition.export import export

REMEDY = "give the state dict of a CausalNet that the released code trained"
LEVELS = 3
# A released checkpoint may be wrapped by the trainer that saved it.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name.

    Raises:
        InputError: The file holds no state dict.
    """
    try:
        # Mapped, not read: an official checkpoint has 1.1 GB.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise InputError(f"there is no checkpoint {path}: {REMEDY}") from None
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise InputError(f"{path} is damaged or holds more than tensors: {REMEDY}") from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"{path} holds no state dict: {REMEDY}")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def block_repeats(state: dict[str, Tensor]) -> tuple[int, ...]:
    """Transformer layers in each level of the encoders, counted by the names of the tensors."""
    matches = [re.match(r"layers\.(\d+)\.0\.layers\.(\d+)\.", name) for name in state]
    layers = {(int(m[1]), int(m[2])) for m in matches if m}
    return tuple(sum(own == level for own, _ in layers) for level in range(LEVELS))


def load_official(path: Path) -> ReleasedCausalNet:
    """The released network with the weights of an official checkpoint.

    Raises:
        InputError: The file holds no such weights.
    """
    state = read_state(path)
    repeats = block_repeats(state)
    if 0 in repeats:
        raise InputError(f"{path} holds no CausalNet, its encoders are missing: {REMEDY}")
    # On the meta device: no memory for weights that are replaced at once.
    with torch.device("meta"):
        network = CausalNet.released(repeats)
    expected = network.state_dict()
    wrong = sorted(set(expected) ^ set(state))
    wrong += [n for n in expected if n in state and expected[n].shape != state[n].shape]
    if wrong:
        raise InputError(
            f"{path} is not a released CausalNet: {len(wrong)} entries are missing, foreign or of "
            f"another shape, such as {wrong[0]}: {REMEDY}"
        )
    not_finite = [n for n in state if not torch.isfinite(state[n]).all()]
    if not_finite:
        raise InputError(f"{path} holds numbers that are not finite in {not_finite[0]}: {REMEDY}")
    network.load_state_dict({n: v.float() for n, v in state.items()}, assign=True)
    return network.eval()


@torch.no_grad()
def fold_single_token_attention(network: nn.Module) -> None:
    """Replaces attention over one token, which gives its value whatever the score, by its map."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BlockAttention):
                setattr(module, name, _folded(child))


def _folded(attention: BlockAttention) -> nn.Conv2d:
    value = attention.to_qkv.weight.flatten(1).chunk(3)[2]  # (heads x width, dim)
    weight = attention.to_out.get_parameter("0.weight").flatten(1)  # (dim, heads x width)
    dim = len(weight)
    # The product in double, so that folding rounds once.
    product = (weight.double() @ value.double()).float()
    with torch.device("meta"):
        folded = nn.Conv2d(dim, dim, 1)
    folded.weight = nn.Parameter(product.reshape(dim, dim, 1, 1))
    folded.bias = nn.Parameter(attention.to_out.get_parameter("0.bias").detach().clone())
    return folded


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    parser.add_argument("checkpoint", type=Path, help="official checkpoint (.pth)")
    parser.add_argument("--out", type=Path, help="ONNX file to write; default: beside it")
    options = parser.parse_args(arguments)
    out = options.out or options.checkpoint.with_suffix(".onnx")

    def work() -> None:
        network = load_official(options.checkpoint)
        fold_single_token_attention(network)
        card = {
            "name": f"causalnet-released-{options.checkpoint.stem}",
            "labels": list(LABELS),
            "block_repeats": list(network.block_repeats),
            "trained_on": {"data": f"unknown here: imported from {options.checkpoint.name}"},
            "licence": "That of the checkpoint; CASME II, SMIC and SAMM allow research use.",
        }
        export([network], 1.0, out, card)
        print(
            f"{out}: {out.stat().st_size / 1e6:.0f} MB. Its probabilities are not calibrated, and "
            "what it was trained on is not known here."
        )

    return exit_status(parser.prog, work)


if __name__ == "__main__":
    raise SystemExit(main())
