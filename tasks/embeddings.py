"""The artifact that every embedding stage leaves: arrays by name, what each row is, and their space.

It is made in parts, one per piece of work, so that a stage that was stopped goes on; the parts are joined at its end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load_file, save, save_file

from metrics.embeddings import Space
from tasks.artifact import Artifact
from tasks.whole_files import write_whole

EMBEDDINGS, ROWS, SPACE = "embeddings.safetensors", "rows.json", "space.json"


class Row(NamedTuple):
    """What the pair plan says of a window: its key, its track, the target's role and the text of its tags."""

    key: str
    track: str
    role: str
    text: str


def window_row(sample: dict[str, Any]) -> Row:
    """The row that a window's JSON member describes."""
    told = json.loads(sample["json"])
    return Row(key=sample["__key__"], track=told["track_id"], role=told["role"], text=told["tags"])


class Embeddings(NamedTuple):
    """The arrays of an embedding artifact by name, what each row is, and the space that all of them lie in."""

    arrays: dict[str, np.ndarray]
    rows: list[Row]
    space: Space

    def of(self, name: str, keys: Sequence[str]) -> np.ndarray:
        """One of the arrays for these windows, in this order."""
        place = {row.key: number for number, row in enumerate(self.rows)}
        return self.arrays[name][[place[key] for key in keys]]


def load_embeddings(artifact: Artifact) -> Embeddings:
    """The embeddings of a finished artifact."""
    arrays = load_file(artifact.path / EMBEDDINGS)
    rows = [Row(**row) for row in json.loads((artifact.path / ROWS).read_text(encoding="utf-8"))]
    space = Space(**json.loads((artifact.path / SPACE).read_text(encoding="utf-8")))
    return Embeddings(arrays=arrays, rows=rows, space=space)


def part_path(folder: Path, number: int) -> Path:
    """Where one piece of an embedding artifact is written."""
    return folder / f"part-{number:06d}.safetensors"


def write_part(path: Path, arrays: dict[str, np.ndarray], rows: Sequence[Row]) -> None:
    """Write the arrays of one piece and, when they are there, its rows beside them."""
    write_whole(path, save({name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}))
    write_whole(path.with_suffix(".json"), json.dumps([row._asdict() for row in rows]).encode())


def part_is_whole(path: Path) -> bool:
    """Whether a piece was written by an earlier try: its arrays, and the rows that come after them."""
    return path.exists() and path.with_suffix(".json").exists()


def merge_parts(folder: Path, space: Space) -> dict[str, Any]:
    """Join the pieces in order into one set of arrays and one list of rows, name their space, and drop the pieces."""
    paths = [path for path in sorted(folder.glob("part-*.safetensors")) if part_is_whole(path)]
    parts = [load_file(path) for path in paths]
    rows = [row for path in paths for row in json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    save_file(joined, folder / EMBEDDINGS)
    write_whole(folder / ROWS, json.dumps(rows, ensure_ascii=False).encode())
    write_whole(folder / SPACE, json.dumps(asdict(space), indent=1).encode())
    for path in folder.glob("part-*"):
        path.unlink()
    return {"rows": len(rows), "arrays": sorted(joined)}
