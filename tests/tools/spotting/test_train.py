"""The spotter's training, in small: what it writes is what the runtime loads."""

import itertools
import json

import numpy as np
import pytest
import torch

from models.spotter import MEMBERS, SpotterEnsemble, SpotterNetwork
from realtime_mer.spotting.signals import CHANNELS, PATTERN_SHAPE, ROW
from realtime_mer.spotting.spotter import SpotterModel
from tests.signals import write_signals
from tests.tiny_release import write_release
from tools.spotting import train as train_spotter
from tools.spotting.train import export, load, loader_of, loss_of, main, operating_curve, pick
from tools.spotting.windows import STEPS, TARGETS, drawn_motions


def test_it_writes_a_network_and_a_card_that_the_runtime_loads(
    tmp_path, monkeypatch, astronaut_face
):
    monkeypatch.setattr(train_spotter, "_CURVE_WINDOWS", 64)
    monkeypatch.setattr(train_spotter, "_DRAWN", 3)
    data = write_release(tmp_path / "data")
    for seed in range(2):
        write_signals(
            tmp_path / "seen" / f"one.{seed}.npz", astronaut_face, noise_px=0.05, seed=seed
        )
    write_signals(tmp_path / "held" / "other.0.npz", astronaut_face, noise_px=0.05, seed=2)
    out = tmp_path / "net" / "spotter.onnx"
    assert main([
        "--backgrounds", str(tmp_path / "seen"), "--held-out", str(tmp_path / "held"),
        "--data", str(data), "--out", str(out), "--exclude-subjects", "p1",
        "--steps", "3", "--batch", "4",
    ]) == 0  # fmt: skip
    model = SpotterModel(out)
    assert model.has_curve
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["trained_on"]["backgrounds"] == ["one"]
    assert card["trained_on"]["motions"].startswith("15 pairs")
    assert (card["held_out"], card["excluded_subjects"]) == (["other"], ["p1"])
    assert model.threshold == card["threshold"]
    told, state = model(np.zeros(CHANNELS, np.float32), model.start())
    assert told.shape == (6,)
    assert state.shape == model.start().shape
    assert ((told[[0, 1, 5]] > 0) & (told[[0, 1, 5]] < 1)).all()


def test_eight_bits_answer_like_whole_weights(tmp_path):
    torch.manual_seed(0)
    members = [SpotterNetwork(CHANNELS, made) for made in MEMBERS]
    for member in members:
        member(torch.randn(8, 100, CHANNELS))
    ensemble = SpotterEnsemble(members).eval()
    export(ensemble, np.zeros(PATTERN_SHAPE, np.float32), tmp_path / "net.onnx", {"threshold": 0.5})
    model = SpotterModel(tmp_path / "net.onnx")
    signals, state, told = torch.randn(60, CHANNELS), model.start(), []
    for step in signals.numpy():
        outputs, state = model(step, state)
        told.append(outputs)
    with torch.no_grad():
        whole = ensemble(signals[None])[0]
        whole[:, [0, 1, 5]] = whole[:, [0, 1, 5]].sigmoid()
    off = np.abs(np.array(told) - whole.numpy()).max(0)
    assert (off < 0.05).all()
    # Small beside what each output tells.
    assert (off < 0.2 * np.ptp(whole.numpy(), axis=0)).all()


def test_every_process_draws_windows_of_its_own(astronaut_face, tmp_path):
    rng = np.random.default_rng(0)
    motions = drawn_motions(2, rng)
    file = tmp_path / "one.0.npz"
    write_signals(file, astronaut_face, noise_px=0.05)
    patterns = rng.normal(size=PATTERN_SHAPE).astype(np.float32)
    backgrounds = load([file], motions, patterns, seed=0, jobs=1)

    def batches(jobs: int) -> list[torch.Tensor]:
        loader = loader_of(backgrounds, 0, 2, jobs)
        return [rows for rows, _ in itertools.islice(loader, 2)]

    one, other = batches(jobs=2)
    first, second = batches(jobs=1)
    torch.testing.assert_close(one, first)
    assert (one - other).abs().max() > 0.1
    assert (second - other).abs().max() > 0.1
    assert torch.equal(torch.stack(batches(jobs=2)), torch.stack([one, other]))


