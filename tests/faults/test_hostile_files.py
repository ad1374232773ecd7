"""Files made to do harm: each is refused by name, in little time and memory, and nothing of it runs or is written."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import resource
import struct
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_manifests.layouts.layout import BadMetadata, read_json, read_yaml
from data_manifests.song_file import BadSongFile, parse_song_file
from models.weights import WeightsError, load_metadata, load_weights
from tasks.audio import UnreadableAudio, probe, read_rated_blocks
from tasks.audio_bytes import decode_flac, flac_bytes
from tasks.npy_file import read_npy
from tasks.shards import BrokenShard, index_path, load_npy, npy_bytes, read_members, read_shard, write_shard
from tasks.whole_files import file_sha256

GIB = 2**30
DEEP = "[" * 10_000 + "]" * 10_000


@pytest.fixture(autouse=True)
def _little_memory() -> Iterator[None]:
    """A reader that believes what it is told fails here instead of taking the machine's memory."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + GIB, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def plain(name: str, size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry


def of_type(kind: bytes, name: str = "a.npy", target: str = "") -> tarfile.TarInfo:
    entry = plain(name)
    entry.type, entry.linkname = kind, target
    return entry


def tar_of(*entries: tarfile.TarInfo) -> bytes:
    """Headers alone, as they are told: the contents that they claim are not there."""
    return b"".join(entry.tobuf(tarfile.GNU_FORMAT) for entry in entries) + bytes(1024)


def as_shard(path: Path, data: bytes, keys: tuple[str, ...] = ("a",)) -> Path:
    """The bytes as a shard with an index that vouches for them."""
    path.write_bytes(data)
    index = {"count": len(keys), "bytes": len(data), "sha256": file_sha256(path), "keys": keys}
    Path(index_path(path)).write_text(json.dumps(index))
    return path


def bomb(size: int = 200 * 2**20) -> bytes:
    """A compressed tar of zeros, a thousand times as large when it is unpacked."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        tar.addfile(plain("a.npy", size), io.BytesIO(bytes(size)))
    return buffer.getvalue()


SHARDS: dict[str, Callable[[], bytes]] = {
    "a member above the folder": lambda: tar_of(plain("../../escape.npy")),
    "an absolute member": lambda: tar_of(plain("/tmp/escape.npy")),
    "a member in a folder": lambda: tar_of(plain("folder/a.npy")),
    "a symbolic link": lambda: tar_of(of_type(tarfile.SYMTYPE, target="/etc/passwd")),
    "a hard link": lambda: tar_of(of_type(tarfile.LNKTYPE, target="a.json")),
    "a device": lambda: tar_of(of_type(tarfile.CHRTYPE)),
    "a sparse file": lambda: tar_of(of_type(tarfile.GNUTYPE_SPARSE)),
    "a pax header": lambda: tar_of(of_type(tarfile.XHDTYPE)),
    "a long name": lambda: tar_of(of_type(tarfile.GNUTYPE_LONGNAME)),
    "eight exabytes": lambda: tar_of(plain("a.npy", 2**63 - 1)),
    "a byte too many": lambda: tar_of(plain("a.npy", 1025)),
    "a name twice": lambda: tar_of(plain("a.npy"), plain("a.npy")),
    "a pickle": lambda: tar_of(plain("a.pickle")),
    "a Python module": lambda: tar_of(plain("a.x.pyd")),
    "a torch file": lambda: tar_of(plain("a.pt")),
    "a compressed tar": bomb,
    "a gzip of nothing": lambda: gzip.compress(b""),
    "no end": lambda: tar_of(plain("a.npy"))[:512],
    "no tar": lambda: b"\xff" * 2048,
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("name", SHARDS)
def test_a_shard_that_is_not_of_plain_members_is_refused_by_every_reader(name: str, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    shard = as_shard(tmp_path / "inside" / "shard-000000.tar", SHARDS[name]())
    with pytest.raises(BrokenShard, match=r"shard-000000\.tar"):
        list(read_shard(shard))
    if name != "a name twice":  # whose last one counts, for who looks into one shard
        with pytest.raises(BrokenShard, match=r"shard-000000\.tar"):
            list(read_members(shard))
    assert [path.name for path in tmp_path.iterdir()] == ["inside"] and len(list(shard.parent.iterdir())) == 2


def test_a_hundred_thousand_members_that_the_index_does_not_have_end_at_the_first(tmp_path: Path) -> None:
    shard = as_shard(tmp_path / "x.tar", tar_of(*(plain(f"{number}.npy") for number in range(20_000))))
    with pytest.raises(BrokenShard, match="not where the index has it"):
        list(read_shard(shard))


@pytest.mark.parametrize("text", [DEEP, "[]", "7", '{"keys": [["a"]]}', '{"count": "1"}', '"', "{}"])
def test_an_index_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    write_shard(tmp_path / "x.tar", [{"__key__": "a", "json": b"{}"}])
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BrokenShard, match="not a shard's index"):
        next(read_shard(tmp_path / "x.tar"))


def npy(shape: str, kind: str = "'<f4'", *, data: bytes = b"", version: int = 1) -> bytes:
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + data


class Trap:
    """Would leave a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self._path,)


