"""The networks that see something else than flow pairs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.data import Clips
from models.inputs import FLOW_FIELD, KEY_FRAMES, SEQUENCE
from models.micro_exp_stcnn import MicroExpSTCNN
from models.mmnet import MMNet
from models.srmcl import SRMCL
from models.training import Recipe, fit, predict

# The smallest images that the networks take, so that a step is quick.
SIDE = 32
MAKE = {
    "mmnet": lambda: MMNet(3, SIDE),
    "srmcl": lambda: SRMCL(3, SIDE),
    "micro-exp-stcnn": lambda: MicroExpSTCNN(3),
}
LABELS = np.array([0, 1, 2, 1])


def seen_by(name: str) -> np.ndarray:
    """What the network sees of four clips."""
    random = np.random.default_rng(0)
    if name == "srmcl":
        return random.normal(0, 1, (4, 2, SIDE, SIDE)).astype(np.float16)
    shape = (6, SIDE, SIDE) if name == "mmnet" else SEQUENCE.shape
    return random.integers(0, 256, (4, *shape), np.uint8)


def loss_of(network: torch.nn.Module, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss of a training step; the same parts of the network are left out each time."""
    torch.manual_seed(0)
    if isinstance(network, SRMCL):
        logits, further = network.training_losses(x, labels)
        return functional.cross_entropy(logits, labels) + further
    return functional.cross_entropy(network(x), labels)


@pytest.mark.parametrize("name", MAKE)
def test_a_training_step_lowers_the_loss(name):
    torch.manual_seed(0)
    network, labels = MAKE[name]().train(), torch.from_numpy(LABELS)
    x = torch.from_numpy(seen_by(name)).float()
    before = loss_of(network, x, labels)
    before.backward()
    squares = sum(p.grad.square().sum() for p in network.parameters() if p.grad is not None)
    with torch.no_grad():
        for p in network.parameters():
            if p.grad is not None:
                p -= 0.05 * before.detach() / squares * p.grad
    if isinstance(network, SRMCL):
        network.prototypes.zero_()  # as they were before the step
    after = loss_of(network, x, labels)
    assert 0.01 * before < before - after < 0.2 * before


@pytest.mark.parametrize("name", MAKE)
def test_the_training_of_the_others_trains_it(name):
    seen = seen_by(name)
    clips = Clips(np.array(list("abcd")), np.array(["x"] * 4), np.array(list("abcd")), LABELS, seen)
    torch.manual_seed(0)
    network = MAKE[name]()
    start = [p.detach().clone() for p in network.head.parameters()][-1]
    trained = fit(network, clips, replace(Recipe(), epochs=1, batch=4, average=0.5), seed=0)
    logits = predict(trained, seen)
    assert logits.shape == (4, 3)
    assert np.isfinite(logits).all()
    assert not torch.equal(list(trained.head.parameters())[-1], start)
    if isinstance(trained, SRMCL):
        # Every class was there, so every prototype has a direction.
        assert (trained.prototypes.norm(dim=1) > 0.1).all()


def test_mmnet_sees_no_motion_where_onset_and_apex_are_the_same():
    torch.manual_seed(0)
    network = MMNet(3, SIDE).eval()
    frames = torch.rand(2, 3, SIDE, SIDE) * 255
    same = torch.cat([frames, frames], dim=1)
    with torch.no_grad():
        everywhere = network(same)
        # Without the module that sees the onset itself, two faces at rest are alike.
        network.position.forward = lambda onset: torch.zeros(())
        at_rest = network(same)
        moved = network(torch.cat([frames, frames.roll(1, -1)], dim=1))
    assert not torch.allclose(everywhere[0], everywhere[1], atol=1e-4)
    assert torch.allclose(at_rest[0], at_rest[1], atol=1e-5)
    assert not torch.allclose(moved[0], moved[1], atol=1e-5)


def test_srmcl_hides_three_quarters_of_the_patches_and_not_the_class_token():
    network = SRMCL(3, 128)
    tokens = torch.randn(2, 1 + 64, 768)
    shown, hidden = network._hide(tokens)
    assert hidden.sum(1).tolist() == [48, 48]
    assert not torch.equal(hidden[0], hidden[1])
    assert torch.equal(shown[:, 0], tokens[:, 0])
    assert torch.equal(shown[:, 1:][~hidden], tokens[:, 1:][~hidden])
    assert torch.equal(shown[:, 1:][hidden], network.hidden_token[0].expand(96, -1))


def test_srmcl_answers_without_its_decoder_and_compares_with_class_means():
    torch.manual_seed(0)
    network = SRMCL(2, SIDE)
    flow = torch.randn(3, 2, SIDE, SIDE)
    with torch.no_grad():
        before = network.eval()(flow)
        for p in network.decoder.parameters():
            p.zero_()
        assert torch.equal(network(flow), before)
        first, second = torch.eye(768)[:2]
        labels = torch.tensor([0, 0, 1])
        unknown = network._compare(torch.stack([first, first, second]), labels)
        known = network._compare(torch.stack([first, first, second]), labels)
    assert unknown.item() == pytest.approx(np.log(2), abs=1e-5)
    assert known.item() < 1e-6
    assert torch.allclose(network.prototypes, torch.stack([first, second]))


@pytest.mark.parametrize("planes", [KEY_FRAMES, FLOW_FIELD, SEQUENCE])
def test_a_mirror_turns_motion_to_the_side_round(planes):
    x = torch.randn(2, planes.shape[0], 4, 6)
    seen = planes.mirrored(x)
    assert torch.equal(planes.mirrored(seen), x)
    sign = -1 if planes is FLOW_FIELD else 1
    assert torch.equal(seen[:, 0], sign * x[:, 0].flip(-1))
    assert torch.equal(seen[:, 1], x[:, 1].flip(-1))


def test_planes_are_augmented_as_the_recipe_says():
    inputs = np.random.default_rng(0).normal(0, 1, (3, 2, 16, 16)).astype(np.float16)
    still = replace(Recipe(), mirror=0, jitter=0)

    def augmented(recipe: Recipe) -> torch.Tensor:
        change = FLOW_FIELD.augment(inputs, recipe, torch.Generator().manual_seed(0))
        return change(torch.arange(3))

    plain = torch.from_numpy(inputs).float()
    assert torch.equal(augmented(still), plain)
    assert torch.equal(augmented(replace(still, mirror=1)), FLOW_FIELD.mirrored(plain))
    moved = augmented(replace(still, jitter=1))
    likeness = functional.cosine_similarity(moved.flatten(1), plain.flatten(1))
    assert ((likeness > 0.4) & (likeness < 0.999)).all()


def test_micro_exp_stcnn_does_not_see_brightness_and_contrast():
    torch.manual_seed(0)
    network, x = MicroExpSTCNN().eval(), torch.rand(1, *SEQUENCE.shape) * 100
    with torch.no_grad():
        assert torch.allclose(network(x), network(2 * x + 30), atol=0.01)
