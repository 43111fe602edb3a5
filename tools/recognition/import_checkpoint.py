"""Makes an ONNX file of an official CausalNet checkpoint, for the runtime to load.

    python tools/recognition/import_checkpoint.py OFFICIAL.pth --out causalnet-released.onnx

The checkpoint is the state dict that the released code saves, with block_repeats 3, 3, 9 or any
other. A block of its encoders holds one token, so that attention there is a linear map: it is
folded into one convolution, which leaves three quarters of the weights and the same answers. The
file takes flow pairs and gives probabilities as all weights here do; a card is written beside it.
Only tensors are read from the checkpoint, never code.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.causalnet import BlockAttention, CausalNet, ReleasedCausalNet
from models.data import LABELS
from realtime_mer.errors import InputError
from tools.recognition.export import export

REMEDY = "give the state dict of a CausalNet that the released code trained"
LEVELS = 3
# A released checkpoint may be wrapped by the trainer that saved it.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name."""
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
    """How many layers each level of the encoders has, counted by their names."""
    found = [re.match(r"layers\.(\d+)\.0\.layers\.(\d+)\.", name) for name in state]
    layers = {(int(m[1]), int(m[2])) for m in found if m}
    return tuple(sum(level == own for own, _ in layers) for level in range(LEVELS))


def load_official(path: Path) -> ReleasedCausalNet:
    """The released network with the weights of an official checkpoint."""
    state = read_state(path)
    repeats = block_repeats(state)
    if 0 in repeats:
        raise InputError(f"{path} holds no CausalNet, its encoders are missing: {REMEDY}")
    # Nothing is drawn or allocated for weights that are replaced at once.
    with torch.device("meta"):
        network = CausalNet.released(repeats)  # type: ignore[arg-type]
    expected = network.state_dict()
    wrong = sorted(set(expected) ^ set(state))
    wrong += [n for n in expected if n in state and expected[n].shape != state[n].shape]
    if wrong:
        raise InputError(
            f"{path} is not a released CausalNet: {len(wrong)} entries are missing, foreign or of "
            f"another shape, such as {wrong[0]}: {REMEDY}"
        )
    strange = [n for n in state if not torch.isfinite(state[n]).all()]
    if strange:
        raise InputError(f"{path} holds numbers that are not finite in {strange[0]}: {REMEDY}")
    network.load_state_dict({n: v.float() for n, v in state.items()}, assign=True)
    return network.eval()


@torch.no_grad()
def fold_single_token_attention(network: nn.Module) -> None:
    """Replace attention over one token, which gives the value whatever the score, by its map."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BlockAttention):
                setattr(module, name, _folded(child))


def _folded(attention: BlockAttention) -> nn.Conv2d:
    value = attention.to_qkv.weight.flatten(1).chunk(3)[2]
    out = attention.to_out[0]
    dim = len(out.weight)
    # The product in double, so that folding rounds once.
    product = (out.weight.flatten(1).double() @ value.double()).float()
    with torch.device("meta"):
        folded = nn.Conv2d(dim, dim, 1)
    folded.weight = nn.Parameter(product.reshape(dim, dim, 1, 1))
    folded.bias = nn.Parameter(out.bias.detach().clone())
    return folded


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="official checkpoint (.pth)")
    parser.add_argument("--out", type=Path, help="ONNX file to write; default: beside it")
    options = parser.parse_args(arguments)
    out = options.out or options.checkpoint.with_suffix(".onnx")
    try:
        network = load_official(options.checkpoint)
        repeats = [len(transformer.layers) for transformer, _ in network.layers]
        fold_single_token_attention(network)
        card = {
            "name": f"causalnet-released-{options.checkpoint.stem}",
            "labels": list(LABELS),
            "block_repeats": repeats,
            "trained_on": {"data": f"unknown here: imported from {options.checkpoint.name}"},
            "licence": "That of the checkpoint; CASME II, SMIC and SAMM allow research use.",
        }
        export([network], 1.0, out, card)
    except InputError as error:
        print(f"import_checkpoint: {error}", file=sys.stderr)
        return 2
    print(
        f"{out}: {out.stat().st_size / 1e6:.0f} MB. Its probabilities are not calibrated, and what "
        "it was trained on is not known here."
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