def test_an_array_that_is_not_what_its_header_says_is_refused(tmp_path: Path) -> None:
    objects = io.BytesIO()
    np.save(objects, np.array([Trap(tmp_path / "ran")], dtype=object), allow_pickle=True)
    hostile = [
        npy("(1000000000000,)"),
        npy("(4294967296, 4294967296)"),
        npy("(-1,)"),
        npy("(3,)", data=bytes(8)),
        npy("(3,)", data=bytes(16)),
        npy("(True,)"),
        npy("(1,)", "'|O'", data=b"\x80\x04N."),
        npy("(" * 3000 + ")" * 3000),
        npy("-" * 5000 + "1"),
        npy("(1,)", "'<f4'", version=9),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        b"PK\x03\x04 an archive",
        pickle.dumps(Trap(tmp_path / "ran")),
        objects.getvalue(),
        b"",
    ]
    for data in hostile:
        with pytest.raises(ValueError, match=r"no whole array of numbers \(.*\); write it again"):
            load_npy(data)
        (tmp_path / "x.npy").write_bytes(data)
        with (tmp_path / "x.npy").open("rb") as file, pytest.raises(ValueError, match="no whole array"):
            read_npy(file, "x.npy")
    assert not (tmp_path / "ran").exists()
    array = np.arange(6, dtype=np.float16).reshape(2, 3).T
    assert np.array_equal(load_npy(npy_bytes(array)), array)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10**9) + b"{}",
        struct.pack("<Q", len(DEEP)) + DEEP.encode(),
        struct.pack("<Q", 66) + b'{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4]}}',
        pickle.dumps({"a": 1}),
    ],
)
def test_weights_with_an_absurd_header_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(data)
    for read in (load_weights, load_metadata):
        with pytest.raises(WeightsError, match=r"weights\.safetensors .*build or fetch it again"):
            read(path)


def wav(rate_hz: int = 48_000, *, claimed: int = 4, channels: int = 1) -> bytes:
    form = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * 2 & 0xFFFFFFFF, 2 * channels & 0xFFFF, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 0xFFFFFFFF)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + b"data"
        + (struct.pack("<I", claimed) + bytes(4))
    )


def aiff(rate: bytes) -> bytes:
    """Two samples at a rate that is told as an 80-bit float."""
    common = struct.pack(">hIh", 1, 2, 16) + rate
    chunks = b"COMM" + struct.pack(">I", len(common)) + common + b"SSND" + struct.pack(">IIII", 12, 0, 0, 0)[:12]
    return b"FORM" + struct.pack(">I", 4 + len(chunks) + 4) + b"AIFF" + chunks + bytes(4)


