import numpy as np
import pytest
import torch

from models.bi_woof import BiWoof, bi_woof
from models.data import read_release
from models.kernel_ridge import KernelRidge
from models.lbp_top import lbp_top
from models.training import Recipe, fit, predict
from models.views import mirrored
from models.zoo import make_network
from realtime_mer.errors import InputError
from tests.tiny_release import write_release


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return read_release(write_release(tmp_path_factory.mktemp("release"), subjects=8, clips=6))


@pytest.mark.parametrize(
    ("direction", "bin_"), [((2, 1), 0), ((1, 2), 1), ((-1, 2), 2), ((-2, -1), 4)]
)
def test_bi_woof_tells_where_the_face_moves_and_which_way(direction, bin_):
    pair = np.full((1, 2, 28, 28, 3), 100, np.uint8)
    pair[0, 0, 8:12, 20:24] = (200, 100 + 20 * direction[1], 100 + 20 * direction[0])
    strongest = bi_woof(pair).reshape(7, 7, 8)
    assert np.unravel_index(strongest.argmax(), strongest.shape) == (2, 5, bin_)


@pytest.mark.parametrize("name", ["bi-woof-svm", "kernel-ridge"])
def test_a_baseline_learns_to_tell_the_tiny_releases_classes_apart(clips, name):
    train, test = clips.without(["p0", "p1"]), clips.only(["p0", "p1"])
    machine = fit(make_network(name), train, Recipe(), seed=0)
    assert (predict(machine, test.pairs).argmax(1) == test.labels).mean() > 0.8


def test_kernel_ridge_answers_a_mirror_image_alike(clips):
    machine = fit(KernelRidge(), clips, Recipe(), seed=0)
    in_mirror = mirrored(torch.from_numpy(clips.pairs)).numpy()
    assert not np.array_equal(in_mirror, clips.pairs)
    np.testing.assert_allclose(predict(machine, in_mirror), predict(machine, clips.pairs))


def test_kernel_ridge_answers_what_is_like_nothing_with_the_shares_of_the_classes(clips):
    """The kernels are then 0: what is left is how common each class was, rare ones raised."""
    many = np.concatenate(
        [np.flatnonzero(clips.labels == 0), np.flatnonzero(clips.labels == 2)[:4]]
    )
    machine = fit(KernelRidge(), clips[many], Recipe(), seed=0)
    machine._width *= 1e-4
    negative, positive, surprise = predict(machine, 255 - clips.pairs[:1, ::-1].copy())[0]
    assert negative > surprise > positive == 0
    assert negative / surprise == pytest.approx((len(many) / 4 - 1) ** 0.5)


@pytest.mark.parametrize("baseline", [BiWoof, KernelRidge])
def test_a_class_that_was_not_there_is_not_answered(clips, baseline):
    two = clips[clips.labels != 1]
    logits = predict(fit(baseline(4), two, Recipe(), seed=0), clips.pairs)
    assert logits.shape == (len(clips), 4)
    assert set(logits.argmax(1)) == {0, 2}
    right = logits.argmax(1) == clips.labels
    assert right[clips.labels != 1].mean() > 0.9


@pytest.mark.parametrize("baseline", [BiWoof, KernelRidge])
def test_one_class_alone_is_refused(clips, baseline):
    with pytest.raises(InputError, match="one class"):
        fit(baseline(), clips[clips.labels == 0], Recipe(), seed=0)


def test_lbp_top_counts_the_patterns_of_three_planes():
    video = np.random.default_rng(0).integers(0, 4, (11, 22, 17), np.uint8)
    counts = np.zeros((5, 5, 3, 16))
    for t in range(4, 7):
        for y in range(1, 21):
            for x in range(1, 16):
                up, down = video[t, y - 1, x], video[t, y + 1, x]
                left, right = video[t, y, x - 1], video[t, y, x + 1]
                earlier, later = video[t - 4, y, x], video[t + 4, y, x]
                block = (y - 1) * 5 // 20, (x - 1) * 5 // 15
                for plane, around in enumerate(
                    [
                        (up, down, left, right),
                        (earlier, later, left, right),
                        (earlier, later, up, down),
                    ]
                ):
                    bits = [int(value >= video[t, y, x]) for value in around]
                    counts[(*block, plane, sum(b << i for i, b in enumerate(bits)))] += 1
    shares = counts / counts.sum(-1, keepdims=True)
    np.testing.assert_allclose(lbp_top(video), shares.ravel(), atol=1e-6)
