"""The spotter's training, in small: what it writes is what the runtime loads."""

import itertools
import json

import numpy as np
import pytest
import torch

from models.spotter import MEMBERS, SpotterEnsemble, SpotterNetwork
from models.spotter_weights import read_members
from realtime_mer.model_file import CLASSIFIER, SPOTTER
from realtime_mer.spotting.signals import CHANNELS, PATTERN_SHAPE
from realtime_mer.spotting.spotter import Spotter, SpotterModel
from tests.signals import write_signals
from tests.tiny_release import write_release
from tools.spotting import calibration
from tools.spotting import train as train_spotter
from tools.spotting.backgrounds import load_backgrounds
from tools.spotting.clip_signals import motion_streams
from tools.spotting.motions import drawn_motions
from tools.spotting.targets import END, LENGTH, MACRO, MACRO_WEIGHT, TARGETS, WEIGHT
from tools.spotting.train import batches_of, export, main, spotting_loss
from tools.spotting.windows import STEPS

# So low that even a network that has learned nothing proposes something.
THRESHOLDS = (0.02, 0.1, 0.5)


@pytest.fixture
def arguments(tmp_path, monkeypatch, astronaut_face):
    """Options of a short training on one clip, with another one held out."""
    monkeypatch.setattr(train_spotter, "_DRAWN", 3)
    monkeypatch.setattr(calibration, "THRESHOLDS", THRESHOLDS)
    data = write_release(tmp_path / "data")
    write_signals(tmp_path / "seen" / "Wan2.2_video.0.npz", astronaut_face, noise_px=0.05)
    write_signals(tmp_path / "held" / "other.0.npz", astronaut_face, noise_px=0.5, seed=1)
    return [
        "--backgrounds", str(tmp_path / "seen"), "--held-out", str(tmp_path / "held"),
        "--data", str(data), "--out", str(tmp_path / "net" / "spotter.onnx"),
        "--exclude-subjects", "p1", "--steps", "3", "--batch", "4",
    ]  # fmt: skip


def test_it_writes_a_network_and_a_card_that_the_runtime_loads(tmp_path, arguments):
    assert main(arguments) == 0
    out = tmp_path / "net" / "spotter.onnx"
    model = SpotterModel(out)
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["trained_on"]["backgrounds"] == ["Wan2.2_video"]
    assert card["trained_on"]["motions"].startswith("15 pairs")
    assert (card["held_out"], card["excluded_subjects"]) == (["other"], ["p1"])
    assert model.threshold == card["threshold"]
    assert sorted(path.name for path in out.parent.iterdir()) == ["spotter.json", "spotter.onnx"]
    outputs, state = model(np.zeros(CHANNELS, np.float32), model.start())
    assert outputs.shape == (6,)
    assert state.shape == model.start().shape
    assert ((outputs[[0, 1, 5]] > 0) & (outputs[[0, 1, 5]] < 1)).all()
    # The curve is that of the written file in the runtime, with all its checks.
    (stream,) = motion_streams(tmp_path / "held" / "other.0.npz")
    minutes = (stream[-1].time_s - stream[0].time_s) / 60
    reports = []
    for threshold in THRESHOLDS:
        spotter = Spotter(SpotterModel(out, threshold))
        found = [proposal for motion in stream for proposal in spotter(motion).found]
        reports.append(len(found) + len(spotter.finish()))
    assert reports[0] > 10
    rates = [point["false_per_minute"] for point in card["operating_curve"]]
    assert rates == pytest.approx([n / minutes for n in reports], abs=1e-3)


@pytest.fixture
def written(monkeypatch) -> list[SpotterEnsemble]:
    """What is written, where what comes before and after the training is of no interest."""
    patterns, networks = SpotterModel(SPOTTER).patterns, []
    monkeypatch.setattr(train_spotter, "find_patterns", lambda *_: patterns)
    monkeypatch.setattr(train_spotter, "export", lambda network, *_: networks.append(network))
    monkeypatch.setattr(train_spotter, "calibrate", lambda *_: ())
    return networks


