"""What a stem is, read from the words of its name by the rule table `roles.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import NamedTuple

import yaml

from data_manifests.schema import ROLES

Phrase = tuple[str, ...]

AUDIO_SUFFIXES = frozenset(
    (
        *("wav", "wave", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff", "aifc", "caf", "w64", "rf64", "au", "snd"),
        *("m4a", "aac"),
    )
)
"""What libsndfile 1.2 reads, and what PyAV's wheels read beside it; anything else, such as a film, is reported."""

STEM_CONTAINERS = (".stem.mp4", ".stem.m4a")
"""Native Instruments' stem files: a mix and several stems in one file."""


class NameReading(NamedTuple):
    """What a name says: roles in the table's order (empty: nothing known), and why the file is no stem."""

    roles: tuple[str, ...]
    leave_out: str | None

    @property
    def is_vocal(self) -> bool:
        """True if any part of the stem is vocal, or may be."""
        return "vocal" in self.roles

    @property
    def role(self) -> str:
        """The first of the roles, or `other`."""
        return self.roles[0] if self.roles else "other"


@dataclass(frozen=True, kw_only=True, eq=False)
class RoleRules:
    """The rule table: phrases of words with the role or the reason they stand for. A table equals only itself."""

    roles: dict[Phrase, str]
    leave_out: dict[Phrase, str]
    leave_out_alone: dict[Phrase, str]
    stem_folders: frozenset[str]

    @cached_property
    def role_order(self) -> tuple[str, ...]:
        """The roles as the table lists them; of several in a name, the first is the stem's."""
        return tuple(dict.fromkeys(self.roles.values()))

    @cached_property
    def longest_first(self) -> tuple[tuple[str, Phrase, str], ...]:
        """The phrases of the roles as letters, words and role, those of most words first."""
        ordered = sorted(self.roles, key=len, reverse=True)
        return tuple(("".join(phrase), phrase, self.roles[phrase]) for phrase in ordered)


@cache
def house_rules() -> RoleRules:
    """The table that ships with the package."""
    return parse_rules(files("data_manifests").joinpath("roles.yaml").read_text(encoding="utf-8"))


def parse_rules(text: str) -> RoleRules:
    """The rule table written in YAML; see `roles.yaml` for its form."""
    table = yaml.safe_load(text)
    unknown = sorted(set(table["roles"]) - set(ROLES))
    if unknown:
        raise ValueError(f"the rule table names the roles {unknown}; expected some of {', '.join(ROLES)}")
    return RoleRules(
        roles=_phrases(table["roles"]),
        leave_out=_phrases(table["leave_out"]),
        leave_out_alone=_phrases(table["leave_out_alone"]),
        stem_folders=frozenset(table["stem_folders"]),
    )


@lru_cache(maxsize=1 << 16)  # a corpus has the same few names in every song
def read_name(name: str, rules: RoleRules, *, title_words: int = 0) -> NameReading:
    """What the words of `name` (a file name without folders, or any phrase) say about a stem.

    The first `title_words` words are the song's title: they leave a file out only if no word after them names a
    role, so that "Full Moon - Drums.wav" stays beside "Full Moon - Bass.wav". A vocal word counts anywhere.
    """
    words = name_words(name)
    own_words = words[title_words:]
    if not _roles_of(own_words, rules):
        own_words = words
    return NameReading(roles=_roles_of(words, rules), leave_out=_reason_to_leave_out(own_words, rules))


def name_words(name: str) -> tuple[str, ...]:
    """The lower-case words of a name: letters only, split at a change of case too, audio suffixes dropped."""
    parts = name.split(".")
    while len(parts) > 1 and parts[-1].lower() in AUDIO_SUFFIXES:
        parts.pop()
    runs = re.findall(r"[^\W\d_]+", ".".join(parts))
    return tuple(word.lower() for run in runs for word in _split_case(run))


def shared_title_words(names: Sequence[str]) -> int:
    """How many leading words all of a folder's names share: 0 for fewer than two names."""
    if len(names) < 2:
        return 0
    columns = zip(*(name_words(name) for name in names), strict=False)
    count = 0
    for column in columns:
        if len(set(column)) > 1:
            break
        count += 1
    return count


def is_stem_folder(name: str, rules: RoleRules) -> bool:
    """True for a folder such as `stems` or `Tracks`, which holds the stems of the song in the folder above."""
    return any(_same_word(name.lower(), folder) for folder in rules.stem_folders)  # "Track00001" is a song


def _split_case(run: str) -> list[str]:
    """LeadVox -> Lead, Vox; BGVox -> BG, Vox; VOX, vox and Vox stay whole."""
    inside = range(1, len(run))
    starts = [i for i in inside if run[i].isupper() and (run[i - 1].islower() or run[i + 1 : i + 2].islower())]
    return [run[i:j] for i, j in pairwise((0, *starts, len(run)))]


def _roles_of(words: Sequence[str], rules: RoleRules) -> tuple[str, ...]:
    """All roles that the words name, in the table's order; a longer phrase uses up the words it matched."""
    free = list(words)
    found: set[str] = set()
    letters = "".join(words)
    for phrase_letters, phrase, role in rules.longest_first:
        if phrase_letters not in letters:
            continue  # nearly all phrases; names are read by the hundred thousand
        for place in _places(free, phrase):
            found.add(role)
            free[place] = [""] * (place.stop - place.start)
    return tuple(role for role in rules.role_order if role in found)


def _reason_to_leave_out(words: Sequence[str], rules: RoleRules) -> str | None:
    letters = "".join(words)
    for phrase, reason in rules.leave_out.items():
        if "".join(phrase) in letters and _places(words, phrase):
            return f"the name says {' '.join(phrase)!r}: {reason}"
    whole = [phrase for phrase in rules.leave_out_alone if any(_same_word(word, phrase[0]) for word in words)]
    if words and len(whole) == len(set(words)):
        return f"the name says no more than {' '.join(words)!r}: {rules.leave_out_alone[whole[0]]}"
    return None


def _places(words: Sequence[str], phrase: Phrase) -> list[slice]:
    """Where the phrase stands, however its letters are divided into words: "hi hat", "hihat", "PAD" + "s"."""
    letters = "".join(phrase)
    spans = (slice(i, i + n) for n in range(1, max(len(phrase), 2) + 1) for i in range(len(words) - n + 1))
    return [span for span in spans if all(words[span]) and _same_word("".join(words[span]), letters)]


def _same_word(word: str, entry: str) -> bool:
    return word in (entry, entry + "s")


def _phrases(table: Mapping[str, Sequence[str]]) -> dict[Phrase, str]:
    """Phrase -> what it stands for; a phrase in two rows of the table is a mistake in the table."""
    phrases: dict[Phrase, str] = {}
    for meaning, entries in table.items():
        for entry in entries:
            phrase = name_words(str(entry))
            if not phrase or phrase in phrases:
                raise ValueError(f"the rule table's entry {entry!r} ({meaning}) has no letters or stands there twice")
            phrases[phrase] = meaning
    return phrases
