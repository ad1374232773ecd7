import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tasks.shards import BrokenShard, index_path, json_bytes, load_npy, npy_bytes, read_index, read_shard, write_shard


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    return [
        {
            "__key__": f"train-{i:08d}",
            "target.npy": npy_bytes(rng.standard_normal((4, 3)).astype(np.float32)),
            "json": json_bytes({"index": i, "tags": "warm pad, für Elise"}),
            "context.flac": bytes(range(i + 1)),
        }
        for i in range(5)
    ]


@pytest.fixture
def shard(tmp_path, samples):
    path = tmp_path / "windows-000000.tar"
    write_shard(path, samples)
    return path


def test_what_was_written_is_read_in_order(shard, samples):
    assert list(read_shard(shard)) == samples
    assert np.array_equal(load_npy(next(read_shard(shard))["target.npy"]), load_npy(samples[0]["target.npy"]))


def test_two_writes_of_a_shard_are_byte_equal(shard, tmp_path, samples):
    shuffled = [dict(reversed(sample.items())) for sample in samples]
    first = write_shard(tmp_path / "again.tar", iter(shuffled))
    assert (tmp_path / "again.tar").read_bytes() == shard.read_bytes()
    assert first == read_index(shard)
    with tarfile.open(shard) as tar:
        members = tar.getmembers()
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
        assert [m.name for m in members[:3]] == [f"train-00000000.{n}" for n in ("context.flac", "json", "target.npy")]


def test_webdataset_itself_reads_the_shard(shard, samples):
    webdataset = pytest.importorskip("webdataset")
    keys = [sample["__key__"] for sample in webdataset.WebDataset(str(shard), shardshuffle=False)]
    assert keys == [sample["__key__"] for sample in samples]


def test_a_truncated_shard_is_refused_before_its_first_sample(shard):
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(BrokenShard, match="not the whole"):
        next(read_shard(shard))
    with pytest.raises(BrokenShard, match="not the whole"):
        next(read_shard(shard, verify=False))


def test_a_changed_byte_is_found_by_the_digest(shard):
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(BrokenShard, match="sha256"):
        next(read_shard(shard))


def test_an_index_that_counts_more_samples_than_the_tar_holds_is_refused(shard):
    record = json.loads(Path(index_path(shard)).read_text())
    record |= {"count": 6, "keys": [*record["keys"], "train-00000005"]}
    Path(index_path(shard)).write_text(json.dumps(record))
    with pytest.raises(BrokenShard, match="5 of 6 samples"):
        list(read_shard(shard))
    record["keys"][0] = "train-00000009"
    Path(index_path(shard)).write_text(json.dumps(record))
    with pytest.raises(BrokenShard, match="not where the index has it"):
        list(read_shard(shard))


def test_a_shard_without_its_index_or_an_index_without_its_shard_was_never_finished(shard):
    text = Path(index_path(shard)).read_text()
    Path(index_path(shard)).unlink()
    with pytest.raises(BrokenShard, match="no index"):
        next(read_shard(shard))
    Path(index_path(shard)).write_text("[]")
    with pytest.raises(BrokenShard, match="not a shard's index"):
        next(read_shard(shard))
    Path(index_path(shard)).write_text(text)
    shard.unlink()
    with pytest.raises(BrokenShard, match="missing"):
        next(read_shard(shard))


def test_pickles_are_refused_in_writing_and_in_reading(tmp_path, shard):
    with pytest.raises(ValueError, match="no pickle"):
        write_shard(tmp_path / "bad.tar", [{"__key__": "a", "data.pkl": b""}])
    with tarfile.open(shard, "w") as tar:
        member = tarfile.TarInfo("train-00000000.x.pyd")
        tar.addfile(member, io.BytesIO(b""))
    record = json.loads(Path(index_path(shard)).read_text()) | {"bytes": shard.stat().st_size}
    Path(index_path(shard)).write_text(json.dumps(record))
    with pytest.raises(BrokenShard, match="could run code"):
        list(read_shard(shard, verify=False))
    with pytest.raises(ValueError, match=r"[Oo]bject arrays|pickle"):
        npy_bytes(np.array([object()]))


@pytest.mark.parametrize("key", ["Band - Song v1.2", "a.b", "", "ä"])
def test_a_key_that_webdataset_would_split_is_refused(tmp_path, key):
    with pytest.raises(ValueError, match="a-z0-9"):
        write_shard(tmp_path / "x.tar", [{"__key__": key, "json": b"{}"}])


def test_an_error_while_writing_leaves_nothing_behind(tmp_path, samples):
    def failing():
        yield samples[0]
        raise RuntimeError("the worker dies here")

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "x.tar", failing())
    with pytest.raises(ValueError, match="at least one sample"):
        write_shard(tmp_path / "x.tar", [])
    with pytest.raises(ValueError, match="stands in the shard already"):
        write_shard(tmp_path / "x.tar", [samples[0], samples[0]])
    assert list(tmp_path.iterdir()) == []


def test_writing_shards_needs_neither_webdataset_nor_torch():
    code = "import sys, tasks.shards; sys.exit('webdataset' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
