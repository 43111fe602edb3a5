from rich.console import Console

from realtime_mer.command.demo import demo_table
from realtime_mer.demo.clip import DemoTruth, HiddenEvent
from realtime_mer.demo.score import compare
from realtime_mer.results import Interval, MicroExpression

HIDDEN = HiddenEvent(Interval(1.80, 1.97, 2.17), "surprise", ("AU1", "AU2"), 2.6)


def test_table_shows_misses_and_false_reports():
    missed = HiddenEvent(Interval(5.0, 5.2, 5.4), "negative", ("AU4",), 2.0)
    truth = DemoTruth((HIDDEN, missed), ((3.0, 3.3),), 30, 300)
    probabilities = {"negative": 0.2, "positive": 0.7, "surprise": 0.1}
    found = MicroExpression(0, HIDDEN.interval, probabilities, 2.0, 2.4)
    false = MicroExpression(0, Interval(8.0, 8.1, 8.3), probabilities, 2.0, 8.5)
    console = Console(width=120)
    with console.capture() as capture:
        console.print(demo_table(truth, compare(truth, [found, false])))
    text = capture.get()
    assert "1 of 2 found, 0 named right, 1 false, 1 blinks" in text
    assert "missed" in text
    assert "8.00-8.30" in text
    assert "100%" in text
