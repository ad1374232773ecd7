"""Who is heard under which letter in a blind listening test, and the digest that ties answers to it.

Rated as in MUSHRA (ITU-R BS.1534): on one screen all stems for one piece of music, each from 0 to 100, the real one and
an anchor hidden among them. A listener who rates seven stems at once has compared 21 pairs in the time in which pairs,
asked one by one, would be four: what few listeners can give is worth most so.

Departure: no reference is named. Many stems suit a piece of music, and the real one is not what others should equal.
Departure: the anchor is the real stem of another track, low-passed at 3.5 kHz: it neither fits nor sounds well, so that
who hears no difference between it and the real stem does not listen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from metrics.adherence import derangement

SCHEMA = "stemwright.blind-key/1"
KEY = "key.json"
REAL, ANCHOR = "real stem", "anchor"
MOST_STIMULI = 12  # BS.1534-3 §5.2: more on one screen tire a listener


@dataclass(frozen=True, kw_only=True)
class AskedWindow:
    """The window of a trial, its track, and the window whose real stem is the anchor."""

    key: str
    track: str
    anchor: str


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One screen: a piece of music, and the system behind each letter."""

    name: str
    window: AskedWindow
    stimuli: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Key:
    """What the listeners must not know: the systems and where each of them is. `report` names what they are from."""

    report: str
    systems: tuple[str, ...]
    seed: int
    trials: tuple[Trial, ...]

    def data(self) -> bytes:
        """The key file; equal keys are equal bytes."""
        return json.dumps({"schema": SCHEMA} | asdict(self), indent=1, ensure_ascii=False).encode()

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data()).hexdigest()


def asked_windows(audible: Sequence[tuple[str, str]], items: int, *, seed: int) -> tuple[AskedWindow, ...]:
    """So many of the windows, given by key and track, of as many tracks as can be.

    Each has a window of another track for its anchor.
    """
    order = np.random.default_rng(seed).permutation(len(audible))
    turns: dict[str, int] = {}
    ranked = []
    for place, index in enumerate(order):
        track = audible[index][1]
        turns[track] = turns.get(track, -1) + 1
        ranked.append((turns[track], place, audible[index]))
    if len(ranked) < items:
        raise ValueError(f"{items} items: all systems answered only {len(ranked)} audible windows; ask for fewer")
    picked = [window for _, _, window in sorted(ranked)[:items]]
    partner_N = derangement([track for _, track in picked], seed=seed)
    return tuple(
        AskedWindow(key=key, track=track, anchor=picked[partner][0])
        for (key, track), partner in zip(picked, partner_N, strict=True)
    )


def deal(windows: Sequence[AskedWindow], systems: Sequence[str], *, seed: int) -> tuple[Trial, ...]:
    """A trial for each window, with the systems, the real stem and the anchor shuffled under letters.

    Each trial is shuffled by its own generator, seeded by (seed, window), so that leaving one out changes no other.
    The seed hides nothing from who has the key's maker at hand: the test is blind against accident, not against fraud.
    """
    hidden = (*systems, REAL, ANCHOR)
    if len(set(hidden)) < len(hidden):
        raise ValueError(f"{REAL!r} and {ANCHOR!r} are hidden among the systems {', '.join(systems)}; rename that one")
    if len(hidden) > MOST_STIMULI:
        raise ValueError(
            f"{len(hidden)} stems on one screen (real stem and anchor among them) are more than the {MOST_STIMULI} "
            "that a listener can compare; choose fewer arms or conditionings"
        )
    return tuple(
        Trial(name=f"{number:02d}", window=window, stimuli=_shuffled(hidden, f"{seed}/{window.key}"))
        for number, window in enumerate(windows, start=1)
    )


def load_key(folder: Path) -> Key:
    """The key of an exported test. Raises ValueError where the folder holds none."""
    path = folder / KEY
    if not path.exists():
        raise ValueError(f"{path} is not there; give the folder that `stemwright listen export --out` wrote")
    told = json.loads(path.read_text(encoding="utf-8"))
    if told.pop("schema", None) != SCHEMA:
        raise ValueError(f"{path} is no key of schema {SCHEMA}; export the listening test again")
    trials = tuple(
        Trial(name=trial["name"], window=AskedWindow(**trial["window"]), stimuli=trial["stimuli"])
        for trial in told.pop("trials")
    )
    return Key(**told | {"systems": tuple(told["systems"]), "trials": trials})


def _shuffled(hidden: Sequence[str], identity: str) -> dict[str, str]:
    rng = np.random.default_rng(list(hashlib.sha256(identity.encode()).digest()))
    return {letter: hidden[place] for letter, place in zip(ascii_lowercase, rng.permutation(len(hidden)), strict=False)}
