"""Which recordings may not be divided over two splits: the same artist, whatever corpus they come from."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from data_manifests.layouts.layout import rule_table
from data_manifests.listing import ListedTrack


@dataclass(frozen=True, kw_only=True)
class GroupRules:
    """How the names of artists are made alike; see `groups.yaml`."""

    articles: frozenset[str]
    same_words: Mapping[str, str]
    featuring: frozenset[str]
    same_artist: Mapping[str, str]


@cache
def house_groups() -> GroupRules:
    """The table that ships with the package."""
    return parse_groups(rule_table("groups.yaml"))


def parse_groups(table: Mapping[str, Any]) -> GroupRules:
    """The table as rules; other names of an artist are looked up as they are after all other rules."""
    rules = GroupRules(
        articles=frozenset(table["articles"]),
        same_words=dict(table["same_words"]),
        featuring=frozenset(table["featuring"]),
        same_artist={},
    )
    aliases = {
        _letters(other, rules): _letters(name, rules)
        for name, others in table["same_artist"].items()
        for other in others
    }
    return replace(rules, same_artist=aliases)


def artist_group(artist: str, rules: GroupRules | None = None) -> str | None:
    """The group of all songs of an artist; None where the name has no letter or digit."""
    rules = rules or house_groups()
    letters = _letters(artist, rules)
    return f"artist:{rules.same_artist.get(letters, letters)}" if letters else None


def artist_of(song: str) -> str | None:
    """The artist in "Artist - Title" or "051 - Artist - Title"; None where there is no dash between spaces."""
    parts = re.sub(r"^\d{3} - ", "", song).split(" - ", 1)
    return parts[0] if len(parts) == 2 else None


def keep_groups_whole(tracks: Iterable[ListedTrack]) -> tuple[ListedTrack, ...]:
    """The tracks, where a group of which the corpus holds out any track is held out as a whole.

    Departure: MUSDB18 and the original Slakh2100 have the same artist or composition on both sides of their own
    split. Their test set stays as it is, and what is related to it leaves the training set.
    """
    tracks = tuple(tracks)
    heldout = {track.group_id for track in tracks if track.split == "heldout"}
    return tuple(replace(track, split="heldout") if track.group_id in heldout else track for track in tracks)


def _letters(artist: str, rules: GroupRules) -> str:
    """ "The Easton Ellises (Baumi)" and "TheEastonEllises" -> "eastonellises"."""
    words = _words(re.sub(r"\(.*?\)", " ", artist))
    words = [rules.same_words.get(word, word) for word in words]
    end = next((i for i, word in enumerate(words) if word in rules.featuring and i > 0), len(words))
    start = 1 if words and words[0] in rules.articles and end > 1 else 0
    return "".join(words[start:end])


def _words(name: str) -> list[str]:
    """Lower-case words without accents, divided at spaces, underscores, signs and a change of case."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    divided = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain)
    return re.findall(r"[^\W_]+|[&+]", divided.lower())
