"""What somebody brought to be judged, and the same as sets of embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from data_manifests.schema import Quarantined
from tasks.embeddings import Embeddings
from tasks.evaluate_clips import without

VECTOR_SUFFIXES = (".npy", ".parquet")
CONTEXTS = "contexts and reference_contexts"


@dataclass(frozen=True, kw_only=True)
class Material:
    """What is judged, and against what: folders of audio; or `.npy` and Parquet files of embeddings of one `space`.

    Each of `candidates` is a row of the table. Contexts, targets (what a candidate was to resemble) and prompts belong
    to candidates by name: the path below the folder without the extension, a row's id, or its number.
    """

    candidates: tuple[Path, ...]
    references: Path
    contexts: Path | None = None
    reference_contexts: Path | None = None
    targets: Path | None = None
    prompts: Path | None = None
    space: str | None = None

    def arms(self) -> dict[str, Path]:
        """The candidates by name."""
        return named_arms(self.candidates)

    def blank(self) -> dict[str, str]:
        """The metrics that nothing was given for, and what they need."""
        needs = {
            "cs_aa": (self.targets, "it needs targets, what each candidate was to resemble"),
            "cs_ta": (self.prompts, "it needs prompts, what each candidate was asked for in words"),
        }
        return {metric: why for metric, (given, why) in needs.items() if given is None}


class Heard(NamedTuple):
    """The material as embeddings in one space.

    An arm has `stem_NE` and, where they were given, `mixture_NWE`, `target_NE` and `text_NE`, row by row; references
    and mispaired references have the same rows. `blank` says of a metric why it cannot be computed, `left_out` what
    is missing from a set and why.
    """

    kind: str
    arms: dict[str, Embeddings]
    references: Embeddings
    mispaired: Embeddings | None
    digest: str
    blank: dict[str, str]
    left_out: dict[str, list[Quarantined]]
    notes: list[str]


def named_arms(candidates: Sequence[Path]) -> dict[str, Path]:
    """Folders or files of candidates by their own names, with a number where two are called alike."""
    names = [path.stem if is_vectors(path) else path.resolve().name for path in candidates]
    return {
        name if names.count(name) == 1 else f"{name}-{place + 1}": path
        for place, (name, path) in enumerate(zip(names, candidates, strict=True))
    }


def is_vectors(path: Path) -> bool:
    """Whether a path names a file of embeddings rather than a folder of audio."""
    return path.suffix.lower() in VECTOR_SUFFIXES and not path.is_dir()


def joined(made: Embeddings, partners: Mapping[str, Embeddings], left_out: list[Quarantined]) -> Embeddings:
    """An arm's rows with the partners of their names; those without are left out, and named in `left_out`."""
    known = {what: {row.key: row for row in partner.rows} for what, partner in partners.items()}
    missing = {row.key: without(row.key, known) for row in made.rows}
    left_out.extend(one for one in missing.values() if one)
    rows = [row for row in made.rows if missing[row.key] is None]
    if not rows:
        raise ValueError(f"no candidate has what was given for it; {made.rows[0].key}: {left_out[-1].reason}")
    keys = [row.key for row in rows]
    arrays = {name: made.of(name, keys) for name in made.arrays}
    arrays |= {f"{what}_NE": partner.of("stem_NE", keys) for what, partner in partners.items()}
    return Embeddings(arrays, rows, made.space)