def flac_info(rate_hz: int, samples: int, data: bytes) -> bytes:
    """FLAC bytes whose STREAMINFO tells another rate and length (RFC 9639 section 8.2)."""
    bits = int.from_bytes(data[18:26], "big")
    bits = bits & (0xFFF << 32 | 0) | rate_hz << 44 | (bits >> 36 & 0xFF) << 36 | samples
    return data[:18] + bits.to_bytes(8, "big") + data[26:]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rate of 4 GHz.wav", wav(0xFFFFFFFF)),
        ("rate of 2 GHz.wav", wav(2**31 - 1)),
        ("rate of 0.wav", wav(0)),
        ("rate of 1.wav", wav(1)),
        ("claims 2 GB.wav", wav(claimed=0x7FFFEFFF)),
        ("of no channel.wav", wav(channels=0)),
        ("of 60,000 channels.wav", wav(channels=60_000)),
        ("rate of 0.aiff", aiff(bytes(10))),
        ("rate of infinity.aiff", aiff(b"\x7f\xff" + bytes(8))),
        ("rate of a billion GHz.aiff", aiff(b"\x40\x3b\xff\xff\xff\xff\xff\xff\xff\xff")),
    ],
)
def test_audio_with_an_absurd_header_is_unreadable(name: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UnreadableAudio, match=name.partition(".")[0]):
        probe(path)
    with pytest.raises(UnreadableAudio, match=name.partition(".")[0]):
        list(read_rated_blocks(path))


def test_a_wav_that_claims_4_gb_is_no_longer_than_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "streamed.wav"  # recorders that cannot go back promise the most that fits
    path.write_bytes(wav(claimed=0xFFFFFFFF))
    assert probe(path).frames == 2
    assert sum(len(block_FS) for block_FS, _ in read_rated_blocks(path)) == 2


def test_a_flac_that_claims_68_billion_samples_or_no_rate_is_unreadable(tmp_path: Path) -> None:
    whole = flac_bytes(np.zeros((2, 4800), dtype=np.float32))
    assert decode_flac(flac_info(48_000, 4800, whole)).shape == (2, 4800)
    for rate_hz, samples in ((48_000, 2**36 - 1), (0, 4800), (655_350, 4800)):
        with pytest.raises(UnreadableAudio):
            decode_flac(flac_info(rate_hz, samples, whole))
    path = tmp_path / "long.flac"
    path.write_bytes(flac_info(48_000, 2**36 - 1, whole))
    with pytest.raises(UnreadableAudio, match=r"long\.flac"):
        list(read_rated_blocks(path))


def test_json_of_depth_10_000_and_yaml_that_laughs_are_refused_by_name() -> None:
    class Reader:
        def __init__(self, told: str) -> None:
            self.told = told

        def text(self, path: str) -> str:
            return self.told

    with pytest.raises(BadSongFile, match="not JSON"):
        parse_song_file(DEEP)
    with pytest.raises(BadMetadata, match=r"data\.json: cannot be read"):
        read_json(Reader('{"a":' * 10_000), "data.json")
    laughs = "a0: &a0 [ha]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 16))
    for told in (laughs, DEEP, "a: " + "{b: " * 50, "!!python/object/apply:os.system [touch ran]"):
        with pytest.raises(BadMetadata, match=r"song\.yaml: cannot be read"):
            read_yaml(Reader(told), "song.yaml")
    assert read_yaml(Reader("a: &x [1, 2]\nb: *x\nc: [*x, *x]"), "x")["c"] == [[1, 2], [1, 2]]


@pytest.mark.parametrize(
    "record",
    ['{"bpm": 1e999}', '{"bpm": %s}' % ("9" * 400), '{"bpm": NaN}', '{"bpm": -1}', '{"bpm": "fast"}'],
)
def test_a_tempo_that_is_none_is_left_out(record: str) -> None:
    song = parse_song_file(record)
    assert song.tags == () and song.labels == ()


@pytest.mark.parametrize(
    "record", ['{"tags": ["\\ud800"]}', '{"stems": [{"file": "a", "gain_db": %s}]}' % ("9" * 400), '{"title": {}}']
)
def test_a_song_file_with_a_value_that_nothing_can_hold_is_refused(record: str) -> None:
    with pytest.raises(BadSongFile):
        parse_song_file(record)


def test_what_libsndfile_writes_is_still_read(tmp_path: Path) -> None:
    for suffix in ("wav", "aiff", "flac"):
        soundfile.write(tmp_path / f"a.{suffix}", np.zeros((480, 2)), 8_000)
        assert probe(tmp_path / f"a.{suffix}").frames == 480
