"""Which songs a model may see and which it is judged on: decided per group, by a hash of its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

from data_manifests.schema import SPLITS


def assign_splits(
    group_ids: Iterable[str], heldout_fraction: float, seed: int, fixed: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Group -> "train" or "heldout", with at least one group in each.

    `fixed` keeps what a corpus says itself; the other groups are held out in the order of a hash of (seed, group)
    until `heldout_fraction` of all is reached, so that a group's place depends on no other group's name.
    """
    groups = sorted(set(group_ids))
    fixed = {group: split for group, split in (fixed or {}).items() if group in groups}
    _check(groups, heldout_fraction, fixed)
    free = sorted((group for group in groups if group not in fixed), key=lambda group: _hash(seed, group))
    wanted = min(max(round(heldout_fraction * len(groups)), 1), len(groups) - 1)
    already = sum(split == "heldout" for split in fixed.values())
    heldout = set(free[: max(wanted - already, 0)])
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