def test_training_goes_on_where_its_checkpoint_is(tmp_path, arguments, monkeypatch, written):
    monkeypatch.setattr(train_spotter, "_CHECKPOINT_STEPS", 1)
    arguments += ["--checkpoints", str(tmp_path / "kept")]
    batches, drawn = train_spotter.batches_of, []

    def counted(stop_after, *args):
        for batch in itertools.islice(batches(*args), stop_after):
            drawn.append(batch)
            yield batch
        raise KeyboardInterrupt

    monkeypatch.setattr(train_spotter, "batches_of", lambda *args: counted(2, *args))
    assert main(arguments) != 0
    assert (len(drawn), written) == (2, [])
    monkeypatch.setattr(train_spotter, "batches_of", lambda *args: counted(9, *args))
    drawn.clear()
    assert main(arguments) == 0
    # Of the first network a step was left; the second had not begun.
    assert len(drawn) == 1 + 3
    arguments[arguments.index("--steps") + 1] = "5"
    assert main(arguments) == 2


def test_networks_are_trained_side_by_side(tmp_path, arguments, monkeypatch, written):
    batches, drawn = train_spotter.batches_of, []

    def counted(*args):
        for batch in batches(*args):
            drawn.append(batch)
            yield batch

    monkeypatch.setattr(train_spotter, "batches_of", counted)
    kept = ["--checkpoints", str(tmp_path / "kept")]
    for member in "01":
        drawn.clear()
        assert main([*arguments, *kept, "--member", member]) == 0
        assert (len(drawn), written) == (3, [])
    drawn.clear()
    assert main([*arguments, *kept]) == 0
    assert len(written) == 1
    assert not drawn
    with pytest.raises(SystemExit):
        main([*arguments, "--member", "0"])


def test_training_goes_on_from_weights(tmp_path, arguments):
    start, out = SPOTTER, tmp_path / "net" / "spotter.onnx"
    # At this rate nothing changes but what is lost and found again on the way: 8 bits and the
    # normalization.
    assert main([*arguments, "--start-from", str(start), "--rate", "1e-12"]) == 0
    models = [SpotterModel(start), SpotterModel(out)]
    np.testing.assert_array_equal(models[0].patterns, models[1].patterns)
    signals = np.random.default_rng(0).normal(size=(60, CHANNELS)).astype(np.float32)
    answers = []
    for model in models:
        state = model.start()
        answers.append([])
        for step in signals:
            outputs, state = model(step, state)
            answers[-1].append(outputs)
    before, after = np.array(answers)
    for column in range(6):
        assert np.corrcoef(before[:, column], after[:, column])[0, 1] > 0.9
    assert np.abs(after - before).max() < np.ptp(before, axis=0).max()
    card = json.loads(out.with_suffix(".json").read_text())
    of_start = json.loads(start.with_suffix(".json").read_text())
    assert card["started_from"] == of_start["sha256"]
    # What they were trained on is not forgotten.
    assert card["trained_on"]["backgrounds"] == sorted(
        {"Wan2.2_video", *of_start["trained_on"]["backgrounds"]}
    )


def test_delivered_weights_are_read_back():
    """They have names of an earlier version in the file."""
    members, model = read_members(SPOTTER), SpotterModel(SPOTTER)
    signals, state, written = torch.randn(40, CHANNELS), model.start(), []
    for step in signals.numpy():
        outputs, state = model(step, state)
        written.append(outputs)
    with torch.no_grad():
        whole = SpotterEnsemble(members)(signals[None])[0]
        whole[:, [0, 1, 5]] = whole[:, [0, 1, 5]].sigmoid()
    # Activations have 8 bits in the runtime.
    assert np.abs(np.array(written) - whole.numpy()).max() < 0.1


def test_a_checkpoint_holds_the_network(tmp_path):
    network, other = SpotterNetwork(CHANNELS), SpotterNetwork(CHANNELS)
    train_spotter._keep(tmp_path / "0.checkpoint", {"network": network}, 7, 20)
    assert train_spotter._resume(tmp_path / "0.checkpoint", {"network": other}, 20) == 7
    for a, b in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_weights_of_something_else_are_no_start(arguments, capsys):
    classifier = str(CLASSIFIER)
    assert main([*arguments, "--start-from", classifier]) == 2
    assert "train from nothing" in capsys.readouterr().err


