"""Sets of embeddings that know which space they live in, so that two spaces never compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

# Shapes: N set size, D width of the space.

CONTENTS = ("stem", "mixture", "text")
"""What a row was computed from: a stem alone, a stem mixed with its context, or a caption."""

UNIT_NORM_TOLERANCE = 1e-3  # float16 storage of a unit vector moves its norm by less than this

LARGEST_VALUE = 1e150  # squares beyond it overflow float64

Floats: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Space:
    """The identity of an embedding space: the model and layer, its width, whether rows have norm 1, the weights."""

    name: str
    width: int
    normalised: bool
    weights_sha256: str


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddingSet:
    """Embeddings `vectors_ND` (float32 or float64) of the items `ids`, in one space; checked once, then read-only."""

    vectors_ND: Floats
    ids: tuple[str, ...]
    space: Space
    content: str

    def __post_init__(self) -> None:
        if self.content not in CONTENTS:
            raise ValueError(f"content {self.content!r} is not one of {', '.join(CONTENTS)}")
        vectors_ND = np.asarray(self.vectors_ND)
        what = f"the {self.content} embeddings in {self.space.name!r}"
        if vectors_ND.dtype not in (np.float32, np.float64):
            raise ValueError(f"{what} are {vectors_ND.dtype}; convert them to float32 or float64")
        _require_finite_matrix(vectors_ND, what)
        self._require_ids(vectors_ND, what)
        self._require_geometry(vectors_ND, what)
        frozen_ND = vectors_ND.view()
        frozen_ND.flags.writeable = False  # the cached reference quantities of metrics.score rely on it
        object.__setattr__(self, "vectors_ND", frozen_ND)
        object.__setattr__(self, "ids", tuple(self.ids))

    def __len__(self) -> int:
        return len(self.vectors_ND)

    def rows(self, start: int, stop: int) -> EmbeddingSet:
        """Rows `start` to `stop` (excluded) as a set of their own."""
        return EmbeddingSet(
            vectors_ND=self.vectors_ND[start:stop], ids=self.ids[start:stop], space=self.space, content=self.content
        )

    def _require_ids(self, vectors_ND: Floats, what: str) -> None:
        if len(self.ids) != len(vectors_ND):
            raise ValueError(f"{what} have {len(vectors_ND)} rows but {len(self.ids)} ids; give one id per row")
        first_row: dict[str, int] = {}
        for row, item in enumerate(self.ids):
            if item in first_row:
                raise ValueError(f"{what} name {item!r} twice, in rows {first_row[item]} and {row}")
            first_row[item] = row

    def _require_geometry(self, vectors_ND: Floats, what: str) -> None:
        if vectors_ND.shape[1] != self.space.width:
            raise ValueError(f"{what} are {vectors_ND.shape[1]} wide; the space is {self.space.width}")
        if not self.space.normalised:
            return
        norm_N = np.linalg.norm(vectors_ND, axis=1)
        wrong_N = np.abs(norm_N - 1.0) > UNIT_NORM_TOLERANCE
        if wrong_N.any():
            raise ValueError(f"{what} must have norm 1; {_rows(wrong_N)} have {norm_N[wrong_N][:3]}")


Vectors: TypeAlias = EmbeddingSet | Floats
"""What every metric accepts: a checked set, or a plain (N, D) array whose space nobody vouches for."""


class Checked(NamedTuple):
    """Finite rows (N, D), and their space when it is known."""

    vectors_ND: Floats
    space: Space | None

    @property
    def width(self) -> int:
        return int(self.vectors_ND.shape[1])


class InSpace(Protocol):
    """Anything computed from rows of one space."""

    @property
    def width(self) -> int: ...
    @property
    def space(self) -> Space | None: ...


def checked(vectors: Vectors, *, what: str, at_least: int = 1) -> Checked:
    """`vectors` as finite float32 or float64 rows, at least `at_least` of them; `what` names them in errors."""
    if isinstance(vectors, EmbeddingSet):
        rows = Checked(vectors.vectors_ND, vectors.space)
    else:
        vectors_ND = np.asarray(vectors)
        if vectors_ND.dtype not in (np.float32, np.float64):
            vectors_ND = vectors_ND.astype(np.float64)
        _require_finite_matrix(vectors_ND, what)
        rows = Checked(vectors_ND, None)
    if len(rows.vectors_ND) < at_least:
        raise ValueError(f"{what}: {len(rows.vectors_ND)} row(s) where at least {at_least} are needed; add embeddings")
    return rows


def require_one_space(a: InSpace, b: InSpace) -> None:
    """Nothing if `a` and `b` can be compared; an error if their spaces or widths differ."""
    if a.space is not None and b.space is not None and a.space != b.space:
        raise ValueError(f"two spaces never compare: {a.space} and {b.space}; embed both sets with the same model")
    if a.width != b.width:
        raise ValueError(f"embeddings of width {a.width} and {b.width} do not compare; embed both with the same model")


def _require_finite_matrix(vectors_ND: Floats, what: str) -> None:
    if vectors_ND.ndim != 2 or vectors_ND.shape[1] == 0:
        raise ValueError(f"{what}: an (N, D) array is needed, not one of shape {vectors_ND.shape}")
    sound_ND = np.isfinite(vectors_ND)
    if vectors_ND.dtype == np.float64:
        sound_ND &= np.abs(vectors_ND) <= LARGEST_VALUE
    broken_N = ~sound_ND.all(axis=1)
    if broken_N.any():
        raise ValueError(
            f"{what}: {_rows(broken_N)} hold NaN, infinity or values beyond {LARGEST_VALUE:g};"
            " leave them out or embed them again"
        )


def _rows(selected_N: NDArray[np.bool_]) -> str:
    rows = np.flatnonzero(selected_N)
    named = ", ".join(map(str, rows[:8]))
    return f"rows {named} and {len(rows) - 8} more" if len(rows) > 8 else f"rows {named}"
