"""Training of the networks: augmentation of flow pairs, and a fixed schedule.

Nothing here sees held-out clips. The schedule is fixed beforehand and the weights are an
exponential moving average, so there is no epoch to choose.

Shapes in comments: n clips; the 2 after it are rise and fall.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.baseline import Baseline
from models.data import ACTION_UNITS, LABELS, Clips
from models.inputs import Planes
from models.views import Views, mirrored
from realtime_mer.errors import InputError

# Strengths of the augmentations, chosen by hand; docs/recognition.md measures what each is worth.
# Registration: turn in radians, scale as a fraction, shift in halves of the image's side.
_TURN_RAD = 0.07
_SCALE = 0.07
_SHIFT = 0.08
# False motion, in spreads of the true one: noise, and tilt from the middle to the edge. False
# strain, of a range of 1.
_FALSE_MOTION = 0.35
_TILT = 0.4
_FALSE_STRAIN = 0.08
# Ends of a channel's range in bytes: scaled to 0 and 255 before, they move inwards in reduction.
_LOW_END = (0, 25)
_HIGH_END = (215, 255)
_PLANES_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training schedule; the defaults are those of the deployed weights.

    docs/recognition.md says how they were chosen. Probabilities hold for a clip each time that the
    network sees it.

    Attributes:
        epochs: Passes through the clips.
        batch: Clips a step.
        learning_rate: The highest of the one-cycle schedule.
        weight_decay: Of weights with two dimensions or more.
        label_smoothing: Share of the target that is spread over all classes.
        average: Decay of the moving average of the weights, a step.
        mirror: Probability of the mirrored face.
        reverse: Probability of the clip played backwards; 0, since it costs more than it brings.
        key_frames: Probability of a wrong apex.
        key_frame_error: The largest error of a wrong apex, in half-windows.
        jitter: Strength of another registration.
        noise: Strength of false motion.
        balance: Strength of the class weights, as in `class_weights`.
        action_units: Weight of the loss of a second head, which learns the clips' action units and
            is dropped after training; 0 for none.
        drawn: Weight of the loss of drawn clips (`Clips.drawn`), if there are any.
        drawn_batch: Drawn clips a step, beside `batch` others.
    """

    epochs: int = 40
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    average: float = 0.98
    mirror: float = 0.5
    reverse: float = 0.0
    key_frames: float = 0.5
    key_frame_error: float = 0.5
    jitter: float = 1.0
    noise: float = 1.0
    balance: float = 0.5
    action_units: float = 0.0
    drawn: float = 0.2
    drawn_batch: int = 16


def _uniform(shape: tuple[int, ...], low: float, high: float, random: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=random) * (high - low) + low


