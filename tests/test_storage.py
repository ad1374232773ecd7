"""Shards under other roots: the same bytes, whole or not at all, whatever happens on the way."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks import storage
from tasks.shards import BrokenShard, index_path, npy_bytes, read_index, read_members, read_shard, write_shard
from tasks.storage import (
    check_writable,
    joined,
    local_copy,
    read_bytes,
    remove,
    size_of,
    sizes_in,
    write_bytes,
    writing,
)

MIB = 2**20


@pytest.fixture(params=["folder", "memory", "s3"])
def root(request, tmp_path):
    if request.param == "s3":
        request.getfixturevalue("s3")
        yield "s3://windows/some/prefix"
    elif request.param == "memory":
        yield "memory://windows/prefix"
        remove("memory://windows")
    else:
        yield str(tmp_path / "root")


def samples(count: int = 3, size: int = 1000):
    rng = np.random.default_rng(0)
    for index in range(count):
        yield {"__key__": f"train-{index}", "a.npy": npy_bytes(rng.integers(0, 255, size, np.uint8)), "json": b"{}"}


def keys_in(client) -> list[str]:
    return [entry["Key"] for entry in client.list_objects_v2(Bucket="windows").get("Contents", ())]


def test_a_shard_has_the_same_bytes_and_index_under_every_root(root, tmp_path):
    here, there = tmp_path / "x.tar", joined(root, "shard-000000.tar")
    assert write_shard(here, samples()) == write_shard(there, samples()) == read_index(there)
    assert read_bytes(there) == here.read_bytes()
    assert read_bytes(index_path(there)) == Path(index_path(here)).read_bytes()
    assert list(read_shard(there)) == list(samples())
    assert [key for key, members in read_members(there, ("json",)) if members == {"json": b"{}"}] == [
        "train-0",
        "train-1",
        "train-2",
    ]


def test_places_are_listed_measured_and_removed(root):
    assert sizes_in(root) == {}
    write_bytes(joined(root, "a"), b"12")
    write_bytes(joined(root, "b.json"), b"345")
    assert sizes_in(root) == {"a": 2, "b.json": 3}
    write_bytes(joined(root, "a"), b"longer")
    assert size_of(joined(root, "a")) == 6 and read_bytes(joined(root, "a")) == b"longer"
    with local_copy(joined(root, "a")) as path:
        assert path.read_bytes() == b"longer"
    remove(root)
    remove(root)
    assert sizes_in(root) == {}
    with pytest.raises(FileNotFoundError):
        read_bytes(joined(root, "a"))


def test_an_error_while_writing_leaves_no_file_under_any_root(root):
    def failing():
        yield from samples(2)
        raise RuntimeError("the worker dies here")

    with pytest.raises(RuntimeError, match="dies here"):
        write_shard(joined(root, "x.tar"), failing())
    assert sizes_in(root) == {}


def test_a_shard_that_was_changed_or_cut_short_is_refused_under_every_root(root):
    shard = joined(root, "x.tar")
    with pytest.raises(BrokenShard, match="no index"):
        next(read_shard(shard))
    write_shard(shard, samples())
    data = bytearray(read_bytes(shard))
    write_bytes(shard, bytes(data[:-512]))
    with pytest.raises(BrokenShard, match="not the whole shard"):
        next(read_shard(shard))
    data[700] ^= 1
    write_bytes(shard, bytes(data))
    with pytest.raises(BrokenShard, match="sha256"):
        next(read_shard(shard))


def test_a_large_shard_goes_to_s3_in_parts(s3, monkeypatch, tmp_path):
    monkeypatch.setattr(storage, "PART_BYTES", 5 * MIB)  # S3's smallest
    index = write_shard("s3://windows/x.tar", samples(7, 2 * MIB))
    assert index == write_shard(tmp_path / "x.tar", samples(7, 2 * MIB))
    assert s3.head_object(Bucket="windows", Key="x.tar")["ETag"].endswith('-3"')  # of three parts
    assert read_bytes("s3://windows/x.tar") == (tmp_path / "x.tar").read_bytes()


def test_an_upload_that_fails_is_aborted_and_leaves_no_parts(s3, monkeypatch):
    monkeypatch.setattr(storage, "PART_BYTES", 5 * MIB)

    def failing():
        yield from samples(4, 2 * MIB)
        uploads = s3.list_multipart_uploads(Bucket="windows")["Uploads"]
        assert [upload["Key"] for upload in uploads] == ["x.tar"]
        raise RuntimeError("the worker dies here")

    with pytest.raises(RuntimeError):
        write_shard("s3://windows/x.tar", failing())
    assert keys_in(s3) == []
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="windows")


def test_a_lost_connection_leaves_no_half_shard_and_the_next_run_gives_the_same_digest(
    s3_server, s3, monkeypatch, tmp_path
):
    monkeypatch.setattr(storage, "PART_BYTES", 5 * MIB)
    whole = write_shard(tmp_path / "x.tar", samples(7, 2 * MIB))
    _, port = s3_server.get_host_and_port()

    def losing():
        for index, sample in enumerate(samples(7, 2 * MIB)):
            if index == 4:
                s3_server.stop()
            yield sample

    with pytest.raises(Exception, match="connect"):
        write_shard("s3://windows/x.tar", losing())
    s3_server._port = port  # the same address again
    s3_server.start()
    assert keys_in(s3) == []
    assert write_shard("s3://windows/x.tar", samples(7, 2 * MIB)) == whole
    assert keys_in(s3) == ["x.json", "x.tar"]
    assert len(list(read_shard("s3://windows/x.tar"))) == 7


def test_a_full_disk_leaves_no_half_shard_and_the_next_run_gives_the_same_digest(tmp_path):
    whole = write_shard(tmp_path / "whole.tar", samples(3, MIB))
    shard = tmp_path / "disk" / "x.tar"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_shard(shard, samples(3, MIB))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(shard.parent.iterdir()) == []
    assert write_shard(shard, samples(3, MIB)) == whole


DYING = """
import os, signal, sys
from tasks.shards import write_shard
def dying():
    yield {"__key__": "train-0", "a.npy": bytes(6 * 2**20)}
    os.kill(os.getpid(), signal.SIGKILL)
