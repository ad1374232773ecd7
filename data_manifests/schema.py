"""The words of a multitrack corpus: what a stem, a track and a catalogue are."""

from __future__ import annotations

from dataclasses import dataclass

RATE_HZ = 48_000
"""The one timeline of the house: every start and length in samples counts at this rate."""

ROLES = (
    "drums",
    "percussion",
    "bass",
    "guitar",
    "keys",
    "strings",
    "pad",
    "synth",
    "lead",
    "wind",
    "brass",
    "vocal",
    "effects",
    "other",
)
"""The closed list of roles a stem can play; `other` is a stem that no rule recognises."""

SPLITS = ("train", "heldout")
"""Tracks are divided by group: what a model may see, and what it is judged on."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A remote file that a corpus comes from; nothing is fetched without its checksum and licence."""

    url: str
    sha256: str
    licence: str


@dataclass(frozen=True, kw_only=True)
class ListedFile:
    """One audio stream that makes a stem, alone or added to others, as a listing names it.

    `path` is relative to the corpus root, with forward slashes; `stream` counts the audio streams of a container
    from 0. `side` says which channel of the stem a mono file of a left-right pair is: "left" or "right", else "both".
    `start_s` is where the file begins on the track's timeline.
    """

    path: str
    stream: int = 0
    side: str = "both"
    gain_db: float = 0.0
    start_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StemFile(ListedFile):
    """A listed file as it was found: its channels, frames and rate, and the digest of the whole file."""

    channels: int
    rate_hz: int
    frames: int
    sha256: str

    @property
    def end_samples(self) -> int:
        """Where the file ends on the track's 48 kHz timeline."""
        return round(self.start_s * RATE_HZ) + -(-self.frames * RATE_HZ // self.rate_hz)


@dataclass(frozen=True, kw_only=True)
class Stem:
    """One instrument's audio inside a track: the sum of its files, each with its gain.

    `activity` has one truth value per whole or part second of the track's 48 kHz timeline. `reason` says why the
    stem is not usable as a target or context, and is None when it is usable as both. `loudness_lufs` is None for what
    is silent or shorter than 400 ms; below `band_limit_hz` lie 99.9 % of the power (None: digital silence).
    """

    id: str
    files: tuple[StemFile, ...]
    role: str
    is_vocal: bool
    usable_as_target: bool
    usable_in_context: bool
    reason: str | None
    tags: tuple[str, ...]
    flags: tuple[str, ...]
    activity: tuple[bool, ...]
    peak: float
    loudness_lufs: float | None = None
    band_limit_hz: int | None = None

    @property
    def end_samples(self) -> int:
        """Where the last of its files ends on the track's 48 kHz timeline."""
        return max(file.end_samples for file in self.files)


@dataclass(frozen=True, kw_only=True)
class Track:
    """One multitrack recording. `frames` is its length at 48 kHz: that of its longest stem.

    `corpus` names the layout that it was read by (`musdb18`, `slakh2100`, `plain`, ...).
    Tracks of one `group_id` (the same song, artist or composition) never fall into two splits. `labels` are what is
    known of it by name (`style`, `bpm`, `key`), for evaluation: no model sees them, unlike `tags`.
    """

    id: str
    group_id: str
    split: str
    corpus: str
    licence: str
    tags: tuple[str, ...]
    frames: int
    stems: tuple[Stem, ...]
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A file that was left out because it could not be read as audio, and why; reported, never silent."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """All that is known of a corpus; its digest is what every later stage is keyed by."""

    tracks: tuple[Track, ...]
    quarantined: tuple[Quarantined, ...]
    left_out: tuple[Quarantined, ...]
