"""Embeddings that somebody computed before, from a `.npy` or a Parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from data_manifests.schema import Quarantined
from metrics.embeddings import UNIT_NORM_TOLERANCE, Space
from tasks.embeddings import Embeddings, Row
from tasks.evaluate_material import CONTEXTS, Heard, Material, is_vectors, joined
from tasks.npy_file import read_npy
from tasks.whole_files import file_sha256


def heard_vectors(material: Material) -> Heard:
    """Files of embeddings as they are: nothing can be mixed, and a prompt is an embedding too."""
    if material.space is None:
        raise ValueError("embeddings without a name of their space; say which model made them, such as laion-clap")
    if material.contexts or material.reference_contexts:
        raise ValueError(f"{CONTEXTS} are mixed with audio, and embeddings cannot be mixed; leave them out")
    given = {what: path for what, path in {"target": material.targets, "text": material.prompts}.items() if path}
    for what, path in given.items():
        if not is_vectors(path):
            raise ValueError(f"{path}: beside embeddings a {what} is an embedding too; give a .npy or .parquet file")
    arms = material.arms()
    named = {f"candidates {name}": path for name, path in arms.items()}
    read = read_all_vectors({**named, "references": material.references, **given}, material.space)
    left_out: dict[str, list[Quarantined]] = {name: [] for name in arms}
    partners = {what: read[what] for what in given}
    return Heard(
        kind="embeddings",
        arms={name: joined(read[f"candidates {name}"], partners, left_out[name]) for name in arms},
        references=read["references"],
        mispaired=None,
        digest=file_sha256(material.references),
        blank={"apa": "embeddings cannot be mixed with a context; give folders of audio"} | material.blank(),
        left_out=left_out,
        notes=[],
    )


def read_all_vectors(paths: Mapping[str, Path], space: str) -> dict[str, Embeddings]:
    """Files of one space by their names, each as `stem_NE` with a row per embedding.

    The space has norm 1 if every row of every file has. Raises ValueError where widths differ.
    """
    read = {what: _read(path) for what, path in paths.items()}
    width_of = {what: vectors_NE.shape[1] for what, (vectors_NE, _) in read.items()}
    if len(set(width_of.values())) > 1:
        widths = ", ".join(f"{what} {paths[what].name}: {width}" for what, width in width_of.items())
        raise ValueError(f"embeddings of different widths ({widths}); embed all of them with one model")
    norms = np.concatenate([np.linalg.norm(vectors_NE, axis=1) for vectors_NE, _ in read.values()])
    normalised = bool((np.abs(norms - 1.0) <= UNIT_NORM_TOLERANCE).all())
    width = next(iter(width_of.values()))
    whole = Space(name=space, width=width, normalised=normalised, weights_sha256="")
    return {what: Embeddings({"stem_NE": vectors_NE}, rows, whole) for what, (vectors_NE, rows) in read.items()}


def _read(path: Path) -> tuple[np.ndarray, list[Row]]:
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; give a .npy or .parquet file of embeddings")
    vectors_NE, ids = _npy(path) if path.suffix.lower() == ".npy" else _parquet(path)
    if vectors_NE.ndim != 2 or 0 in vectors_NE.shape:
        raise ValueError(
            f"{path}: an array of shape {vectors_NE.shape}; expected (embeddings, width), neither of them 0"
        )
    broken_N = ~np.isfinite(vectors_NE).all(axis=1)
    if broken_N.any():
        raise ValueError(
            f"{path}: {ids[int(np.argmax(broken_N))]} holds NaN or infinity; embed it again or leave it out"
        )
    # A song of its own each: nothing is known of where a bare embedding comes from.
    return vectors_NE, [Row(key=name, track=name, role="other", text="") for name in ids]


def _npy(path: Path) -> tuple[np.ndarray, list[str]]:
    """Rows are called by their numbers, so that row i of two files belong together."""
    with path.open("rb") as file:
        array = read_npy(file, str(path))
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{path} holds {array.dtype}; expected float16, float32 or float64")
    return _single_or_double(array), [f"row {number}" for number in range(len(array) if array.ndim else 0)]


def _parquet(path: Path) -> tuple[np.ndarray, list[str]]:
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise ValueError(f"{path} is no Parquet file: {error}") from error
    lists = [name for name, type_ in frame.schema.items() if isinstance(type_, (pl.List, pl.Array))]
    if "id" not in frame.columns or len(lists) != 1:
        columns = ", ".join(frame.columns)
        raise ValueError(f"{path} has the columns {columns}; expected id and one column of lists of numbers")
    ids, rows = [str(name) for name in frame["id"].to_list()], frame[lists[0]].to_list()
    widths = {len(row) if row is not None else 0 for row in rows}
    if len(widths) != 1:
        raise ValueError(f"{path}: embeddings of widths {sorted(widths)}; expected one width for all")
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise ValueError(f"{path} names {twice!r} twice; give every embedding an id of its own")
    return _single_or_double(np.asarray(rows, dtype=np.float64)), ids


def _single_or_double(array: np.ndarray) -> np.ndarray:
    return array if array.dtype == np.float64 else array.astype(np.float32)
