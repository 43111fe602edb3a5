"""What people decide about the events of `make_results`, as the files of a review hold it."""

import json


def write_review(folder, name, *lines):
    """Writes the decisions of a reviewer.

    Args:
        folder: The results.
        name: The reviewer.
        lines: Of each decision, the index of the event among all, or None for an event that is
            added in the clip of the first one; and what else the line holds.
    """
    events = [(video, event) for video in folder.done() for event in video.events()]
    folder.reviews.mkdir(exist_ok=True)
    with (folder.reviews / f"{name}.jsonl").open("w") as file:
        added = 0
        for n, (index, values) in enumerate(lines, 1):
            video, event = events[index or 0]
            line = {"type": "decision", "n": n, "at": "2026-01-31T10:00:00.000+00:00"}
            line |= {"video": video.key, "face": event["face"]}
            if index is None:
                added += 1
                line |= {"type": "added", "added": added, "seen_in": event["onset_s"]}
            else:
                line |= {"found_s": event["onset_s"]}
            line |= {"verdict": "true", "label": None, "took_s": 2.0}
            line |= {"onset_s": event["onset_s"], "offset_s": event["offset_s"]}
            file.write(json.dumps(line | values) + "\n")


def write_reviews(folder):
    """Two reviewers' decisions about the four events of `make_results`.

    The first is true to both, and another label and later to both; the second is false to both;
    they are split about the third; nobody looked at the last. Both add the same missed event.
    """
    late = {"label": "positive", "onset_s": 1.3, "offset_s": 1.6}
    write_review(
        folder, "ana",
        (0, late), (1, {"verdict": "false"}), (2, {}),
        (None, {"onset_s": 2.0, "offset_s": 2.3, "label": "negative"}),
    )  # fmt: skip
    write_review(
        folder, "ben",
        (0, late), (1, {"verdict": "false"}), (2, {"verdict": "false"}),
        (None, {"onset_s": 2.04, "offset_s": 2.34, "label": "negative"}),
    )  # fmt: skip
