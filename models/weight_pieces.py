"""Files cut into pieces that small channels carry, and joined again only where every byte is the one that was cut."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from models.weights import WeightsError

PIECE_BYTES = 15_000_000
MANIFEST = ".pieces.json"


def split_file(path: Path, folder: Path, *, piece_bytes: int = PIECE_BYTES) -> Path:
    """The manifest, written last, of the pieces of `path` in `folder`: NAME.000, NAME.001 ... and NAME.pieces.json.

    It names the file, its size and sha256, and the name, size and sha256 of every piece in order.
    """
    if piece_bytes < 1:
        raise ValueError(f"pieces of {piece_bytes} bytes; expected 1 or more, {PIECE_BYTES} is usual")
    folder.mkdir(parents=True, exist_ok=True)
    whole = hashlib.sha256()
    pieces: list[dict[str, Any]] = []
    with path.open("rb") as file:
        while content := file.read(piece_bytes):
            name = f"{path.name}.{len(pieces):03d}"
            (folder / name).write_bytes(content)
            whole.update(content)
            pieces.append({"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    manifest = {"name": path.name, "bytes": path.stat().st_size, "sha256": whole.hexdigest(), "pieces": pieces}
    target = folder / (path.name + MANIFEST)
    scratch = target.with_name(target.name + ".partial")
    scratch.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    scratch.replace(target)
    return target


def join_pieces(manifest: Path, folder: Path) -> Path:
    """The whole file in `folder`, appearing only when every piece beside `manifest` and the whole are as stated.

    Raises WeightsError for a manifest that is none, and for a missing, damaged or superfluous byte.
    """
    stated = _stated(manifest)
    target = folder / stated["name"]
    folder.mkdir(parents=True, exist_ok=True)
    scratch, whole = target.with_name(target.name + ".partial"), hashlib.sha256()
    with scratch.open("wb") as file:
        for piece in stated["pieces"]:
            content = _checked(manifest.parent / piece["name"], piece["sha256"])
            whole.update(content)
            file.write(content)
    if whole.hexdigest() != stated["sha256"]:
        scratch.unlink()
        raise WeightsError(
            f"the pieces of {manifest} join to sha256 {whole.hexdigest()}, not {stated['sha256']}: the manifest lacks "
            "a piece or names them in another order; fetch it again"
        )
    return scratch.replace(target)


def _checked(path: Path, sha256: str) -> bytes:
    if not path.is_file():
        raise WeightsError(f"the piece {path} is missing; fetch it into the manifest's folder")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise WeightsError(f"the piece {path} has sha256 {found}, expected {sha256}; fetch it again")
    return content


def _stated(manifest: Path) -> dict[str, Any]:
    try:
        stated = json.loads(manifest.read_text(encoding="utf-8"))
        names = [stated["name"], *(piece["name"] for piece in stated["pieces"])]
        digests = [stated["sha256"], *(piece["sha256"] for piece in stated["pieces"])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{manifest} is not a manifest of pieces ({error!r}); fetch it again") from error
    strange = [name for name in names if Path(str(name)).name != name]
    if strange or len(digests) < 2:
        raise WeightsError(f"{manifest} names {strange or 'no piece'}; expected plain names of files beside it")
    return dict(stated)
