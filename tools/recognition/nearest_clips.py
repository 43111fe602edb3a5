"""Shows which training clips teach a network what it makes of drawn expressions.

    python tools/recognition/nearest_clips.py FILE.npz --data DIR --checkpoint FILE.pt

For each combination of action units in FILE.npz (tools/recognition/drawn_clips.py), it finds the
training clips that lie nearest to its clips in the space of what the network's last layer sees, by
the angle about the mean of all training clips. A second table tells how the face moves in the
classes of each set and in the drawn clips: the mean vertical motion of some parts of the face from
onset to apex, downwards, in spreads of the whole field.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.data import LABELS, Clips, read_release, sets_of
from models.training import motions_of
from models.views import Views, mirrored
from realtime_mer.errors import InputError
from tools.command import command_parser, exit_status
from tools.recognition.drawn_clips import read_drawn_clips
from tools.recognition.export import NETWORK, load_checkpoint, networks_of

# Training clips that are looked at for each drawn one, and names that are shown.
_NEAREST = 10
_NAMES = 4
# Rows and columns of the flow image in which an upright face has these parts.
PARTS = {
    "brows": (slice(5, 9), slice(5, 26)),
    "lower lids": (slice(12, 16), slice(5, 26)),
    "cheeks": (slice(16, 20), slice(4, 27)),
    "corners": (slice(20, 24), slice(8, 24)),
    "lower lip": (slice(23, 26), slice(13, 19)),
}


@torch.no_grad()
def seen_last(networks: Sequence[nn.Module], pairs: np.ndarray) -> np.ndarray:
    """(n, networks x inputs): what the last layers of compact networks see, as
    `models.training.predict` averages it over the mirror image."""
    views, columns = Views(), []
    x = torch.from_numpy(pairs)
    for network in networks:
        last = [m for m in network.eval().modules() if isinstance(m, nn.Linear)][-1]
        kept: list[Tensor] = []

        def keep(_: nn.Module, inputs: tuple[Tensor, ...], kept: list[Tensor] = kept) -> None:
            kept.append(inputs[0])

        hook = last.register_forward_pre_hook(keep)
        network(views(x))
        network(views(mirrored(x)))
        hook.remove()
        columns.append((kept[0] + kept[1]) / 2)
    return torch.cat(columns, 1).numpy()


def nearest(drawn: np.ndarray, trained: np.ndarray, count: int = _NEAREST) -> np.ndarray:
    """(n, count) indices of the rows of `trained` (m, d) nearest to each of `drawn` (n, d)."""
    mean = trained.mean(0)
    units = [(x - mean) / np.linalg.norm(x - mean, axis=1, keepdims=True) for x in (drawn, trained)]
    return np.argsort(-(units[0] @ units[1].T), axis=1)[:, :count]


def part_motions(pairs: np.ndarray) -> list[float]:
    """The mean motion of each of `PARTS` downwards, in spreads of the field."""
    motion, _ = motions_of(torch.from_numpy(pairs))
    down = motion[:, 0, 0].numpy()  # (n, 28, 28)
    return [float(down[:, rows, columns].mean()) for rows, columns in PARTS.values()]


def _motion_row(table: Table, name: str, pairs: np.ndarray) -> None:
    table.add_row(name, *(f"{value:+.2f}" for value in part_motions(pairs)))


def main(arguments: list[str] | None = None) -> int:
    parser = command_parser(__doc__, __file__)
    parser.add_argument("clips", type=Path, metavar="FILE.npz")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the flow release")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="FILE.pt",
        help="networks that tools/recognition/train.py --checkpoint kept",
    )
    options = parser.parse_args(arguments)

    def work() -> None:
        drawn, trained = read_drawn_clips(options.clips), read_release(options.data)
        checkpoint = load_checkpoint(options.checkpoint)
        if checkpoint["card"].get("network", NETWORK) != NETWORK:
            raise InputError(f"{options.checkpoint} holds no {NETWORK}: give one that does")
        networks = networks_of(checkpoint)
        places = nearest(seen_last(networks, drawn.pairs), seen_last(networks, trained.pairs))
        console = Console()
        console.print(_neighbours(drawn.units, places, trained))
        motions = Table("", *PARTS, title="motion downwards, in spreads of the field")
        for name in sets_of(trained):
            for number, label in enumerate(LABELS):
                of = (trained.sets == name) & (trained.labels == number)
                if of.any():
                    _motion_row(motions, f"{name}, {label}", trained.pairs[of])
        for units in sorted(set(map(str, drawn.units))):
            _motion_row(motions, units, drawn.pairs[drawn.units == units])
        console.print(motions)

    return exit_status(parser.prog, work)


def _neighbours(units: np.ndarray, places: np.ndarray, trained: Clips) -> Table:
    table = Table("", *LABELS, "most often", title=f"the {_NEAREST} nearest training clips")
    for name in sorted(set(map(str, units))):
        near = places[units == name].ravel()
        shares = [f"{(trained.labels[near] == n).mean():.0%}" for n in range(len(LABELS))]
        often = [
            f"{trained.names[i]} ({LABELS[trained.labels[i]]})"
            for i, _ in Counter(near.tolist()).most_common(_NAMES)
        ]
        table.add_row(name, *shares, ", ".join(often))
    return table


if __name__ == "__main__":
    raise SystemExit(main())