def test_clips_both_held_out_and_trained_on_are_refused(
    tmp_path, arguments, capsys, astronaut_face
):
    write_signals(tmp_path / "held" / "Wan2.2_video.1.npz", astronaut_face, seed=2)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("train.py: ")
    assert "Wan2.2_video" in said
    assert "other" not in said
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("folder", ["seen", "held"])
def test_a_folder_without_signals_is_bad_usage(tmp_path, arguments, capsys, folder):
    for file in (tmp_path / folder).iterdir():
        file.unlink()
    assert main(arguments) == 2
    assert f"no signals of clips in {tmp_path / folder}" in capsys.readouterr().err


def test_signals_without_quiet_ones_are_bad_usage(tmp_path, arguments, capsys, astronaut_face):
    (file,) = (tmp_path / "seen").iterdir()
    write_signals(file, astronaut_face, events=[(2, 2.2, 2.4, 0)])
    assert main(arguments) == 2
    assert "even takes" in capsys.readouterr().err


def test_eight_bits_answer_like_whole_weights(tmp_path):
    torch.manual_seed(0)
    members = [SpotterNetwork(CHANNELS, member) for member in MEMBERS]
    for member in members:
        member(torch.randn(8, 100, CHANNELS))
    ensemble = SpotterEnsemble(members).eval()
    export(ensemble, np.zeros(PATTERN_SHAPE, np.float32), tmp_path / "net.onnx", {"threshold": 0.5})
    model = SpotterModel(tmp_path / "net.onnx")
    signals, state, written = torch.randn(60, CHANNELS), model.start(), []
    for step in signals.numpy():
        outputs, state = model(step, state)
        written.append(outputs)
    with torch.no_grad():
        whole = ensemble(signals[None])[0]
        whole[:, [0, 1, 5]] = whole[:, [0, 1, 5]].sigmoid()
    off = np.abs(np.array(written) - whole.numpy()).max(0)
    assert (off < 0.05).all()
    # Small beside the range of each output.
    assert (off < 0.2 * np.ptp(whole.numpy(), axis=0)).all()


def test_every_process_draws_windows_of_its_own(astronaut_face, tmp_path):
    rng = np.random.default_rng(0)
    motions = drawn_motions(2, rng)
    file = tmp_path / "one.0.npz"
    write_signals(file, astronaut_face, noise_px=0.05)
    patterns = rng.normal(size=PATTERN_SHAPE).astype(np.float32)
    backgrounds = load_backgrounds([file], motions, patterns, seed=0, jobs=1)

    def batches(jobs: int) -> list[torch.Tensor]:
        loader = batches_of(backgrounds, 0, 2, jobs)
        return [rows for rows, _ in itertools.islice(loader, 2)]

    one, other = batches(jobs=2)
    first, second = batches(jobs=1)
    torch.testing.assert_close(one, first)
    assert (one - other).abs().max() > 0.1
    assert (second - other).abs().max() > 0.1
    assert torch.equal(torch.stack(batches(jobs=2)), torch.stack([one, other]))


def targets() -> torch.Tensor:
    target = torch.zeros(1, STEPS, TARGETS)
    target[..., WEIGHT] = 1
    return target


@pytest.mark.parametrize("column", [END, MACRO])
def test_a_step_of_weight_0_costs_nothing(column):
    target, out = targets(), torch.zeros(1, STEPS, 6)
    calm = spotting_loss(out, target)
    target[:, 100, column] = 1
    target[:, 100, MACRO_WEIGHT if column == MACRO else WEIGHT] = 0
    if column == END:
        assert spotting_loss(out, target) < calm  # one step less counts
    else:
        torch.testing.assert_close(spotting_loss(out, target), calm)


def test_an_answer_that_is_right_costs_less():
    target = targets()
    target[:, 90, END], target[:, 90, LENGTH] = 1, 0.3
    target[:, 100:120, [MACRO, MACRO_WEIGHT]] = 1
    right, wrong = torch.full((2, 1, STEPS, 6), -3.0)
    right[..., 2:5] = wrong[..., 2:5] = target[..., 2:5]
    right[:, 90, 0] = 3
    right[:, 100:120, 5] = 3
    assert spotting_loss(right, target) < spotting_loss(wrong, target) - 0.05
