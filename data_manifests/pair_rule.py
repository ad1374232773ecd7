"""What a pair is: every choice that the plan makes, by name, with where it comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass

GRID_SAMPLES = 512
"""Windows start at multiples of this: 94 starts per second, ample, and exact at every common sample rate."""


@dataclass(frozen=True, kw_only=True)
class Hop:
    """Target windows start at multiples of `samples`; none of a stem's starts returns before all have been used.

    The paper divides its songs "into 10-second windows" (section 4.1): that is a hop of the window's length. Ours is
    the finest grid, walked in golden-ratio steps, so that any number of rows is spread over the whole song.
    """

    samples: int = GRID_SAMPLES


@dataclass(frozen=True, kw_only=True)
class RandomStarts:
    """Each target window starts anywhere on the grid, drawn alone: a start may return before others were used."""


@dataclass(frozen=True, kw_only=True)
class UniformSize:
    """The number of context stems is uniform from 1 to all that are heard, then the stems are (ours).

    The paper (section 4.1) and Diff-A-Riff mix "a random subset of the remaining tracks" and say no more. Sizes
    drawn first hear a duo as often as the whole band; a coin per stem would nearly always hear half of the band.
    """


@dataclass(frozen=True, kw_only=True)
class EachWithProbability:
    """Each stem that is heard joins the context with this probability, and one at random if none did."""

    probability: float = 0.5


@dataclass(frozen=True, kw_only=True)
class AllHeard:
    """The context is everything else that is heard: the mixture without the target."""


@dataclass(frozen=True, kw_only=True)
class DisjointStyle:
    """Style windows are at least `gap_samples` away from the target's, wherever the stem allows it (ours).

    The paper (section 4.3) takes "a random segment of the same target" to mend the leak of Diff-A-Riff, whose style
    is the target window itself; a segment that overlaps the target would still leak a part of it.
    """

    gap_samples: int = 0


@dataclass(frozen=True, kw_only=True)
class AnyOtherStyle:
    """Style windows are any others of the stem, so they may overlap the target: the paper's words taken literally."""


@dataclass(frozen=True, kw_only=True)
class PairRule:
    """What a pair is. Activities are fractions of a window's time in which the stem is heard.

    `window_samples`: the paper's 10 seconds (section 4.1); ours are 10.24 s, 15 codec chunks (design.md section 7).
    `style_segments`: how many style windows a row keeps; training draws one of them (the paper draws afresh).
    `min_target_activity`: ours; real stems are silent most of the time, so a uniform choice would be mostly silence.
    `min_context_activity`: ours; no context stem is silent in its window.
    `min_style_activity`: ours, lower than that of the target: a quieter but disjoint style window is worth more than
    a full one that overlaps the target, which would leak it.
    `context_gain_db`: from where to where the context's level against the target is drawn. Neither the paper nor
    Diff-A-Riff mentions such a gain, so the default keeps the song's balance.
    `weights`: the share of rows of each corpus (`Track.corpus`), in any unit. A corpus that is not named gives no row.
    Without weights all tracks take turns, so that a corpus' share is its share of the usable tracks.
    """

    window_samples: int
    style_segments: int = 1
    min_target_activity: float = 0.5
    min_context_activity: float = 0.1
    min_style_activity: float = 0.25
    start_rule: Hop | RandomStarts = Hop()
    context_rule: UniformSize | EachWithProbability | AllHeard = UniformSize()
    style_rule: DisjointStyle | AnyOtherStyle = DisjointStyle()
    context_gain_db: tuple[float, float] = (0.0, 0.0)
    weights: tuple[tuple[str, float], ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.window_samples < 1 or self.style_segments < 1:
            raise ValueError(f"window of {self.window_samples} samples, {self.style_segments} segments; expected >= 1")
        for name in ("min_target_activity", "min_context_activity", "min_style_activity"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a fraction above 0, up to 1")
        if self.hop_samples < 1:
            raise ValueError(f"a hop of {self.hop_samples} samples; expected >= 1")
        if self.style_distance_samples < 1:
            raise ValueError(f"{self.style_rule}; expected a gap of 0 samples or more")
        if isinstance(self.context_rule, EachWithProbability) and not 0.0 < self.context_rule.probability <= 1.0:
            raise ValueError(f"{self.context_rule}; expected a probability above 0, up to 1")
        self._check_gain()
        self._check_weights()

    def needed_samples(self, min_activity: float) -> int:
        """How many of a window's samples a stem must be heard for, to be heard for that fraction of it."""
        return max(math.ceil(round(min_activity * self.window_samples, 6)), 1)

    @property
    def hop_samples(self) -> int:
        """Targets start at multiples of this."""
        return self.start_rule.samples if isinstance(self.start_rule, Hop) else GRID_SAMPLES

    @property
    def style_distance_samples(self) -> int:
        """The least distance between the starts of a target and of its style windows, where the stem allows it."""
        match self.style_rule:
            case DisjointStyle(gap_samples=gap):
                return self.window_samples + gap if gap >= 0 else 0
            case AnyOtherStyle():
                return 1

    def _check_gain(self) -> None:
        low_db, high_db = self.context_gain_db
        if not (math.isfinite(low_db) and math.isfinite(high_db) and low_db <= high_db):
            raise ValueError(f"context_gain_db is {self.context_gain_db}; expected two finite numbers, low to high")

    def _check_weights(self) -> None:
        names = [name for name, _ in self.weights]
        if len(set(names)) < len(names):
            raise ValueError(f"weights name a corpus twice: {', '.join(names)}; expected each once")
        for name, weight in self.weights:
            if not (math.isfinite(weight) and weight > 0.0):
                raise ValueError(f"the weight of {name} is {weight}; expected a number above 0, or no mention of it")