write_shard(sys.argv[1], dying())
"""


@pytest.mark.parametrize("scheme", ["folder", "s3"])
def test_a_killed_writer_leaves_no_half_shard_and_the_next_run_gives_the_same_digest(scheme, request, tmp_path):
    if scheme == "s3":
        request.getfixturevalue("s3")
    place = "s3://windows/x.tar" if scheme == "s3" else str(tmp_path / "x.tar")
    killed = subprocess.run([sys.executable, "-c", DYING, place], cwd=Path(__file__).parent.parent, check=False)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(BrokenShard, match="no index"):
        next(read_shard(place))
    with pytest.raises(FileNotFoundError):
        size_of(place)
    assert write_shard(place, samples(3, MIB)) == write_shard(tmp_path / "other.tar", samples(3, MIB))


def test_a_root_that_can_be_written_is_left_as_it_was(root):
    check_writable(root)
    assert sizes_in(root) == {}


def test_a_root_that_cannot_be_written_is_named_in_one_line(s3, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for wrong in (str(tmp_path / "file" / "below"), "s3://no-such-bucket/prefix"):
        with pytest.raises(ValueError, match=r"^[^\n]*cannot be written: [^\n]*$") as refused:
            check_writable(wrong)
        assert wrong in str(refused.value)


def test_an_unknown_scheme_says_what_is_expected():
    with pytest.raises(ValueError, match=r"expected a local path or a URL such as s3://"):
        size_of("nonsense://x/y")


def test_a_missing_package_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(ValueError, match=r"install stemwright\[s3\]"):
        size_of("s3://windows/x")


def test_a_local_file_is_never_seen_before_it_is_whole(tmp_path):
    with writing(tmp_path / "new" / "x") as file:
        file.write(b"half")
        assert not (tmp_path / "new" / "x").exists()
    assert (tmp_path / "new" / "x").read_bytes() == b"half"