def motions_of(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Flow pairs (n, 2, 28, 28, 3) as motion (n, 2, (v, u), 28, 28) and strain (n, 2, 1, 28, 28).

    Min-max scaling hides the zero and the scale of a channel: the median stands for the zero, the
    spread for the scale.
    """
    x = pairs.float().permute(0, 1, 4, 2, 3)  # (n, 2, 3, 28, 28)
    strain, motion = x[:, :, :1] / 255, x[:, :, 1:]
    zero = motion.flatten(3).median(-1).values  # (n, 2, 2)
    motion = motion - zero[..., None, None]
    spread = motion.flatten(3).std(-1)  # (n, 2, 2)
    return motion / (spread + 1)[..., None, None], strain


def mix_key_frames(
    motion: Tensor, strain: Tensor, error: Tensor, late: Tensor
) -> tuple[Tensor, Tensor]:
    """Motions and strains of windows whose apex is wrong by the fraction `error` of a half-window.

    Late by r, the pair (A, B) becomes (A + rB, (1 - r)B); early by r, ((1 - r)A, rA + B). Min-max
    scaling hides the factor (1 - r).

    Args:
        motion: (n, 2, 2, 28, 28), as `motions_of` returns it.
        strain: (n, 2, 1, 28, 28), likewise.
        error: A number, or one a clip (n, 1, 1, 1, 1).
        late: Whether the apex is late, likewise.
    """
    a, b = motion[:, :1], motion[:, 1:]
    first = torch.where(late, a + error * b, a)
    second = torch.where(late, b, b + error * a)
    sa, sb = strain[:, :1], strain[:, 1:]
    strain_first = torch.where(late, (sa + error * sb) / (1 + error), sa)
    strain_second = torch.where(late, sb, (sb + error * sa) / (1 + error))
    return torch.cat([first, second], 1), torch.cat([strain_first, strain_second], 1)


def wrong_apex(pairs: np.ndarray, error: float) -> np.ndarray:
    """The flow pairs that a wrong apex gives. Every channel keeps its range.

    Args:
        pairs: (n, 2, 28, 28, 3) uint8.
        error: Of the apex in half-windows, late above 0 and early below.

    Returns:
        As `pairs`.
    """
    raw = torch.from_numpy(pairs)
    motion, strain = mix_key_frames(
        *motions_of(raw), torch.tensor(abs(error)), torch.tensor(error > 0)
    )
    mixed = torch.cat([strain, motion], dim=2)  # (n, 2, 3, 28, 28)
    x = raw.float().permute(0, 1, 4, 2, 3)  # (n, 2, 3, 28, 28)
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
    mixed = mixed - mixed.amin((-2, -1), keepdim=True)
    mixed = mixed / (mixed.amax((-2, -1), keepdim=True) + 1e-6) * (high - low) + low
    return mixed.round().to(torch.uint8).permute(0, 1, 3, 4, 2).numpy()


class Augment:
    """Plausible other recordings of the same motions.

    Args:
        pairs: Flow pairs (n, 2, 28, 28, 3), 0..255.
        recipe: How much to change.
        random: Where the changes are drawn from.
    """

    def __init__(self, pairs: Tensor, recipe: Recipe, random: torch.Generator) -> None:
        self.recipe = recipe
        self.random = random
        self.motion, self.strain = motions_of(pairs)

    def _chance(self, n: int, probability: float) -> Tensor:
        return (torch.rand(n, generator=self.random) < probability).reshape(n, 1, 1, 1, 1)

    def __call__(self, chosen: Tensor) -> Tensor:
        """The flow pairs of these indices, changed at random: (n, 2, 28, 28, 3), 0..255."""
        recipe, n = self.recipe, len(chosen)
        motion, strain = self.motion[chosen], self.strain[chosen]

        flip = self._chance(n, recipe.mirror)
        sign = torch.tensor([1.0, -1.0]).reshape(1, 1, 2, 1, 1)  # of v and u
        motion = torch.where(flip, motion.flip(-1) * sign, motion)
        strain = torch.where(flip, strain.flip(-1), strain)

        # Played backwards, the fall becomes the rise, in the other direction.
        back = self._chance(n, recipe.reverse)
        motion = torch.where(back, -motion.flip(1), motion)
        strain = torch.where(back, strain.flip(1), strain)

        wrong = self._chance(n, recipe.key_frames)
        error = _uniform((n, 1, 1, 1, 1), 0, recipe.key_frame_error, self.random)
        motion_wrong, strain_wrong = mix_key_frames(motion, strain, error, self._chance(n, 0.5))
        motion = torch.where(wrong, motion_wrong, motion)
        strain = torch.where(wrong, strain_wrong, strain)

        if recipe.jitter:
            moved = self._register(torch.cat([strain, motion], dim=2), recipe.jitter)
            strain, motion = moved[:, :, :1], moved[:, :, 1:]
        if recipe.noise:
            motion = motion + self._false_motion(n) * recipe.noise
            strain = strain + self._smooth_noise((n, 2, 1)).abs() * _FALSE_STRAIN * recipe.noise
        scaled = self._to_bytes(torch.cat([strain, motion], dim=2))  # (n, 2, 3, 28, 28)
        return scaled.permute(0, 1, 3, 4, 2)

    def _register(self, images: Tensor, amount: float) -> Tensor:
        """Images (n, 2, 3, 28, 28) of the face registered a little differently."""
        n = len(images)
        angle = _uniform((n,), -_TURN_RAD, _TURN_RAD, self.random) * amount
        scale = 1 + _uniform((2, n), -_SCALE, _SCALE, self.random) * amount
        shift = _uniform((2, n), -_SHIFT, _SHIFT, self.random) * amount
        row1 = torch.stack([scale[0] * angle.cos(), -angle.sin(), shift[0]], -1)
        row2 = torch.stack([angle.sin(), scale[1] * angle.cos(), shift[1]], -1)
        grid = functional.affine_grid(
            torch.stack([row1, row2], 1), [n, 1, *images.shape[-2:]], align_corners=False
        )
        moved = functional.grid_sample(  # of (n, 6, 28, 28)
            images.flatten(1, 2), grid, padding_mode="border", align_corners=False
        )
        return moved.unflatten(1, images.shape[1:3])  # (n, 2, 3, 28, 28)

    def _smooth_noise(self, shape: tuple[int, ...]) -> Tensor:
        """Noise (*shape, 28, 28) of random grain and about unit spread."""
        coarse = torch.randn(math.prod(shape), 1, 9, 9, generator=self.random)
        # 1.5 restores the spread that interpolation takes.
        smooth = functional.interpolate(coarse, size=(28, 28), mode="bilinear") * 1.5
        fine = torch.randn(smooth.shape, generator=self.random)
        share = _uniform((len(smooth), 1, 1, 1), 0, 1, self.random)
        mixed = share * smooth + (1 - share) * fine  # (product of shape, 1, 28, 28)
        return mixed.reshape(*shape, 28, 28)

    def _false_motion(self, n: int) -> Tensor:
        """(n, 2, 2, 28, 28): what sensor noise and imperfect registration add to the motion."""
        amount = _uniform((n, 2, 1, 1, 1), 0, _FALSE_MOTION, self.random)
        across = torch.linspace(-1, 1, 28)
        along = across.reshape(-1, 1)  # (28, 1)
        tilt = _uniform((2, n, 2, 2, 1, 1), -_TILT, _TILT, self.random)
        return amount * self._smooth_noise((n, 2, 2)) + tilt[0] * across + tilt[1] * along

    def _to_bytes(self, x: Tensor) -> Tensor:
        """Back to the release's form: each channel scaled to nearly 0..255, and rounded."""
        low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
        bottom = _uniform(low.shape, *_LOW_END, self.random)
        top = _uniform(low.shape, *_HIGH_END, self.random)
        return ((x - low) / (high - low + 1e-6) * (top - bottom) + bottom).round()


def class_weights(labels: np.ndarray, strength: float, classes: int = len(LABELS)) -> Tensor:
    """(classes,) weights against class imbalance, with a mean of 1 over the clips.

    Args:
        labels: (n,) of the clips.
        strength: 0 weighs all clips alike, 1 all classes.
        classes: How many there are.
    """
    counts = np.bincount(labels, minlength=classes).clip(1)
    weights = (len(labels) / counts) ** strength
    mean = weights[labels].mean() if len(labels) else 1.0
    return torch.tensor(weights / mean, dtype=torch.float32)


class UnitHead(nn.Module):
    """A second head: action units, from what the network's last layer makes its logits of.

    It stands beside the network, which stays as it is.

    Raises:
        InputError: The network does not end in a linear layer.
    """

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        last = [m for m in network.modules() if isinstance(m, nn.Linear)][-1:]
        if not last or last[0].out_features != classes:
            raise InputError("--action-units needs a network that ends in a linear layer")
        self.linear = nn.Linear(last[0].in_features, len(ACTION_UNITS))
        # In a list, so that the network's layer is no part of this module.
        self._watched, self._seen = [last[0]], torch.empty(0)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, it sees what the network's last layer sees."""

        def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._seen = inputs[0]

        hook = self._watched[0].register_forward_pre_hook(keep)
        try:
            yield
        finally:
            hook.remove()

    def loss(self, units: Tensor) -> Tensor:
        """Cross-entropy of what is known of `Clips.units` (n, 12), for the clips seen last."""
        known = (units >= 0).float()
        answers = self.linear(self._seen)  # (n, 12)
        each = functional.binary_cross_entropy_with_logits(
            answers, units.float(), known, reduction="sum"
        )
        return each / known.sum().clamp(min=1)


def fit(
    network: nn.Module,
    clips: Clips,
    recipe: Recipe,
    seed: int,
    after_epoch: Callable[[int, nn.Module], object] | None = None,
) -> nn.Module:
    """Trains a network; returns its moving average, in evaluation mode.

    The same seed gives the same network on the same machine and number of threads.

    Args:
        network: Changed in place. A classical baseline learns at once, without a schedule.
        clips: To train on; `pairs` holds what the network sees. Drawn clips are seen a few at a
            time beside the others; an epoch is a pass through the others.
        recipe: The schedule.
        seed: Of augmentation, order and dropout.
        after_epoch: Called with the number of the epoch and the average so far.
    """
    if isinstance(network, Baseline):
        network.learn(clips)
        if after_epoch:
            after_epoch(0, network)
        return network
    random = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device)
    pairs, labels = torch.from_numpy(clips.pairs), torch.from_numpy(clips.labels)
    planes: Planes | None = getattr(network, "planes", None)
    augment: Callable[[Tensor], Tensor] = (
        planes.augment(clips.pairs, recipe, random) if planes else Augment(pairs, recipe, random)
    )
    views = _views_of(network).to(device)
    # A network with losses of its own.
    training_losses = getattr(network, "training_losses", None)
    real, drawn = (torch.from_numpy(np.flatnonzero(of)) for of in (~clips.drawn, clips.drawn))
    weights, drawn_weights = (
        class_weights(clips.labels[of], recipe.balance, len(clips.classes)).to(device)
        for of in (real.numpy(), drawn.numpy())
    )
    units, head = None, None
    if recipe.action_units and clips.units is not None:
        units = torch.from_numpy(clips.units).to(device)
        head = UnitHead(network, len(clips.classes)).to(device)
    learned = [*network.parameters(), *(head.parameters() if head else ())]
    decay = [p for p in learned if p.ndim > 1]
    rest = [p for p in learned if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": decay, "weight_decay": recipe.weight_decay},
            {"params": rest, "weight_decay": 0},
        ],
        lr=recipe.learning_rate,
        betas=(0.9, 0.99),
        fused=True,
    )
    steps_an_epoch = max(len(real) // recipe.batch, 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, recipe.epochs * steps_an_epoch, pct_start=0.2
    )
    average = torch.optim.swa_utils.AveragedModel(
        network,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(recipe.average),
        use_buffers=True,
    )
    for epoch in range(recipe.epochs):
        network.train()
        order = real[torch.randperm(len(real), generator=random)]
        for step in range(steps_an_epoch):
            chosen = order[step * recipe.batch : (step + 1) * recipe.batch]
            seen, target = views(augment(chosen).to(device)), labels[chosen].to(device)
            further = torch.zeros((), device=device)
            with head.watching() if head else contextlib.nullcontext():
                if training_losses:
                    logits, further = training_losses(seen, target)
                else:
                    logits = network(seen)
            if head and units is not None:
                further = further + recipe.action_units * head.loss(units[chosen])
            loss = further + functional.cross_entropy(
                logits, target, weights, label_smoothing=recipe.label_smoothing
            )
            if len(drawn):
                few = drawn[torch.randint(len(drawn), (recipe.drawn_batch,), generator=random)]
                with _fixed_norms(network):
                    logits = network(views(augment(few).to(device)))
                loss = loss + recipe.drawn * functional.cross_entropy(
                    logits,
                    labels[few].to(device),
                    drawn_weights,
                    label_smoothing=recipe.label_smoothing,
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(network)
        if after_epoch:
            after_epoch(epoch, average.module.eval())
    return average.module.cpu().eval()


@contextlib.contextmanager
def _fixed_norms(network: nn.Module) -> Iterator[None]:
    """Inside, batch norms scale by what they have seen before, and learn no scales."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def _views_of(network: nn.Module) -> nn.Module:
    """From flow pairs to what the network sees; planes stay as they are."""
    if getattr(network, "planes", None):
        return nn.Identity()
    return Views(composites=getattr(network, "composites", True))


@torch.no_grad()
def predict(network: nn.Module, pairs: np.ndarray) -> np.ndarray:
    """Logits (n, classes) of flow pairs (n, 2, 28, 28, 3), as the deployed weights give them.

    They are the mean over a pair and its mirror image: both show the same expression, so where the
    network's answers differ, it is noise. Planes stand in for the pairs where the network sees
    those. A classical baseline answers without a mirror.
    """
    if isinstance(network, Baseline):
        return network.logits(pairs)
    device = next(network.parameters()).device
    planes: Planes | None = getattr(network, "planes", None)
    mirror = planes.mirrored if planes else mirrored
    views = _views_of(network).to(device)
    network.eval()
    answers = []
    # Of large inputs, a few at a time.
    for seen in torch.from_numpy(pairs).split(_PLANES_AT_ONCE if planes else max(len(pairs), 1)):
        part = seen.to(device)
        answers.append((network(views(part)) + network(views(mirror(part)))) / 2)
    return torch.cat(answers).cpu().numpy()
