from dataclasses import replace

import numpy as np
import pytest
import torch

from models.causalnet import CausalNet
from models.data import read_release
from models.ststnet import STSTNet
from models.training import (
    Augment,
    Recipe,
    UnitHead,
    class_weights,
    fit,
    predict,
    wrong_apex,
)
from realtime_mer.errors import InputError
from tests.tiny_release import write_release

STILL = replace(Recipe(), mirror=0, reverse=0, key_frames=0, key_frame_error=0, jitter=0, noise=0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return read_release(write_release(tmp_path_factory.mktemp("release"), subjects=8, clips=6))


def augmented(clips, recipe: Recipe, seed: int = 0) -> torch.Tensor:
    """(n, 2, 3, 28, 28): channels strain, v, u about their medians, in units of their spread."""
    augment = Augment(torch.from_numpy(clips.pairs), recipe, torch.Generator().manual_seed(seed))
    x = augment(torch.arange(len(clips))).permute(0, 1, 4, 2, 3)
    x = x - x.flatten(3).median(-1).values[..., None, None]
    return x / x.flatten(3).std(-1)[..., None, None]


def similarity(a: torch.Tensor, b: torch.Tensor) -> float:
    """The least cosine similarity of two of the same clip."""
    return torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1)).min().item()


def test_without_augmentation_only_the_range_changes(clips):
    x = torch.from_numpy(clips.pairs).float().permute(0, 1, 4, 2, 3)
    x = x - x.flatten(3).median(-1).values[..., None, None]
    assert similarity(augmented(clips, STILL)[:, :, 1:], x[:, :, 1:]) > 0.98


def test_a_mirrored_face_moves_the_other_way_only_sideways(clips):
    plain, mirrored = augmented(clips, STILL), augmented(clips, replace(STILL, mirror=1))
    assert similarity(mirrored[:, :, 0], plain[:, :, 0].flip(-1)) > 0.98
    assert similarity(mirrored[:, :, 1], plain[:, :, 1].flip(-1)) > 0.98
    assert similarity(mirrored[:, :, 2], -plain[:, :, 2].flip(-1)) > 0.98


def test_a_clip_played_backwards_rises_by_what_it_fell(clips):
    plain, backwards = augmented(clips, STILL), augmented(clips, replace(STILL, reverse=1))
    assert similarity(backwards[:, 0, 1:], -plain[:, 1, 1:]) > 0.98
    assert similarity(backwards[:, 1, 1:], -plain[:, 0, 1:]) > 0.98


def test_a_wrong_apex_mixes_one_motion_into_the_other(clips):
    recipe = replace(STILL, key_frames=1, key_frame_error=0.6)
    plain, wrong = augmented(clips, STILL), augmented(clips, recipe)
    # One motion of each clip stays as it was: the one that is cut short.
    kept = torch.nn.functional.cosine_similarity(
        wrong[:, :, 1:].flatten(2), plain[:, :, 1:].flatten(2), dim=-1
    )
    assert kept.max(1).values.min() > 0.98
    assert kept.min(1).values.min() < 0.9


def test_an_apex_without_error_changes_nothing(clips):
    same = wrong_apex(clips.pairs, 0.0).astype(int)
    assert np.abs(same - clips.pairs).max() <= 1


@pytest.mark.parametrize(("error", "kept", "mixed"), [(0.4, 1, 0), (-0.4, 0, 1)])
def test_a_late_apex_spoils_the_rise_and_an_early_one_the_fall(clips, error, kept, mixed):
    wrong = wrong_apex(clips.pairs, error)
    assert (wrong.shape, wrong.dtype) == (clips.pairs.shape, np.uint8)
    changed = np.abs(wrong.astype(int) - clips.pairs)[..., 1:].mean((0, 2, 3, 4))
    assert changed[kept] < 1 < changed[mixed]


@pytest.mark.parametrize("change", ["jitter", "noise"])
def test_jitter_and_noise_leave_the_motion_recognizable(clips, change):
    plain, other = augmented(clips, STILL), augmented(clips, replace(STILL, **{change: 1.0}))
    likeness = torch.nn.functional.cosine_similarity(
        other[:, :, 1:].flatten(1), plain[:, :, 1:].flatten(1)
    )
    assert 0.3 < likeness.mean() < 0.98


def test_augmented_pairs_are_bytes(clips):
    augment = Augment(torch.from_numpy(clips.pairs), Recipe(), torch.Generator().manual_seed(0))
    x = augment(torch.arange(len(clips)))
    assert x.shape == clips.pairs.shape
    assert x.min() >= 0
    assert x.max() <= 255
    assert torch.equal(x, x.round())


def test_class_weights_balance_without_changing_the_mean():
    labels = np.array([0] * 8 + [1] * 4 + [2] * 2)
    full = class_weights(labels, 1.0)
    np.testing.assert_allclose(full * torch.tensor([8, 4, 2]), full[0] * 8)
    assert class_weights(labels, 0.0).tolist() == [1, 1, 1]
    assert full[torch.from_numpy(labels)].mean().item() == pytest.approx(1)


def test_the_same_seed_gives_the_same_network(clips):
    answers = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        network = fit(STSTNet(), clips, replace(Recipe(), epochs=1, batch=16), seed)
        answers.append(predict(network, clips.pairs))
    assert np.array_equal(answers[0], answers[1])
    assert not np.array_equal(answers[0], answers[2])


def test_compact_learns_to_tell_the_tiny_releases_classes_apart(clips):
    train, test = clips.without(["p0", "p1"]), clips.without([f"p{i}" for i in range(2, 8)])
    torch.manual_seed(0)
    network = fit(CausalNet.compact(), train, replace(Recipe(), epochs=25, batch=12), seed=0)
    right = predict(network, test.pairs).argmax(1) == test.labels
    assert right.mean() > 0.8


def test_the_loss_of_action_units_counts_what_is_known_only():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    head = UnitHead(network, classes=3)
    with torch.no_grad():
        head.linear.weight.zero_()
        head.linear.bias.copy_(torch.linspace(-2, 2, 12))
    units = torch.full((2, 12), -1)
    units[0, 0], units[0, 11] = 1, 1  # of the second clip nothing is known
    with head.watching():
        network(torch.ones(2, 2, 2))
    # -log sigmoid(-2) and -log sigmoid(2), their mean.
    assert head.loss(units).item() == pytest.approx((2.126928 + 0.126928) / 2, abs=1e-5)
    assert head.loss(torch.full((2, 12), -1)).item() == 0


def test_a_second_head_needs_a_linear_layer_at_the_end():
    with pytest.raises(InputError, match="linear layer"):
        UnitHead(torch.nn.Linear(4, 5), classes=3)


def test_action_units_leave_the_form_of_the_network_as_it_was(clips):
    units = np.zeros((len(clips), 12), np.int8)
    units[clips.labels == 1, 8] = 1
    recipe = replace(Recipe(), epochs=2, batch=8, average=0)
    answers = {}
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        network = fit(
            STSTNet(), replace(clips, units=units), replace(recipe, action_units=weight), 0
        )
        assert network.state_dict().keys() == STSTNet().state_dict().keys()
        answers[weight] = predict(network, clips.pairs)
    assert answers[0].shape == answers[1].shape == (len(clips), 3)
    assert not np.allclose(answers[0], answers[1], atol=1e-4)
