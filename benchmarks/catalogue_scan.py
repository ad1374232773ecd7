"""A corpus of 10,000 songs scanned again when nothing changed, and a catalogue of 160,000 stems written and loaded.

The corpus is generated: sparse WAV files of half a second, every one different. Target: 2,000 files/s.

    python benchmarks/catalogue_scan.py [--songs 10000] [--stems 5]
"""

from __future__ import annotations

import argparse
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_manifests.schema import Catalogue, Stem, StemFile, Track
from tasks.catalogue import build_catalogue
from tasks.catalogue_file import read_catalogue, write_catalogue
from tasks.probing import ProbeStore
from tasks.walk import list_corpus_folder

NAMES = ("drums", "bass", "guitar", "piano", "vocals", "pad", "lead", "strings")


@contextmanager
def step(title: str, count: int, unit: str) -> Iterator[None]:
    """Prints how long the block took, and the rate."""
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage would count what the parent had
    memory = int(status.split("VmHWM:")[1].split()[0]) / 1e6
    print(f"{title}: {seconds:.1f} s, {count / seconds:,.0f} {unit}/s, peak memory so far {memory:.2f} GB", flush=True)


def write_songs(root: Path, songs: int, stems: int) -> None:
    """Mono 8 kHz WAV files of 400 samples: a click whose place and height tell the files apart."""
    header = b"RIFF" + struct.pack("<I", 836) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    header += b"data" + struct.pack("<I", 800)
    for song in range(songs):
        folder = root / f"song {song:05d}"
        folder.mkdir(parents=True)
        for number, name in enumerate(NAMES[:stems]):
            samples = bytearray(800)
            struct.pack_into("<hhh", samples, 2 * (40 * number + song % 37), 20_000, -9_000 - song, 5_000 + number)
            (folder / f"{name}.wav").write_bytes(header + samples)


def scan(root: Path, store: Path) -> Catalogue:
    """What `stemwright` does with a corpus folder, from the walk to the catalogue."""
    return build_catalogue(root, list_corpus_folder(root), heldout_fraction=0.1, seed=0, known=ProbeStore(store))


def large_catalogue(tracks: int) -> Catalogue:
    """Songs of four minutes with eight stems each."""

    def stem(song: int, name: str) -> Stem:
        file = StemFile(
            path=f"artist {song // 10:05d} - album/song {song:05d}/{name}.flac",
            channels=2,
            rate_hz=44_100,
            frames=240 * 44_100,
            sha256=f"{song * 8 + NAMES.index(name):064x}",
        )
        return Stem(
            id=name,
            files=(file,),
            role="other",
            is_vocal=name == "vocals",
            usable_as_target=name != "vocals",
            usable_in_context=True,
            reason=None,
            tags=(name, "electronic"),
            flags=("mono",),
            activity=tuple((second // 7 + song) % 2 == 0 for second in range(240)),
            peak=0.5,
            loudness_lufs=-20.0,
            band_limit_hz=16_000,
        )

    def track(song: int) -> Track:
        name = f"song {song:05d}"
        stems = tuple(stem(song, name) for name in NAMES)
        return Track(
            id=name,
            group_id=name,
            split="train",
            corpus="plain",
            licence="CC0",
            tags=("warm",),
            frames=240 * 48_000,
            stems=stems,
        )

    return Catalogue(tracks=tuple(track(song) for song in range(tracks)), quarantined=(), left_out=())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=int, default=10_000)
    parser.add_argument("--stems", type=int, default=5)
    parser.add_argument("--load", type=Path, help="only load the catalogue of this folder")
    parser.add_argument("--tracks", type=int, default=20_000)
    options = parser.parse_args()
    if options.load:
        with step("load the catalogue", options.tracks * len(NAMES), "stems"):
            catalogue = read_catalogue(options.load)
        assert catalogue.tracks[0] == large_catalogue(1).tracks[0]
        return
    files = options.songs * options.stems
    with tempfile.TemporaryDirectory() as folder:
        root, store = Path(folder) / "corpus", Path(folder) / "store"
        write_songs(root, options.songs, options.stems)
        with step("first scan, every file heard", files, "files"):
            first = scan(root, store)
        with step("second scan, gathers what was heard", files, "files"):
            second = scan(root, store)
        with step("scan when nothing changed", files, "files"):
            third = scan(root, store)
        assert first == second == third
        print(f"{len(first.tracks)} tracks")
    with tempfile.TemporaryDirectory() as folder:
        catalogue = large_catalogue(options.tracks)
        with step(f"write a catalogue of {options.tracks} tracks x 8 stems", options.tracks * len(NAMES), "stems"):
            write_catalogue(catalogue, Path(folder))
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        print(f"{size / 1e6:.1f} MB on disk", flush=True)
        subprocess.run([sys.executable, __file__, "--load", folder, "--tracks", str(options.tracks)], check=True)


if __name__ == "__main__":
    main()
