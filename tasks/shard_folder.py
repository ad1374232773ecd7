"""Where the shards of a result lie: in its own folder, or under the runtime's shard root and named in `shards.json`.

Either way the result has the same content digest: the store counts what is named as if it lay in the folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.artifact import Artifact
from tasks.runtime import Runtime
from tasks.shards import index_path, read_index
from tasks.step import Step
from tasks.storage import joined, name_of, read_bytes, remove, sizes_in
from tasks.whole_files import write_whole

ELSEWHERE = "shards.json"


class BadShardList(ValueError):
    """A `shards.json` that is damaged, or names what is not its own."""


def shard_home(out: Path, step: Step, runtime: Runtime) -> str:
    """The folder that the step's shards are written to. Under a shard root it is the same for every workspace."""
    return joined(runtime.shard_root, step.stage, step.key()) if runtime.shard_root else str(out)


def shard_path(home: str | Path, number: int) -> str:
    """Where shard `number` of a result lies."""
    return joined(home, shard_name(number))


def shard_name(number: int) -> str:
    """What shard `number` is called, and what is made of it is named by."""
    return f"shard-{number:06d}.tar"


def name_shards(out: Path, home: str, shards: Iterable[str], beside: Iterable[str] = ()) -> None:
    """Name shards and the files `beside` them in the result, if they lie elsewhere, with bytes and digests."""
    if home == str(out):
        return
    files = {}
    for shard in shards:
        index = read_index(shard)
        files[name_of(shard)] = {"bytes": index.bytes, "sha256": index.sha256}
        files |= _told(index_path(shard))
    for place in beside:
        files |= _told(place)
    record = {"home": home, "files": files}
    write_whole(out / ELSEWHERE, json.dumps(record, indent=1, sort_keys=True).encode())


def _told(place: str) -> dict[str, dict[str, Any]]:
    data = read_bytes(place)
    return {name_of(place): {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}}


def shards_of(artifact: Artifact) -> list[str]:
    """The shards of a result, in order."""
    return shards_in(artifact.path)


def shards_in(folder: Path) -> list[str]:
    """The shards of a result's folder, in order, wherever they lie."""
    if (folder / ELSEWHERE).exists():
        record = _record(folder)
        return [joined(record["home"], name) for name in sorted(record["files"]) if name.endswith(".tar")]
    return sorted(str(path) for path in folder.glob("shard-*.tar"))


def files_elsewhere(folder: Path) -> dict[str, dict[str, Any]]:
    """Bytes and sha256 of the files that a result has elsewhere, by name; none where all lie in its folder."""
    return _record(folder)["files"] if (folder / ELSEWHERE).exists() else {}


def sizes_elsewhere(folder: Path) -> dict[str, int]:
    """The bytes that are there now of the files that a result has elsewhere."""
    return sizes_in(_record(folder)["home"]) if (folder / ELSEWHERE).exists() else {}


def remove_elsewhere(folder: Path, stage: str, key: str) -> None:
    """Remove what the result of that stage and key has elsewhere. Raises BadShardList for any other folder's name."""
    if not (folder / ELSEWHERE).exists():
        return
    home = _record(folder)["home"]
    if not home.endswith(f"/{stage}/{key}"):
        raise BadShardList(
            f"{folder / ELSEWHERE} names {home}, not the folder {stage}/{key} of a shard root; remove it"
        )
    remove(home)


def remove_files(folder: Path, names: Iterable[str]) -> None:
    """Remove these files of a result, wherever they lie."""
    home = _record(folder)["home"] if (folder / ELSEWHERE).exists() else str(folder)
    for name in names:
        remove(joined(home, name))


def _record(folder: Path) -> dict[str, Any]:
    """What `shards.json` says: a home, and plain names with bytes and digests. Raises BadShardList."""
    path = folder / ELSEWHERE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        for name, entry in record["files"].items():
            if "/" in name or not isinstance(entry["bytes"], int) or not isinstance(entry["sha256"], str):
                raise TypeError(f"{name!r} is no plain name with bytes and sha256")
        if not isinstance(record["home"], str):
            raise TypeError("home is no place")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadShardList(f"{path} is no list of shards ({error!r}); put it back, or make the result again") from error
    return record
