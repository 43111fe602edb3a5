"""The options of the command line: their values, and which of them go together.

Imports nothing heavy: `--help` and a wrong option need not wait for the libraries.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from realtime_mer import __version__
from realtime_mer.errors import InputError
from realtime_mer.output.senders.addresses import PASSWORD_VARIABLE, MqttAddress, OscAddress
from realtime_mer.records import is_number
from realtime_mer.redaction import HIDDEN, URL, printable, redacted, redacted_in

if TYPE_CHECKING:
    from realtime_mer.archive.run import Settings

USAGE_ERROR = 2
"""Exit status for wrong arguments and for input that cannot be used."""

PROVIDERS = ("auto", "cpu", "cuda", "tensorrt")
"""Those of `recognition.classifier`, which loads ONNX Runtime."""

# Options that need a package which is not always installed: its module, and the extra that has it.
_EXTRAS = {
    "--lsl": ("pylsl", "lsl"),
    "--lsl-network": ("pylsl", "lsl"),
    "--osc": ("pythonosc", "osc"),
    "--mqtt": ("paho", "mqtt"),
    "--virtual-camera": ("pyvirtualcam", "virtual-camera"),
}
# They say how to read one source.
_ONE_SOURCE_OPTIONS = ("--fps",)
# They say how to read a source that the demo does not have.
_SOURCE_OPTIONS = ("--fps", "--camera-size", "--camera-fps", "--no-reconnect")


class Parser(argparse.ArgumentParser):
    """Reports an error in one line, without credentials.

    Attributes:
        arguments: What is being read.
    """

    arguments: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        message = without_secrets(message, self.arguments)
        self.exit(USAGE_ERROR, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parse(arguments: Sequence[str], prog: str) -> argparse.Namespace:
    """Reads the arguments; exits with status 2 and one line on stderr if they are wrong.

    Args:
        arguments: The arguments.
        prog: The program's name in messages.
    """
    p = parser(prog)
    p.arguments = arguments
    # Sources may stand before, between and after the options; what follows "--" is no option, which
    # only the other way knows.
    read = p.parse_known_args if "--" in arguments else p.parse_known_intermixed_args
    options, unknown = read(arguments)
    if unknown:
        texts = list(_shown_unknown(unknown, p.arguments))
        remedy = ": put quotes around an address" if HIDDEN in texts else ""
        p.error(f"unrecognized arguments: {' '.join(texts)}{remedy}")
    if strays := _pieces_of_an_address(options.sources):
        texts = list(_shown_unknown(strays, p.arguments))
        p.error(f"{' '.join(texts)} is no source: check its name, put quotes around an address")
    apply_settings(p, options)
    for option, (module, extra) in _EXTRAS.items():
        if _is_given(options, option) and find_spec(module) is None:
            p.error(f"{option} needs a package: pip install 'realtime-mer[{extra}]'")
    if options.log_macros and options.log is None:
        p.error("--log-macros needs a log to write to: add --log FILE.jsonl")
    if options.control and options.serve is None:
        p.error("--control is for the page: add --serve PORT")
    if options.demo:
        if options.sources:
            p.error(f"--demo makes its own video: leave out '{options.sources[0]}', or --demo")
        for option in _SOURCE_OPTIONS:
            if _is_given(options, option):
                p.error(f"--demo makes its own video: leave out {option}")
    for option in _ONE_SOURCE_OPTIONS if len(options.sources) > 1 else ():
        if _is_given(options, option):
            p.error(f"{option} is for one source: leave it out, or run a session for each source")
    return options


def _pieces_of_an_address(sources: Sequence[str]) -> list[str]:
    """Sources that may be the rest of an address: without quotes, it falls apart at its blanks."""
    if len(sources) < 2 or not any("@" in s or redacted(s) != printable(s) for s in sources):
        return []
    known = re.compile(rf"[0-9]+$|/dev/|{URL.pattern}", re.IGNORECASE)
    return [s for s in sources if not known.match(s) and not os.path.exists(s)]


def apply_settings(p: Parser, options: argparse.Namespace) -> None:
    """Takes the sensitivity from `--settings`, unless it was given; exits if there is none."""
    if options.settings is not None:
        try:
            chosen = chosen_sensitivity(options.settings)
        except InputError as error:
            p.error(str(error))
        # What was typed beside it counts more.
        options.sensitivity = options.sensitivity or chosen


def without_secrets(message: str, arguments: Sequence[str]) -> str:
    """A message in which the arguments that are addresses, and only they, are redacted.

    Args:
        message: It may name arguments, as they are or as paths.
        arguments: Those of the command line.
    """
    shown: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name.startswith("-"):
            shown[f"{argument} "] = f"{name} "  # as argparse names an option that is ambiguous
            shown[f"explicit argument {value!r}"] = f"explicit argument '{HIDDEN}'"
        else:
            value = argument
        if "\0" in value or os.path.exists(value) or redacted(value) == printable(value):
            continue
        path = Path(value)
        for text in (value, str(path), str(path.parent), os.path.abspath(value)):
            # A scheme is no secret, and messages about --mqtt and --osc have those words.
            if len(text) > 1 and not re.fullmatch("mqtts?:|osc:", text):
                shown[repr(text)] = f"'{redacted(value)}'"
                shown[text] = redacted(value)
    # The longest first: they contain others.
    for text in sorted(shown, key=len, reverse=True):
        message = message.replace(text, shown[text])
    return redacted_in(message)


def _shown_unknown(unknown: Sequence[str], arguments: Sequence[str]) -> Iterator[str]:
    """Arguments that nobody asked for, as they may be shown.

    A password with a blank falls into several arguments, which no longer look like an address.
    """
    has_address = any("@" in text or redacted(text) != printable(text) for text in arguments)
    for text in unknown:
        option = re.match("--[a-z][a-z-]*(?==|$)|-[a-z]", text)
        if option is not None:
            yield option[0]
        elif redacted(text) != printable(text):
            yield redacted(text)
        else:
            yield HIDDEN if has_address else printable(text)


def check_source_options(
    options: argparse.Namespace, source: str, *, is_live: bool, is_camera: bool
) -> None:
    """Refuses options that say how to read another kind of source than this one.

    Args:
        options: What `parse` returned.
        source: The source as it may be shown.
        is_live: Whether it is a camera or a stream.
        is_camera: Whether it is a camera.

    Raises:
        InputError: It names the option.
    """
    if is_live:
        unused, remedy = ["--fps"], f"is for recordings; the frames of {source} come live"
    else:
        unused, remedy = ["--no-reconnect"], f"is for cameras and streams; {source} is a recording"
    for option in unused:
        if _is_given(options, option):
            raise InputError(f"{option} {remedy}. Leave it out.")
    for option in () if is_camera else ("--camera-size", "--camera-fps"):
        if _is_given(options, option):
            raise InputError(f"{option} is for cameras; {source} is none. Leave it out.")


def _is_given(options: argparse.Namespace, option: str) -> bool:
    return getattr(options, option.removeprefix("--").replace("-", "_")) not in (None, False)


def parser(prog: str) -> Parser:
    """The options. Those that depend on the source or on others are None if not given."""
    p = Parser(
        prog=prog,
        description="Spots and names facial micro-expressions in a camera, a video or a stream, "
        "while they happen.",
        epilog="Many videos at once: see %(prog)s archive --help.",
    )
    p.add_argument(
        "sources",
        nargs="*",
        metavar="source",
        help="camera number or /dev path, video file, folder of frames, http(s) or rtsp address; "
        "default: camera 0. Several are analysed in one session, all live or all recorded",
    )
    p.add_argument("--demo", action="store_true", help="run on a clip made on the spot, no camera")
    p.add_argument("--headless", action="store_true", help="no window")
    p.add_argument(
        "--log", metavar="FILE.jsonl", help="write events as JSON Lines, after what is in FILE"
    )
    p.add_argument(
        "--log-macros", action="store_true", help="macro-expressions (0.5 to 4 s) in --log, too"
    )
    p.add_argument("--csv", metavar="FILE.csv", help="write events as CSV, after what is in FILE")
    p.add_argument("--output", metavar="FILE.mp4", help="write the annotated video")
    p.add_argument("--stats", metavar="FILE.json", help="write rates, latencies and memory")
    p.add_argument(
        "--serve",
        metavar="[HOST:]PORT",
        help="show overlay and events as a page; without a host, on this computer only",
    )
    p.add_argument(
        "--lsl",
        action="store_true",
        help="send markers and values by Lab Streaming Layer, on this computer only",
    )
    p.add_argument(
        "--lsl-network", action="store_true", help="the same for all computers of the network"
    )
    p.add_argument(
        "--osc",
        type=_address(OscAddress.parse),
        metavar="[HOST:]PORT",
        help="send events and values as OSC messages; without a host, to this computer",
    )
    p.add_argument(
        "--mqtt",
        type=_address(MqttAddress.parse),
        metavar="URL",
        help="publish events and values at a broker, such as mqtts://user@host/prefix; "
        f"{PASSWORD_VARIABLE} in the environment can hold the password",
    )
    p.add_argument(
        "--virtual-camera",
        action="store_true",
        help="show the video with the marks on the face as a camera to other programs",
    )
    p.add_argument(
        "--control",
        action="store_true",
        help="let who opens the page of --serve change the sensitivity and mark moments",
    )
    p.add_argument(
        "--record-events", metavar="DIR", help="keep a lossless clip of each event in DIR"
    )
    p.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="add the session to a folder of results, as `archive` does: log, tables, and clips "
        "and pictures in which faces can be recognised",
    )
    add_analysis_options(p)
    p.add_argument(
        "--baseline",
        type=_baseline,
        metavar="SECONDS",
        help="take each face's first seconds, 5 to 300, as its neutral face: nothing is reported "
        "in them, and later events tell how far they are from it",
    )
    p.add_argument(
        "--fps",
        type=frame_rate,
        metavar="N",
        help="frame rate of a folder of frames (default 30); of a video, in place of its own "
        "times, if those are wrong (slow motion)",
    )
    p.add_argument(
        "--camera-size",
        type=_size,
        metavar="WxH",
        help="picture size that a camera is asked for (default 1280x720)",
    )
    p.add_argument(
        "--camera-fps",
        type=frame_rate,
        metavar="N",
        help="frame rate that a camera is asked for (default 30)",
    )
    p.add_argument(
        "--no-reconnect",
        action="store_true",
        help="end when a camera or stream is lost, in place of opening it again",
    )
    p.add_argument(
        "--providers",
        choices=PROVIDERS,
        default="auto",
        help="where the classifier runs (default auto: CUDA if there is a GPU)",
    )
    p.add_argument("--version", action="version", version=f"realtime_mer {__version__}")
    return p


def add_analysis_options(p: argparse.ArgumentParser) -> None:
    """Adds the options that say how to analyse, whatever the source."""
    p.add_argument(
        "--sensitivity",
        type=_false_report_rate,
        metavar="N",
        help="false reports a minute to expect, such as 0.2, 1 or 3; more "
        "find more (default: what the spotter's card recommends)",
    )
    p.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help="take the sensitivity that a review chose: settings.json of the results folder",
    )
    p.add_argument(
        "--faces", type=_faces, default=1, metavar="N", help="faces to follow at most (default 1)"
    )
    p.add_argument(
        "--least-confidence",
        type=_probability,
        metavar="P",
        help='label events with less "uncertain"; they keep their probabilities '
        "(default: what the classifier's card recommends; 0 for a label in any case)",
    )
    p.add_argument("--weights", type=Path, metavar="FILE.onnx", help="another classifier")
    p.add_argument("--spotter", type=Path, metavar="FILE.onnx", help="another spotter")
    p.add_argument(
        "--landmarks",
        type=Path,
        metavar="FILE.task",
        help="MediaPipe's face landmarker (default: models/, else the installed package)",
    )


def analysis_settings(options: argparse.Namespace, *, frames: bool = False) -> Settings:
    """The options of `add_analysis_options`, as a results folder keeps them.

    Args:
        options: What was read.
        frames: Whether to write a table of all frames.
    """
    # They take a while to load.
    from realtime_mer.archive.run import Settings
    from realtime_mer.model_file import CLASSIFIER, SPOTTER

    return Settings(
        faces=options.faces,
        sensitivity=options.sensitivity,
        least_confidence=options.least_confidence,
        weights=options.weights or CLASSIFIER,
        spotter=options.spotter or SPOTTER,
        landmarks=options.landmarks,
        frames=frames,
    )


def chosen_sensitivity(path: Path) -> float:
    """The sensitivity in a settings file, as `review` writes it.

    Raises:
        InputError: There is none.
    """
    try:
        settings = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"{redacted(str(path))} cannot be read ({error.strerror}): name the settings.json that "
            "the review wrote"
        ) from None
    except (ValueError, RecursionError):
        settings = None
    rate = settings.get("sensitivity") if isinstance(settings, dict) else None
    if not is_number(rate) or not 0 < rate < math.inf:
        raise InputError(
            f"{redacted(str(path))} holds no sensitivity: name the settings.json that the review "
            "wrote, or give --sensitivity"
        )
    return float(rate)


_Address = TypeVar("_Address")


def _address(parse: Callable[[str], _Address]) -> Callable[[str], _Address]:
    """A type of argument: what `parse` reads. Its messages show no password."""

    def parsed(text: str) -> _Address:
        try:
            return parse(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


def _false_report_rate(text: str) -> float:
    rate = _number(text)
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of false reports a minute: give 0.2, 1 or 3"
        )
    return rate


def _baseline(text: str) -> float:
    length_s = _number(text)
    if not 5 <= length_s <= 300:  # as `analysis.baseline`, which loads the chain
        raise argparse.ArgumentTypeError(f"{text!r} is no length of a baseline: give 5 to 300")
    return length_s


def _size(text: str) -> tuple[int, int]:
    if not (found := re.fullmatch(r"([1-9]\d{0,4})[xX]([1-9]\d{0,4})", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no picture size: give one like 1280x720")
    return int(found[1]), int(found[2])


def _probability(text: str) -> float:
    probability = _number(text)
    if not 0 <= probability <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no probability: give 0 to 1")
    return probability


def _faces(text: str) -> int:
    if not re.fullmatch("[0-9]{1,2}", text) or not 1 <= int(text) <= 16:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of faces: give 1 to 16")
    return int(text)


def frame_rate(text: str) -> float:
    """Reads frames a second, above 0 and up to 1000.

    Raises:
        argparse.ArgumentTypeError: The text is no such rate.
    """
    rate = _number(text)
    if not 0 < rate <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no frame rate: give frames a second")
    return rate


def _number(text: str) -> float:
    """The number in a text; NaN, which is in no range, if there is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
