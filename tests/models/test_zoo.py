import pytest
import torch

from models.ablations import WithoutCAB, WithoutDirections, WithStrain
from models.causalnet import CausalNet
from models.zoo import NETWORKS, OTHER_INPUTS, make_network

# 140 and 277 million parameters; their parts are tested elsewhere.
LARGE = {"htnet", "causalnet-released"}


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - LARGE))
def test_every_network_gives_three_finite_logits(name):
    network = NETWORKS[name]().eval()
    logits = network(torch.rand(2, 4, 3, 28, 28) * 255)
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - LARGE))
def test_every_network_can_have_other_classes(name):
    network = make_network(name, 5).eval()
    assert network(torch.rand(2, 4, 3, 28, 28) * 255).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "printed"), [("ststnet", 162_051), ("off-tanet", 59_403), ("off-apexnet", 2.66e6)]
)
def test_sizes_are_those_in_print(name, printed):
    size = sum(p.numel() for p in NETWORKS[name]().parameters())
    assert size == pytest.approx(printed, rel=0.02)


def size_of(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize("name", OTHER_INPUTS)
def test_the_others_take_what_they_say(name):
    with torch.device("meta"):  # shapes alone: nothing is computed
        network = make_network(name, 5).eval()
        assert network(torch.empty(2, *network.planes.shape)).shape == (2, 5)


def test_mmnet_and_srmcl_have_the_sizes_in_print():
    with torch.device("meta"):
        mmnet, srmcl = make_network("mmnet"), make_network("srmcl", 5)
    assert size_of(mmnet) == pytest.approx(9.24e6, rel=0.001)
    assert size_of(srmcl) == pytest.approx(26.6e6, rel=0.001)
    only_in_training = size_of(srmcl.to_decoder, srmcl.decoder) + srmcl.hidden_token.numel()
    assert size_of(srmcl) - only_in_training == pytest.approx(19.5e6, rel=0.001)


def change(network: torch.nn.Module, image: slice, channel: slice) -> float:
    """The largest change of a logit when some channels of some images change."""
    torch.manual_seed(0)
    x = torch.rand(1, 4, 3, 28, 28) * 255
    other = x.clone()
    other[:, image, channel] = torch.rand(other[:, image, channel].shape) * 255
    with torch.no_grad():
        return (network.eval()(other) - network(x)).abs().max().item()


def test_an_ablation_does_not_see_what_it_leaves_out():
    flows, directions, strain, everything = slice(0, 2), slice(2, 4), slice(0, 1), slice(None)
    assert change(CausalNet.compact(), flows, strain) == 0
    assert change(WithStrain(), flows, strain) > 1e-4
    assert change(CausalNet.compact(), directions, everything) > 1e-4
    assert change(WithoutDirections(), directions, everything) == 0
    assert change(WithoutCAB(), directions, everything) > 1e-4
