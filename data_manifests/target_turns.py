"""Which stem of a track is the target of its visit number v: its roles take turns, and the stems of a role in turn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_manifests.draws import below, text_bits
from data_manifests.schema import Track
from data_manifests.stem_table import StemTable

# Shapes: N rows, T tracks, S stems of all tracks, G targets of all tracks, R roles of all tracks.


class Chosen(NamedTuple):
    """Per row: the target, as a row of the stem table, and how often it was the target before."""

    stem_N: NDArray[np.int64]
    visit_N: NDArray[np.int64]


class TargetTurns(NamedTuple):
    """The targets by track and role: those of track t have the roles first_role_T[t] to first_role_T[t + 1] - 1."""

    key_T: NDArray[np.uint64]
    first_role_T: NDArray[np.int64]
    key_R: NDArray[np.uint64]
    first_target_R: NDArray[np.int64]
    stem_G: NDArray[np.int64]

    @property
    def usable_tracks(self) -> NDArray[np.int64]:
        """The tracks with a target."""
        return np.flatnonzero(np.diff(self.first_role_T))

    def chosen(self, track_N: NDArray[np.int64], visit_N: NDArray[np.int64], seed: int) -> Chosen:
        """The target of each track's visit."""
        key_N, first_role_N = self.key_T[track_N], self.first_role_T[track_N]
        roles_N = self.first_role_T[track_N + 1] - first_role_N
        role_visit_N, turn_N = np.divmod(visit_N, roles_N)
        role_N = first_role_N + (turn_N + below(roles_N, seed, "role", key_N)) % roles_N
        stems_N = self.first_target_R[role_N + 1] - self.first_target_R[role_N]
        stem_visit_N, turn_N = np.divmod(role_visit_N, stems_N)
        place_N = (turn_N + below(stems_N, seed, "stem", key_N, self.key_R[role_N])) % stems_N
        return Chosen(self.stem_G[self.first_target_R[role_N] + place_N], stem_visit_N)


def target_turns(tracks: Sequence[Track], stems: StemTable, is_target_S: NDArray[np.bool_]) -> TargetTurns:
    """The turns of all stems that can be targets, in the order of their roles' names."""
    roles_of_track: list[int] = []
    keys: list[int] = []
    targets_of_role: list[int] = []
    order: list[int] = []
    for track, first in zip(tracks, stems.first_T.tolist(), strict=False):
        by_role: defaultdict[str, list[int]] = defaultdict(list)
        for place in np.flatnonzero(is_target_S[first : first + len(track.stems)]).tolist():
            by_role[track.stems[place].role].append(first + place)
        roles_of_track.append(len(by_role))
        for role, members in sorted(by_role.items()):
            keys.append(text_bits(role))
            targets_of_role.append(len(members))
            order += members
    return TargetTurns(
        key_T=np.array([text_bits(track.id) for track in tracks], dtype=np.uint64),
        first_role_T=np.cumsum([0, *roles_of_track]),
        key_R=np.array(keys, dtype=np.uint64),
        first_target_R=np.cumsum([0, *targets_of_role]),
        stem_G=np.array(order, dtype=np.int64),
    )
