"""A full disk, a folder that cannot be written, a clock that jumps back, a damaged record: an error that names the
remedy, or a run that goes on; and what was finished stays.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from flows.__main__ import app
from flows.status import age_text
from models.weights import WeightsError, load_weights, save_weights
from tasks.checkpoints import POINTER, load_state, save_state
from tasks.kept_files import KeptFiles
from tasks.runtime import Runtime
from tasks.shard_folder import ELSEWHERE, BadShardList, shard_path
from tasks.shards import write_shard
from tasks.step import Step
from tasks.store import RECORD, BadRecord, Store

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Fill(Step):
    """Writes so many bytes."""

    stage: ClassVar[str] = "fill"

    size: int

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        (out / "bytes").write_bytes(bytes(self.size))
        return {}


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(workspace=str(tmp_path))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "artifacts")


def mounted(folder: Path, how: str) -> bool:
    """Whether a disk in memory could be mounted there."""
    command = ["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_no_result_and_what_was_there_stays(small_disk: Path) -> None:
    store, runtime = Store(small_disk / "artifacts"), Runtime(workspace=str(small_disk))
    kept = store.build(Fill(size=MIB), runtime)
    with pytest.raises(OSError, match="No space left"):
        store.build(Fill(size=MIB + 1), runtime)
    assert store.find(Fill(size=MIB + 1)) is None and store.find(Fill(size=MIB)) == kept
    with pytest.raises(OSError, match="No space left"):
        write_shard(shard_path(small_disk / "shards", 0), [{"__key__": "a", "x.npy": bytes(2 * MIB)}])
    assert not list((small_disk / "shards").iterdir())
    with pytest.raises(OSError, match=r"big\.safetensors cannot be written: .*; make room, and run again"):
        save_weights(small_disk / "big.safetensors", {"a": torch.zeros(MIB)}, {})
    assert not list(small_disk.glob("big*"))


def test_a_disk_that_fills_while_a_training_saves_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_state(tmp_path, {"step": torch.tensor(5)})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for call in ("models.weights.os.fsync", "tasks.whole_files.os.fsync"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
            patch.setattr(call, full)
            save_state(tmp_path, {"step": torch.tensor(10)})
    found = load_state(tmp_path)
    assert found is not None and int(found["step"]) == 5


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may write to: root only heeds a mount."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    if os.geteuid():
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
        return
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("root may write everywhere, and nothing can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_workspace_is_one_line_that_says_what_to_do(read_only: Path) -> None:
    told = CliRunner().invoke(app, ["reproduce", "--scale", "tiny", "--workspace", str(read_only)])
    assert told.exit_code == 2
    assert told.stderr == f"error: the workspace {read_only} cannot be written; name another with --workspace\n"


def test_a_clock_that_jumps_back_changes_no_result(
    store: Store, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Yesterday(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) - timedelta(days=400)

    first = store.build(Fill(size=1), runtime)
    with monkeypatch.context() as patch:
        patch.setattr("tasks.store.datetime", Yesterday)
        patch.setattr("time.time", lambda: 0.0)
        second = store.build(Fill(size=2), runtime)
        assert store.build(Fill(size=1), runtime) == first
    assert store.find(Fill(size=2)) == second
    assert store.record(second)["seconds"] >= 0
    assert age_text(store.record(first)["finished"], datetime.now(UTC) - timedelta(days=400)) == "0 s"
    source = tmp_path / "song.m4a"
    source.write_bytes(b"sound")
    kept = KeptFiles(folder=tmp_path / "kept", budget_bytes=1)
    path = kept.of(source, 0, lambda target: target.write_bytes(b"decoded") and None)
    os.utime(path, (2**33, 2**33))  # written when the clock was far ahead
    newest = kept.of(source, 1, lambda target: target.write_bytes(b"decoded") and None)
    assert newest.exists() and not path.exists()


def test_a_damaged_record_is_no_result_is_told_and_is_made_again(store: Store, runtime: Runtime) -> None:
    step, other = Fill(size=1), Fill(size=2)
    made, kept = store.build(step, runtime), store.build(other, runtime)
    whole = (made.path / RECORD).read_text()
    told = json.loads(whole)
    damages = [
        whole[: len(whole) // 2],
        "[" * 10_000,
        "[]",
        "{}",
        "\0",
        json.dumps(told | {"files": []}),
        json.dumps(told | {"digest": None}),
        json.dumps(told | {"files": {"../../../escape": {"bytes": 1, "sha256": ""}}}),
        (kept.path / RECORD).read_text(),
    ]
    for damage in damages:
        (made.path / RECORD).write_text(damage)
        assert store.find(step) is None
        assert str(store.flaw("fill", str(made.key))).startswith("record.json cannot be read")
        with pytest.raises(BadRecord, match=r"record\.json is damaged .*; run again, which makes the result again"):
            store.record(made)
        assert [record["key"] for record in store.records()] == [kept.key]
        assert store.build(step, runtime) == made


def test_a_list_of_shards_that_names_another_folder_removes_nothing_there(
    store: Store, runtime: Runtime, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    made = store.build(Fill(size=1), runtime)
    (made.path / ELSEWHERE).write_text(json.dumps({"home": str(precious), "files": {}}))
    with pytest.raises(BadShardList, match=r"names .*precious, not the folder fill/"):
        store.remove("fill", str(made.key))
    assert precious.is_dir()


@pytest.mark.parametrize("told", ["", "[" * 10_000, "[]", '{"file": "../../x", "sha256": "a"}', '{"file": 1}'])
def test_a_damaged_pointer_to_the_saved_state_says_how_to_go_on(told: str, tmp_path: Path) -> None:
    save_state(tmp_path, {"step": torch.tensor(5)})
    (tmp_path / POINTER).write_text(told)
    with pytest.raises(WeightsError, match=r"state\.json is damaged .*; put it back, or remove it to begin anew"):
        load_state(tmp_path)


def test_weights_cut_short_say_so(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, {"a": torch.from_numpy(np.zeros(1000, np.float32))}, {})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        load_weights(path)
