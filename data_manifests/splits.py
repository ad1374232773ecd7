"""Which songs a model may see and which it is judged on: decided per group, by a hash of its name."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from data_manifests.schema import SPLITS


def assign_splits(
    corpus_of: Mapping[str, str], heldout_fraction: float, seed: int, fixed: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Group -> "train" or "heldout", with at least one group in each; `corpus_of` gives each group's corpus.

    `fixed` keeps what a corpus says itself; the other groups are held out in the order of a hash of (seed, group)
    until `heldout_fraction` of their corpus is reached: no corpus is held out whole, and a group's place in the order
    depends on no other group's name.
    """
    groups = sorted(corpus_of)
    fixed = {group: split for group, split in (fixed or {}).items() if group in corpus_of}
    _check(groups, heldout_fraction, fixed)
    free = sorted((group for group in groups if group not in fixed), key=lambda group: _hash(seed, group))
    heldout = {group for group, split in fixed.items() if split == "heldout"}
    for corpus in sorted(set(corpus_of.values())):
        own = {group for group in groups if corpus_of[group] == corpus}
        wanted = min(round(heldout_fraction * len(own)), len(own) - 1) - len(own & heldout)
        heldout.update([group for group in free if group in own][: max(wanted, 0)])
    heldout.update([] if heldout else free[:1])
    splits = {group: fixed.get(group, "heldout" if group in heldout else "train") for group in groups}
    missing = [split for split in SPLITS if split not in splits.values()]
    if missing:
        raise ValueError(f"the corpus itself puts every song into one split: none is left for {missing[0]!r}")
    return splits


def _check(groups: list[str], heldout_fraction: float, fixed: Mapping[str, str]) -> None:
    if not 0.0 < heldout_fraction < 1.0:
        raise ValueError(f"heldout_fraction is {heldout_fraction}; expected a number between 0 and 1")
    unknown = sorted({split for split in fixed.values() if split not in SPLITS})
    if unknown:
        raise ValueError(f"unknown split {unknown[0]!r}; expected one of {', '.join(SPLITS)}")
    if len(groups) < 2:
        raise ValueError(
            f"{len(groups)} usable song group(s) {groups}: training and judging need different songs, so at least 2. "
            "Add songs, or give songs that are different compositions different 'group' names in their song.json."
        )


def _hash(seed: int, group: str) -> str:
    return sha256(f"{seed}/{group}".encode()).hexdigest()
