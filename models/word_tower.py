"""Tag lists to vectors: a bag of words, word pairs and spellings, weighted by learned importance."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

# Shapes: B batch, U units of a text (padded), W width of a unit's vector, E embedding width.

Tag = tuple[str, ...]
"""The lower-case words of one tag, in order: ("electric", "guitar")."""

Bag = dict[int, float]
"""Unit number to weight; a word that is only spelled out shares the weight of one word among its pieces."""

_WORD = re.compile(r"[^\W_]+")
_PIECE_LETTERS = 3


def tags_of(text: str) -> tuple[Tag, ...]:
    """The distinct tags of a comma-separated list, sorted: neither order, case nor repetition means anything."""
    tags = {tuple(_WORD.findall(part.lower())) for part in text.split(",")}
    return tuple(sorted(tags - {()}))


def spelling(word: str) -> tuple[str, ...]:
    """The distinct letter triples of a word with its ends marked: `~<gu ~gui ~uit …`."""
    marked = f"<{word}>"
    return tuple(sorted({f"~{marked[i : i + _PIECE_LETTERS]}" for i in range(len(marked) - _PIECE_LETTERS + 1)}))


@dataclass(frozen=True)
class Vocabulary:
    """The units that a word tower knows, in the order of its rows.

    A unit is a word (`guitar`), a pair of neighbours within one tag (`electric guitar`) or a letter triple
    (`~gui`). A word that is not a unit of its own is heard by its spelling, so that a misspelling or a new tag
    lands near the words it looks like.
    """

    units: tuple[str, ...]

    @classmethod
    def of(cls, texts: Sequence[str], *, min_count: int) -> Vocabulary:
        """Words and pairs that occur in at least `min_count` of the texts, and the triples of all their words."""
        words: Counter[str] = Counter()
        pairs: Counter[str] = Counter()
        for text in texts:
            tags = tags_of(text)
            words.update({word for tag in tags for word in tag})
            pairs.update({pair for tag in tags for pair in _pairs(tag)})
        kept = {unit for counts in (words, pairs) for unit, count in counts.items() if count >= min_count}
        # Of rare words too: a training text that is left with one rare word must still say something.
        pieces = {piece for word in words for piece in spelling(word)}
        return cls(tuple(sorted(kept | pieces)))

    @classmethod
    def from_bytes(cls, encoded_N: Tensor) -> Vocabulary:
        """Back from `to_bytes`."""
        return cls(tuple(json.loads(encoded_N.cpu().numpy().tobytes().decode("utf-8"))))

    def to_bytes(self) -> Tensor:
        """The units as a JSON list in UTF-8, a uint8 tensor that lives beside the weights."""
        return torch.from_numpy(np.frombuffer(json.dumps(self.units).encode("utf-8"), dtype=np.uint8).copy())

    @cached_property
    def number(self) -> dict[str, int]:
        """The row of each unit."""
        return {unit: row for row, unit in enumerate(self.units)}

    def bag(self, tags: Sequence[Tag], *, spelled: frozenset[str] = frozenset()) -> Bag:
        """The known units of the tags; words in `spelled` are treated as if they were not known."""
        bag: Bag = {}
        for tag in tags:
            for unit in (*tag, *_pairs(tag)):
                if unit in self.number and unit not in spelled:
                    bag[self.number[unit]] = 1.0
                elif " " not in unit:
                    self._spell_into(bag, unit)
        return bag

    def bag_of_text(self, text: str) -> Bag:
        """The known units of a text; a text of which nothing at all is known is an error, never a silent zero."""
        bag = self.bag(tags_of(text))
        if not bag:
            raise ValueError(
                f"text {text!r} holds no word, word pair or letter triple that the text tower knows; "
                "describe it with tags like those of the corpus the tower was fitted on"
            )
        return bag

    def _spell_into(self, bag: Bag, word: str) -> None:
        numbers = [self.number[piece] for piece in spelling(word) if piece in self.number]
        for number in numbers:
            bag[number] = bag.get(number, 0.0) + 1.0 / len(numbers)


def _pairs(tag: Tag) -> list[str]:
    return [f"{first} {second}" for first, second in pairwise(tag)]


class WordTower(nn.Module):
    """Bags of units to unnormalised vectors: weighted mean of unit vectors, then one hidden layer."""

    def __init__(self, units: int, *, unit_width: int, hidden: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(units, unit_width)
        self.importance = nn.Embedding(units, 1)
        nn.init.zeros_(self.importance.weight)
        self.project = nn.Sequential(nn.Linear(unit_width, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, bags: Sequence[Bag]) -> Tensor:
        """vectors_BE of the bags; each unit weighs its bag weight times exp(importance), normalised to one."""
        unit_BU, weight_BU = padded(bags, device=self.vectors.weight.device)
        weight_BU = weight_BU * self.importance(unit_BU)[..., 0].exp()
        weight_BU = weight_BU / weight_BU.sum(dim=1, keepdim=True)
        mean_BW = torch.einsum("bu,buw->bw", weight_BU, self.vectors(unit_BU))
        return self.project(mean_BW)


def padded(bags: Sequence[Bag], *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Unit numbers and weights as rectangles (B, U); padding is unit 0 with weight 0."""
    longest = max(len(bag) for bag in bags)
    unit_BU = torch.zeros(len(bags), longest, dtype=torch.long)
    weight_BU = torch.zeros(len(bags), longest)
    for row, bag in enumerate(bags):
        unit_BU[row, : len(bag)] = torch.tensor(list(bag), dtype=torch.long)
        weight_BU[row, : len(bag)] = torch.tensor(list(bag.values()))
    return unit_BU.to(device), weight_BU.to(device)
