"""The spotting networks: causal, in an ensemble, and in the form that the runtime reads."""

import numpy as np
import pytest
import torch

from models.spotter import (
    MEMBERS,
    OUTPUTS,
    WIDTH,
    Member,
    SpotterEnsemble,
    SpotterNetwork,
    StreamSpotter,
)
from realtime_mer.spotting.signals import CHANNELS


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """On networks as small as these, more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Steps that an output of the first of `MEMBERS` depends on: those it looks back on, and its own.
SEEN = 1 + 2 * sum(MEMBERS[0].dilations)


def trained(config: Member = MEMBERS[0]) -> SpotterNetwork:
    """A network whose statistics are not those of a new layer."""
    network = SpotterNetwork(CHANNELS, config)
    for _ in range(3):
        network(torch.randn(8, 100, CHANNELS) * 2 + 0.3)
    return network.eval()


@pytest.fixture(scope="module")
def network() -> SpotterNetwork:
    torch.manual_seed(0)
    return trained()


@pytest.fixture(scope="module")
def ensemble() -> SpotterEnsemble:
    torch.manual_seed(1)
    return SpotterEnsemble([trained(config) for config in MEMBERS]).eval()


@pytest.fixture(scope="module")
def signals() -> torch.Tensor:
    return torch.randn(2, 160, CHANNELS, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("cut", [0, 1, 50, 159])
def test_the_future_does_not_change_the_past(network, signals, cut):
    other = signals.clone()
    other[:, cut:] = 5 * torch.randn(2, 160 - cut, CHANNELS)
    with torch.no_grad():
        before, after = network(signals), network(other)
    torch.testing.assert_close(after[:, :cut], before[:, :cut], rtol=0, atol=1e-5)
    assert (after[:, cut] - before[:, cut]).abs().max() > 1e-3


def test_the_last_step_depends_on_exactly_the_receptive_steps(network, signals):
    signals = signals.clone().requires_grad_()
    network(signals)[:, -1].sum().backward()
    seen = signals.grad.abs().sum((0, 2)) > 0
    assert not seen[:-SEEN].any()
    assert seen[-SEEN]
    with torch.no_grad():
        whole, enough = network(signals)[:, -1], network(signals[:, -SEEN:])[:, -1]
    torch.testing.assert_close(enough, whole, rtol=0, atol=1e-5)


def test_outputs_are_logits_times_and_a_fraction(network, signals):
    with torch.no_grad():
        out = network(100 * signals)
    assert out.shape == (2, 160, OUTPUTS)
    assert ((out[..., 4] >= 0) & (out[..., 4] <= 1)).all()
    # A new network answers with common values: a tenth of a second ago, 0.3 s long.
    torch.manual_seed(1)
    with torch.no_grad():
        new = SpotterNetwork(CHANNELS).eval()(torch.zeros(1, 80, CHANNELS))
    assert new[..., 2].mean() == pytest.approx(0.1, abs=0.1)
    assert new[..., 3].mean() == pytest.approx(0.3, abs=0.15)


def test_an_ensemble_averages_its_members(ensemble, signals):
    with torch.no_grad():
        together = ensemble(signals)
        alone = torch.stack([member(signals) for member in ensemble.members])
    logits = [0, 1, 5]
    torch.testing.assert_close(together[..., logits], alone.mean(0)[..., logits])
    assert (together >= alone.amin(0) - 1e-5).all()
    assert (together <= alone.amax(0) + 1e-5).all()


def test_offsets_are_weighted_by_the_probability_of_an_end():
    class Constant(torch.nn.Module):
        def __init__(self, end_logit: float, since_s: float) -> None:
            super().__init__()
            self.outputs = torch.tensor([end_logit, 0.0, since_s, 0.3, 0.5, 0.0])

        def forward(self, signals):
            return self.outputs.expand(1, 2, OUTPUTS)

    ensemble = SpotterEnsemble([Constant(5.0, 0.1), Constant(-9.0, 0.9)])
    outputs = ensemble(torch.zeros(1, 2, CHANNELS))
    assert outputs[0, 0, 0] == pytest.approx(-2.0)
    assert outputs[0, 0, 2] == pytest.approx(0.1, abs=1e-3)


def test_the_stream_gives_the_ensembles_outputs_step_by_step_as_probabilities(ensemble, signals):
    patterns = torch.arange(6.0).reshape(3, 2)
    stream = StreamSpotter(ensemble, patterns).eval()
    steps_of_past = 2 * sum(max((config.dilations for config in MEMBERS), key=len))
    assert stream.rows == len(MEMBERS) * steps_of_past
    state, steps = torch.zeros(stream.rows, WIDTH), []
    with torch.no_grad():
        for step in signals[0]:
            outputs, state, returned = stream(step[None], state)
            steps.append(outputs.numpy())
        whole = ensemble(signals[:1])[0].numpy()
    torch.testing.assert_close(returned, patterns)
    steps = np.concatenate(steps)
    assert steps.shape == (160, OUTPUTS)
    logits = [0, 1, 5]
    np.testing.assert_allclose(steps[:, logits], 1 / (1 + np.exp(-whole[:, logits])), atol=1e-5)
    np.testing.assert_allclose(steps[:, 2:5], whole[:, 2:5], atol=1e-5)


def test_members_whose_blocks_do_not_match_cannot_be_exported():
    members = [SpotterNetwork(CHANNELS, Member(dilations=d)) for d in ((1, 2, 4), (2, 1))]
    with pytest.raises(ValueError, match="not some of the longest one's"):
        StreamSpotter(SpotterEnsemble(members), torch.zeros(3, 2))


def test_a_network_learns_a_delayed_signal():
    torch.manual_seed(0)
    network = SpotterNetwork(CHANNELS, Member(dropout=0.0))
    x = torch.randn(4, 40, CHANNELS)
    # The target is what channel 3 did five steps before, since ends are reported late as well.
    wanted = (torch.roll(x[..., 3], 5, 1) > 0.5).float()[:, 10:]
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(x)[:, 10:, 0], wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]
