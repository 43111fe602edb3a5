import pytest
import torch
from torch import Tensor, nn

from models.causalnet import CausalNet, CompactCausalNet
from models.ensemble import Ensemble


def random_network(seed: int, **settings) -> CompactCausalNet:
    """A network with no weight and no statistic at its initial value."""
    torch.manual_seed(seed)
    network = CompactCausalNet(**settings).eval()
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif name.endswith("running_mean") or (value.ndim == 1 and value.is_floating_point()):
            value.add_(0.3 * torch.randn_like(value))
    return network


def composites(n: int) -> Tensor:
    return torch.randint(0, 256, (n, 4, 3, 28, 28)).float()


@pytest.mark.parametrize("members", [1, 2, 5])
@pytest.mark.parametrize("n", [1, 3])
@torch.no_grad()
def test_an_ensemble_answers_with_the_mean_of_its_members(members, n):
    networks = [random_network(seed) for seed in range(members)]
    x = composites(n)
    each = torch.stack([network(x) for network in networks])
    torch.testing.assert_close(Ensemble(networks)(x), each.mean(0), atol=1e-5, rtol=1e-5)
    if members > 1:
        assert (each[0] - each[1]).abs().max() > 1e-2  # the members differ


@torch.no_grad()
def test_other_configurations_can_be_stacked():
    networks = [random_network(s, dim=16, width=8, heads=2, depth=2, strain=True) for s in range(2)]
    x = composites(2)
    mean = (networks[0](x) + networks[1](x)) / 2
    torch.testing.assert_close(Ensemble(networks)(x), mean, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_members_are_neither_changed_nor_shared():
    networks, x = [random_network(0), random_network(1)], composites(1)
    before = networks[0](x)
    ensemble = Ensemble(networks)
    answer = ensemble(x)
    torch.testing.assert_close(networks[0](x), before, atol=0, rtol=0)
    for weight in networks[0].parameters():
        weight.zero_()
    torch.testing.assert_close(ensemble(x), answer, atol=0, rtol=0)


def test_an_ensemble_holds_every_weight_of_every_member():
    networks = [random_network(seed) for seed in range(3)]
    count = sum(weight.numel() for network in networks for weight in network.parameters())
    assert sum(weight.numel() for weight in Ensemble(networks).parameters()) == count


def test_members_may_differ_in_dropout():
    Ensemble([random_network(0), random_network(1, dropout=0.4, encoder_dropout=0.1)])


def with_another_gamma() -> CompactCausalNet:
    network = random_network(1)
    network.cab.layers[0][1].P_matrix.mul_(2)
    return network


def with_a_convolution() -> CompactCausalNet:
    network = random_network(1)
    network.mlp_head.append(nn.Conv1d(3, 3, 1))
    return network


@pytest.mark.parametrize(
    "others",
    [
        lambda: [random_network(0), random_network(1, width=8)],
        lambda: [random_network(0), random_network(1, heads=2)],
        lambda: [random_network(0), random_network(1, strain=True)],
        lambda: [random_network(0), random_network(1, depth=2)],
        lambda: [random_network(0), with_another_gamma()],
        lambda: [with_a_convolution(), with_a_convolution()],
        lambda: [CausalNet.released((1, 1, 1)), CausalNet.released((1, 1, 1))],
    ],
    ids=["width", "heads", "strain", "depth", "gamma", "foreign layer", "released"],
)
def test_what_cannot_be_stacked_is_refused(others):
    with pytest.raises(ValueError, match="ensemble"):
        Ensemble(others())
