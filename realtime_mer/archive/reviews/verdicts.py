"""What reviewers say together about each event, those among them that the program missed."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from realtime_mer.archive.results_folder import ResultsFolder
from realtime_mer.archive.reviews.agreement import DISPUTED, Consensus, consensus
from realtime_mer.archive.reviews.decisions import (
    Added,
    Decisions,
    Judgement,
    read_all,
    reviewed_videos,
)
from realtime_mer.archive.reviews.found import Found, Material, material_of
from realtime_mer.results import Interval
from realtime_mer.spotting.matching import best_matches

# Times are kept to the millisecond.
_TICK_S = 0.001


@dataclass(frozen=True, slots=True)
class Verdict:
    """An event, and what the reviewers say about it.

    Attributes:
        host: The program's report; of a missed event, the one in whose clip it was seen first.
        words: What each reviewer thinks who has said something, by name.
        said: What they say together.
        added: Of a missed event, its number among those of the video, from 1; else 0.
        added_by: Of a missed event, who added it.
    """

    host: Found
    words: Mapping[str, Judgement]
    said: Consensus
    added: int = 0
    added_by: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The program's label; "" of a missed event."""
        return "" if self.added else self.host.label

    @property
    def reviewers(self) -> list[str]:
        """Those who gave a verdict."""
        return [name for name, word in self.words.items() if word.verdict is not None]

    @property
    def times(self) -> tuple[float, float]:
        """Onset and offset: what the reviewers agreed on; else the program's, or their own."""
        if self.said.onset_s is not None and self.said.offset_s is not None:
            return self.said.onset_s, self.said.offset_s
        if self.added:
            return _median_times(list(self.words.values()))
        return self.host.onset_s, self.host.offset_s

    @property
    def text(self) -> str:
        """What they decided, for people: "true, moved: surprise" or "false: negative"."""
        return _text(self, self.said.verdict, self.said.label, self.times)

    def text_of(self, name: str) -> str:
        """What one of them decided, like `text`."""
        word = self.words[name]
        label = word.label or self.label
        return _text(self, word.verdict or "", label, (word.onset_s, word.offset_s))


def _text(verdict: Verdict, word: str, label: str, times: tuple[float, float]) -> str:
    if word != "true":
        what = ["added", word] if verdict.added else [word]
        return _named(", ".join(filter(None, what)) or "no verdict", label or verdict.label)
    if verdict.added:
        return _named("added", label)
    what = ["true"]
    if label not in (verdict.label, DISPUTED):
        what.append("relabelled")
    program = (verdict.host.onset_s, verdict.host.offset_s)
    if any(abs(a - b) > _TICK_S for a, b in zip(times, program, strict=True)):
        what.append("moved")
    return _named(", ".join(what), f"label {label}" if label == DISPUTED else label)


def _named(what: str, label: str) -> str:
    return f"{what}: {label}" if label else what


def verdicts(material: Material, reviewers: Sequence[Decisions]) -> list[Verdict]:
    """What reviewers say about each event: the reported ones, and then those that were missed.

    Several reviewers may add the same missed event. As everywhere in this program, two intervals
    of a face are the same event from an intersection over union of 0.5 on, one to one. An added
    event that is the same as a reported one was not missed, and does not count, unless its
    reviewer calls the reported one false or unsure.
    """
    added = {who.reviewer: _by_face(who.added) for who in reviewers}
    words: dict[str, dict[str, Judgement]] = defaultdict(dict)
    missed: list[_Missed] = []
    for (key, face), events in material.by_face.items():
        found = [Interval(e.onset_s, e.apex_s, e.offset_s) for e in events]
        here: list[_Missed] = []
        for who in reviewers:
            own = added[who.reviewer].get((key, face), [])
            for event in events:
                if (word := who.of(event.id)) is not None:
                    words[event.id][who.reviewer] = word
            # What its reviewer calls false is no event, so another one is there.
            same = [
                one
                for place, one in _pairs(found, own)
                if _said(who.of(events[place].id)) in (None, "true")
            ]
            left = [one for one in own if one not in same]
            known = dict(_pairs([other.interval for other in here], left))
            for place, one in known.items():
                here[place].words[who.reviewer] = one.judgement
            here += [
                _Missed(one.host, {who.reviewer: one.judgement})
                for one in left
                if one not in known.values()
            ]
        missed += here
    result = [
        Verdict(event, its_words := words[event.id], consensus(its_words.values(), event.label))
        for event in material.events
    ]
    return [*result, *_numbered(material, missed)]


def _said(word: Judgement | None) -> str | None:
    return None if word is None else word.verdict


@dataclass(slots=True)
class _Missed:
    """An event that reviewers added."""

    host: Found
    words: dict[str, Judgement] = field(default_factory=dict)

    @property
    def interval(self) -> Interval:
        onset_s, offset_s = _median_times(list(self.words.values()))
        return Interval(onset_s, onset_s, offset_s)


def _by_face(added: Sequence[Added]) -> dict[tuple[str, int], list[Added]]:
    found = defaultdict(list)
    for event in added:
        found[event.host.video.key, event.host.face].append(event)
    return found


def _pairs(known: Sequence[Interval], added: Sequence[Added]) -> Iterator[tuple[int, Added]]:
    """Index into `known` and added event of those that are the same."""
    judgements = [event.judgement for event in added]
    own = [Interval(j.onset_s, j.onset_s, j.offset_s) for j in judgements]
    for place, other, _ in best_matches(known, own):
        yield place, added[other]


def _numbered(material: Material, missed: Sequence[_Missed]) -> Iterator[Verdict]:
    """Missed events as verdicts, in the order of the videos and of time."""
    of_video = defaultdict(list)
    for event in missed:
        of_video[event.host.video.key].append(event)
    for key in dict.fromkeys(event.video.key for event in material.events):
        in_order = sorted(
            of_video[key], key=lambda event: (event.interval.onset_s, event.host.face)
        )
        for number, event in enumerate(in_order, 1):
            said = consensus(event.words.values(), "")
            yield Verdict(event.host, event.words, said, number, tuple(event.words))


def _median_times(words: Sequence[Judgement]) -> tuple[float, float]:
    onset_s, offset_s = (
        statistics.median(getattr(word, name) for word in words) for name in ("onset_s", "offset_s")
    )
    return onset_s, offset_s


@dataclass(frozen=True, slots=True)
class Reviews:
    """What was reviewed in a results folder.

    Attributes:
        names: The reviewers who decided something, by name.
        of_video: What they say about the events of each video, by its key. Videos about which
            nobody has decided anything are left out.
    """

    names: tuple[str, ...] = ()
    of_video: Mapping[str, Sequence[Verdict]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: ResultsFolder) -> Reviews:
        """Reads the decisions of all reviewers.

        Raises:
            InputError: It is no results folder.
        """
        keys = reviewed_videos(folder.reviews)
        if not keys:
            return cls()
        material = material_of(folder, keys)
        reviewers = read_all(folder.reviews, material)
        of_video: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in verdicts(material, reviewers):
            of_video[verdict.host.video.key].append(verdict)
        names = tuple(
            who.reviewer
            for who in reviewers
            if any(who.reviewer in v.words for its in of_video.values() for v in its)
        )
        return cls(names, of_video)

    def of(self, key: str) -> Sequence[Verdict]:
        """What is said about the events of a video."""
        return self.of_video.get(key, ())
