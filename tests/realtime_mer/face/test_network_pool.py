"""Networks that look at several faces side by side."""

import threading

import numpy as np
import pytest

from realtime_mer.face.landmark_model import LandmarkModel
from realtime_mer.face.landmark_network import FaceSquare
from realtime_mer.face.network_pool import NetworkPool


@pytest.fixture(scope="module")
def model(landmark_model) -> LandmarkModel:
    return LandmarkModel(landmark_model, landmark_model.read_bytes())


@pytest.mark.parametrize("size", [1, 2, 3])
def test_each_item_is_done_once_and_as_alone(model, astronaut, astronaut_tracked, size):
    pool = NetworkPool(model, size)
    around = FaceSquare.around(astronaut_tracked.landmarks)
    seen = [
        FaceSquare(around.x + k, around.y, around.side + 5 * k, around.turn).cut(astronaut)
        for k in range(6)
    ]
    alone = [pool.first.landmarks(picture) for picture in seen]
    for count in (0, 1, 2, 6):
        found: list = [None] * count

        def look(k, network, found=found):
            assert found[k] is None
            found[k] = network.landmarks(seen[k])

        pool.each(look, range(count))
        for mine, expected in zip(found, alone, strict=False):
            np.testing.assert_array_equal(mine, expected)
    pool.close()
    pool.close()


def test_as_many_work_at_the_same_time_as_there_are_networks(model):
    before = set(threading.enumerate())
    pool = NetworkPool(model, 3)
    together = threading.Barrier(3, timeout=30)
    networks = []

    def meet(_, network):
        networks.append(network)
        together.wait()

    pool.each(meet, range(3))
    assert len({id(network) for network in networks}) == 3
    pool.close()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("bad", [0, 3])
def test_a_failure_is_told_when_all_are_done(model, bad):
    pool = NetworkPool(model, 2)
    done = []

    def fail(k, _):
        if k == bad:
            raise RuntimeError("broken")
        done.append(k)

    with pytest.raises(RuntimeError, match="broken"):
        pool.each(fail, range(4))
    assert bad not in done
    pool.each(fail, [1])
    pool.close()
