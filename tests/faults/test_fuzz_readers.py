"""Damaged and invented bytes for every reader of what comes from outside: a value, or that reader's own error.

STEMWRIGHT_FUZZ examples a reader (default 25), of two kinds: a sound file with a few bytes changed, moved, cut or put
in, and for readers of JSON also objects with the right names and any values. Nothing else may be raised, and nothing
may take seconds or gigabytes.
"""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import mido
import numpy as np
import polars
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import zeros

from data_manifests.layouts.layout import BadMetadata, read_json, read_yaml
from data_manifests.layouts.musdb import _tracklist
from data_manifests.layouts.stem_atom import BadStemFile, stem_names
from data_manifests.midi import read_midi
from data_manifests.schema import Catalogue
from data_manifests.song_file import BadSongFile, parse_song_file, parse_tags_file
from models.weights import WeightsError, load_metadata, load_weights, save_weights
from tasks.audio import UnreadableAudio, probe
from tasks.audio_bytes import decode_flac, flac_bytes, wav_bytes
from tasks.catalogue_file import LEFT_OUT_FILE, ROWS_FILE, read_catalogue, write_catalogue
from tasks.checkpoints import POINTER, load_state
from tasks.digests import FileDigests
from tasks.evaluate_prompts import read_prompts
from tasks.evaluate_vectors import read_all_vectors
from tasks.probing import PROBER_VERSION, ROWS, ProbeStore
from tasks.recipes import load_recipe
from tasks.shard_folder import ELSEWHERE, BadShardList, shards_in
from tasks.shards import BrokenShard, load_npy, npy_bytes, read_members, read_shard, write_shard
from tasks.store import RECORD, Store
from tasks.whole_files import file_sha256

EXAMPLES = int(os.environ.get("STEMWRIGHT_FUZZ", "25"))
SLOWEST_MS = 2000
DIGEST = "ab" * 32


class Target(NamedTuple):
    """A reader, bytes that it reads, and all that it may raise; `told` are the names of the JSON that it expects."""

    read: Callable[[bytes, Path], object]
    sound: Callable[[Path], bytes]
    errors: tuple[type[Exception], ...] = ()
    told: tuple[str, ...] = ()


class Text(NamedTuple):
    """A corpus' file, as `FolderReader` gives it."""

    data: bytes

    def text(self, path: str) -> str:
        return self.data.decode("utf-8-sig")


def file(name: str, data: bytes, folder: Path) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def shard(folder: Path) -> bytes:
    samples = [{"__key__": f"a-{n}", "json": b"{}", "x.npy": npy_bytes(np.zeros(3))} for n in range(2)]
    write_shard(folder / "sound.tar", samples)
    return (folder / "sound.tar").read_bytes()


def read_vouched(data: bytes, folder: Path) -> None:
    """A shard whose index vouches for its bytes: what a hostile author would send."""
    path = file("x.tar", data, folder)
    index = {"count": 2, "bytes": len(data), "sha256": file_sha256(path), "keys": ["a-0", "a-1"]}
    (folder / "x.json").write_text(json.dumps(index))
    for members in (*read_shard(path), *(members for _, members in read_members(path))):
        assert sum(map(len, members.values())) <= 2 * len(data) + 64


def read_index_beside(data: bytes, folder: Path) -> None:
    shard(folder)
    file("sound.json", data, folder)
    list(read_shard(folder / "sound.tar"))


def index_of_shard(folder: Path) -> bytes:
    shard(folder)
    return (folder / "sound.json").read_bytes()


def weights(folder: Path) -> bytes:
    save_weights(folder / "w.safetensors", {"a": zeros(4), "b": zeros(2, 2)}, {"recipe": "x"})
    return (folder / "w.safetensors").read_bytes()


def read_weights(data: bytes, folder: Path) -> None:
    path = file("w.safetensors", data, folder)
    load_weights(path)
    load_metadata(path)


def atom(kind: bytes, contents: bytes) -> bytes:
    return (8 + len(contents)).to_bytes(4, "big") + kind + contents


def stem_file(_: Path) -> bytes:
    return atom(b"moov", atom(b"udta", atom(b"stem", b'{"stems": [{"name": "Drums"}, {"name": "Bass"}]}')))


def song_midi(_: Path) -> bytes:
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=400_000)])
    for note in (60, 64):
        track += [mido.Message("note_on", note=note, time=10), mido.Message("note_off", note=note, time=480)]
    buffer = BytesIO()
    mido.MidiFile(tracks=[track]).save(file=buffer)
    return buffer.getvalue()


def catalogue(folder: Path) -> bytes:
    write_catalogue(Catalogue(tracks=(), quarantined=(), left_out=()), folder)
    return (folder / ROWS_FILE).read_bytes()