def test_backgrounds_that_are_not_there_are_bad_usage(tmp_path, capsys):
    data = write_release(tmp_path / "data")
    arguments = ["--data", str(data), "--backgrounds", str(tmp_path), "--out", str(tmp_path / "o")]
    assert main(arguments) == 2
    assert f"no backgrounds in {tmp_path}" in capsys.readouterr().err


def test_backgrounds_of_another_version_are_bad_usage(tmp_path, capsys):
    data = write_release(tmp_path / "data")
    old = tmp_path / "old.0.npz"
    np.savez(old, time_s=np.arange(9), regions=np.zeros((9, 18, 2)))
    arguments = ["--data", str(data), "--backgrounds", str(tmp_path), "--out", str(tmp_path / "o")]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert f"{old} holds no blink, cells, clean" in said
    assert "make it anew" in said


def test_signals_without_quiet_ones_are_bad_usage(tmp_path, capsys, astronaut_face):
    data, signals = write_release(tmp_path / "data"), tmp_path / "signals"
    write_signals(signals / "one.1.npz", astronaut_face, events=[(2, 2.2, 2.4, 0)])
    arguments = ["--data", str(data), "--backgrounds", str(signals), "--out", str(tmp_path / "o")]
    assert main(arguments) == 2
    assert "even takes" in capsys.readouterr().err


def targets() -> torch.Tensor:
    target = torch.zeros(1, STEPS, TARGETS)
    target[..., 5] = 1
    return target


@pytest.mark.parametrize("column", [0, 6])
def test_what_counts_for_nothing_costs_nothing(column):
    """Steps of weight 0, of ends and of macro-expressions."""
    target, out = targets(), torch.zeros(1, STEPS, 6)
    calm = loss_of(out, target)
    target[:, 100, column] = 1
    target[:, 100, column + 1 if column else 5] = 0
    if column == 0:
        assert loss_of(out, target) < calm  # one step less counts
    else:
        torch.testing.assert_close(loss_of(out, target), calm)


def test_an_answer_that_is_right_costs_less():
    target = targets()
    target[:, 90, 0], target[:, 90, 3] = 1, 0.3
    target[:, 100:120, 6:] = 1
    right, wrong = torch.full((2, 1, STEPS, 6), -3.0)
    right[..., 2:5] = wrong[..., 2:5] = target[..., 2:5]
    right[:, 90, 0] = 3
    right[:, 100:120, 5] = 3
    assert loss_of(right, target) < loss_of(wrong, target) - 0.05


def test_what_the_runtime_would_report_is_picked():
    grid = np.arange(40) / 30
    outputs = np.full((40, 6), -4.0)
    outputs[:, 2], outputs[:, 3] = 0.1, 0.3
    outputs[[20, 21, 22], 0] = 1, 3, 2
    outputs[30, 0], outputs[30, 3] = 3, 0.8  # too long for a micro-expression
    outputs[34, 0], outputs[35, 1] = 3, 3  # still under way a step later
    ((onset, offset),) = pick(outputs, grid, 0.5)
    assert offset == pytest.approx(grid[21] - 0.1)
    assert offset - onset == pytest.approx(0.3)


@pytest.mark.parametrize(("passed_over", "false"), [(False, 64), (True, 0)])
def test_the_curve_counts_no_report_of_what_is_passed_over(passed_over, false):
    """The network reports 3.0 to 3.3 s in every window, where nothing is marked."""

    class Windows:
        def batch(self, size: int) -> tuple[np.ndarray, np.ndarray]:
            target = targets()[0].numpy()
            if passed_over:
                target[89:105, 5] = 0
            return np.zeros((size, STEPS, ROW), np.float32), np.stack([target] * size)

    class Network:
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            told = torch.full((len(x), STEPS, 6), -9.0)
            told[:, 102, 0] = 9
            told[..., 2], told[..., 3] = 0.1, 0.3
            return told

    minutes = 64 * (STEPS - 77) / 30 / 60
    for point in operating_curve(Network(), Windows(), 64):
        assert point["false_per_minute"] == pytest.approx(false / minutes, abs=1e-3)
        assert point["recall"] == 0
