"""Corpora: the embedded one, rendered as a folder of stems, and the folders that users bring."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from data_manifests.composer import EmbeddedCorpus, compose, song_record
from data_manifests.renderer import render
from tasks.artifact import Artifact
from tasks.audio_bytes import write_flac
from tasks.cluster import fan_out
from tasks.digests import FileDigests
from tasks.probing import DIGESTS, PROBES
from tasks.runtime import Runtime
from tasks.step import Step
from tasks.walk import corpus_files
from tasks.whole_files import write_whole


class CorpusError(ValueError):
    """A corpus that nothing can be made of."""


@dataclass(frozen=True, kw_only=True)
class RenderCorpus(Step):
    """The embedded corpus as FLAC stems with a `song.json` a song: the layout of any user's folder."""

    stage: ClassVar[str] = "corpus"
    resumable: ClassVar[bool] = True

    corpus: EmbeddedCorpus

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        wanted = [(self.corpus, index, str(out / f"song_{index:04d}")) for index in range(self.corpus.songs)]
        missing = [piece for piece in wanted if not Path(piece[2], "song.json").exists()]
        fan_out(runtime, _render_song, missing, title="render the embedded corpus")
        return {"songs": self.corpus.songs, "seconds_each": self.corpus.seconds}


def _render_song(piece: tuple[EmbeddedCorpus, int, str]) -> None:
    """Write one song; its `song.json` comes last and marks it whole."""
    corpus, index, location = piece
    folder = Path(location)
    folder.mkdir(exist_ok=True)
    song = compose(corpus, index)
    for stem, audio_SN in render(song).items():
        write_flac(folder / f"{stem}.flac", audio_SN)
    record = json.dumps(song_record(song), indent=1, sort_keys=True, ensure_ascii=False)
    write_whole(folder / "song.json", record.encode())


def folder_corpus(folder: Path, workspace: Path) -> Artifact:
    """A user's folder as an artifact: its digest is that of every file's name and bytes.

    Sizes and modification times are remembered in the workspace, so that only files that changed are read again.
    Raises CorpusError when the folder is missing, unreadable or empty.
    """
    if not folder.is_dir():
        raise CorpusError(f"the corpus {folder} is not a folder; give a folder that holds one folder of stems a song")
    files = corpus_files(folder)
    if not files:
        raise CorpusError(f"the corpus {folder} holds no files; give a folder that holds one folder of stems a song")
    digests = FileDigests(workspace / PROBES / DIGESTS)
    found = digests.of(folder, files)
    digests.save()
    lines = "".join(f"{name}\0{sha256}\n" for name, sha256 in sorted(found.items()) if isinstance(sha256, str))
    digest = hashlib.sha256(lines.encode()).hexdigest()
    return Artifact(stage="folder", key=None, location=str(folder.resolve()), digest=digest)


def joined_corpora(folders: Mapping[str, Path], workspace: Path) -> Artifact:
    """Several folders as one corpus: a folder in the workspace that holds a link to each by its name.

    Raises CorpusError when one of them is missing, unreadable or empty.
    """
    parts = {name: folder_corpus(folder, workspace) for name, folder in folders.items()}
    lines = "".join(f"{name}\0{part.digest}\n" for name, part in sorted(parts.items()))
    digest = hashlib.sha256(lines.encode()).hexdigest()
    home = workspace.resolve() / "corpora" / digest[:16]
    home.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        link = home / name
        if not link.is_symlink():
            link.symlink_to(part.location, target_is_directory=True)
    return Artifact(stage="folder", key=None, location=str(home), digest=digest)