def read_rows(data: bytes, folder: Path) -> None:
    catalogue(folder)
    file(ROWS_FILE, data, folder)
    read_catalogue(folder)


def left_out(folder: Path) -> bytes:
    catalogue(folder)
    return (folder / LEFT_OUT_FILE).read_bytes()


def read_left_out(data: bytes, folder: Path) -> None:
    catalogue(folder)
    file(LEFT_OUT_FILE, data, folder)
    read_catalogue(folder)


def vectors(suffix: str) -> Callable[[Path], bytes]:
    def sound(folder: Path) -> bytes:
        if suffix == "npy":
            return npy_bytes(np.ones((3, 4), np.float32))
        polars.DataFrame({"id": ["a", "b"], "vector": [[1.0, 2.0], [3.0, 4.0]]}).write_parquet(folder / "v.parquet")
        return (folder / "v.parquet").read_bytes()

    return sound


def read_vectors(suffix: str) -> Callable[[bytes, Path], object]:
    return lambda data, folder: read_all_vectors({"x": file(f"v.{suffix}", data, folder)}, "space")


def probes(folder: Path) -> bytes:
    polars.DataFrame(schema=ROWS).write_parquet(folder / "p.parquet")
    return (folder / "p.parquet").read_bytes()


def read_probes(name: str) -> Callable[[bytes, Path], object]:
    def read(data: bytes, folder: Path) -> None:
        home = folder / "probes"
        home.mkdir(exist_ok=True)
        for path in home.iterdir():
            path.unlink()
        file(name, data, home)
        ProbeStore(home)

    return read


def record(_: Path) -> bytes:
    told: dict[str, Any] = {"key": "k", "digest": DIGEST, "stage": "s", "version": 1, "describe": "s", "made_by": "m.C"}
    told |= {"identity": {}, "inputs": {"x": {"stage": "s", "key": "o", "digest": DIGEST}}, "summary": {}}
    return json.dumps(told | {"files": {"a": {"bytes": 1, "sha256": DIGEST}}, "finished": "2026-01-01"}).encode()


def read_record(data: bytes, folder: Path) -> None:
    """A record in the place of a result: it is there, or it has a flaw; and every look at the store goes on."""
    home = folder / "artifacts" / "s" / "k"
    home.mkdir(parents=True, exist_ok=True)
    (home / "a").write_bytes(b"1")
    file(RECORD, data, home)
    store = Store(folder / "artifacts")
    found = list(store.records())
    assert store.flaw("s", "k") is not None or [told["key"] for told in found] == ["k"]


def read_elsewhere(data: bytes, folder: Path) -> None:
    file(ELSEWHERE, data, folder)
    shards_in(folder)


def read_state(data: bytes, folder: Path) -> None:
    file(POINTER, data, folder)
    load_state(folder)


def utf8(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


SONG = b'{"title": "T", "artist": "A", "tags": ["x"], "bpm": 120, "stems": [{"file": "a.wav", "gain_db": -3}]}'
SONG_NAMES = ("title", "group", "split", "tags", "bpm", "key", "stems", "file", "gain_db", "role", "licence", "style")
RECORD_NAMES = ("key", "digest", "stage", "version", "files", "inputs", "identity", "bytes", "sha256", "summary")

TARGETS: Mapping[str, Target] = {
    "shard": Target(read_vouched, shard, (BrokenShard,)),
    "shard index": Target(read_index_beside, index_of_shard, (BrokenShard,), ("count", "bytes", "sha256", "keys")),
    "npy": Target(lambda data, _: load_npy(data), lambda _: npy_bytes(np.zeros((2, 3))), (ValueError,)),
    "safetensors": Target(read_weights, weights, (WeightsError,)),
    "song.json": Target(lambda data, _: parse_song_file(utf8(data)), lambda _: SONG, (BadSongFile,), SONG_NAMES),
    "tags.txt": Target(lambda data, _: parse_tags_file(utf8(data), parse_song_file("{}")), lambda _: b"a, b\nc.wav: d"),
    "stem atom": Target(lambda data, _: stem_names(BytesIO(data)), stem_file, (BadStemFile,)),
    "MIDI": Target(lambda data, _: read_midi(data, "x.mid"), song_midi, (ValueError,)),
    "corpus JSON": Target(lambda data, _: read_json(Text(data), "x"), lambda _: SONG, (BadMetadata,), SONG_NAMES),
    "corpus YAML": Target(lambda data, _: read_yaml(Text(data), "x"), lambda _: b"a: &x [1]\nb: *x\n", (BadMetadata,)),
    "tracklist": Target(lambda data, _: list(_tracklist("x", utf8(data))), lambda _: b"Track Name\nA", (BadMetadata,)),
    "FLAC": Target(
        lambda data, _: decode_flac(data), lambda _: flac_bytes(np.zeros((2, 99), "f4")), (UnreadableAudio,)
    ),
    "WAV": Target(
        lambda data, folder: probe(file("x.wav", data, folder)),
        lambda _: wav_bytes(np.zeros((2, 99), "f4")),
        (UnreadableAudio,),
    ),
    "prompts CSV": Target(
        lambda data, folder: read_prompts(file("p.csv", data, folder)), lambda _: b"name,text\na,b\n", (ValueError,)
    ),
    "prompts JSON lines": Target(
        lambda data, folder: read_prompts(file("p.jsonl", data, folder)),
        lambda _: b'{"name": "a", "text": "b"}\n',
        (ValueError,),
        ("name", "text"),
    ),
    "vectors npy": Target(read_vectors("npy"), vectors("npy"), (ValueError,)),
    "vectors Parquet": Target(read_vectors("parquet"), vectors("parquet"), (ValueError,)),
    "catalogue": Target(read_rows, catalogue, (ValueError,)),
    "left-out.json": Target(read_left_out, left_out, (ValueError,), ("format", "quarantined", "left_out", "path")),
    "probes": Target(read_probes(f"probes-{PROBER_VERSION}.parquet"), probes),
    "new probes": Target(
        read_probes(f"new-{PROBER_VERSION}-x.jsonl"),
        lambda _: b'{"key": "a", "sizes": [[1, 48000, 9]], "runs": [1], "flags": [], "sketch": ""}\n',
        told=("key", "sizes", "runs", "flags", "sketch", "peak"),
    ),
    "digests.json": Target(lambda data, folder: FileDigests(file("d.json", data, folder)), lambda _: b'{"a": "b"}'),
    "record.json": Target(read_record, record, (), RECORD_NAMES),
    "shards.json": Target(
        read_elsewhere,
        lambda _: b'{"home": "s3://x/s/k", "files": {"shard-000000.tar": {"bytes": 1, "sha256": "a"}}}',
        (BadShardList,),
        ("home", "files", "bytes", "sha256"),
    ),
    "state.json": Target(
        read_state,
        lambda _: b'{"file": "state-1.safetensors", "step": 1, "sha256": "a"}',
        (WeightsError,),
        ("file", "step", "sha256", "before"),
    ),
    "recipe.json": Target(
        lambda data, _: load_recipe(utf8(data)),
        lambda _: b'{"type": "EdmObjective", "x": [1, {"enum": "ClapSource", "name": "TEXT"}]}',
        (ValueError,),
        ("type", "enum", "name"),
    ),
}


@pytest.fixture(autouse=True)
def _little_memory() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def damaged(sound: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with up to six of them changed, and a piece of them cut out, doubled or put in."""
    place = st.integers(0, len(sound))
    changes = st.lists(
        st.tuples(place, st.one_of(st.integers(0, 255), st.sampled_from((0, 127, 128, 255)))), max_size=6
    )
    pieces = st.one_of(st.just(b""), st.binary(max_size=20), st.sampled_from((b"9" * 400, b"[" * 5000, b"\xff" * 8)))

    def spoilt(told: tuple[list[tuple[int, int]], int, int, bytes]) -> bytes:
        changed, first, second, piece = told
        data = bytearray(sound)
        for where, value in changed:
            if where < len(data):
                data[where] = value
        return bytes(data[:first]) + piece + bytes(data[second:])

    return st.tuples(changes, place, place, pieces).map(spoilt)


def invented(names: tuple[str, ...]) -> st.SearchStrategy[bytes]:
    """JSON objects under the names that a reader looks for, with whatever JSON may hold."""
    numbers = st.one_of(st.integers(), st.floats(), st.sampled_from((10**400, -1, 0, 2**63)))
    leaves = st.one_of(
        st.none(), st.booleans(), numbers, st.text(max_size=8), st.sampled_from(("\ud800", "..", "/", "k"))
    )
    keys = st.one_of(st.sampled_from(names), st.text(max_size=4), st.sampled_from(("..", "../x", "/x", "\0")))
    values = st.recursive(
        leaves, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4))
    )
    objects = st.dictionaries(st.sampled_from(names), values, max_size=len(names))
    return st.one_of(objects, values).map(lambda told: json.dumps(told).encode())


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_gives_a_value_or_its_own_error(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    sound = target.sound(tmp_path)
    strategy = st.one_of(damaged(sound), invented(target.told)) if target.told else damaged(sound)

    @settings(
        max_examples=EXAMPLES,
        deadline=SLOWEST_MS,
        database=None,
        derandomize="STEMWRIGHT_FUZZ" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def holds(data: bytes) -> None:
        with suppress(*target.errors):
            target.read(data, tmp_path)

    if name not in ("state.json", "recipe.json"):  # what these name is not at hand
        target.read(sound, tmp_path)
    holds()
