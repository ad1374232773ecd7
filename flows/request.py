"""What a person, a schedule or a form asks for: plain values, checked before anything runs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from data_manifests.layouts import LAYOUTS, layout_named
from flows.scales import CLAPS, SCALES, only_arms, study_at, with_codecs
from flows.study import Study
from models.arms import ARMS, Arm
from models.clap import LaionClapRecipe
from models.conditioning import Conditioning
from tasks.addresses import check_no_secret
from tasks.artifact import Artifact
from tasks.clap import laion_places
from tasks.corpus import folder_corpus, joined_corpora
from tasks.import_codec import BroughtCodec, brought_codec
from tasks.runtime import Runtime, default_workers
from tasks.soundfont import soundfont_digest
from tasks.storage import check_writable
from tasks.whole_files import file_sha256

LAYOUT_NAMES = tuple(layout.name for layout in LAYOUTS)
ARM_NAMES = [arm.name for arm in ARMS]

# Prefect shows a choice of these; its own way to describe a parameter would be a block in the flow's docstring.
ArmName = Annotated[str, WithJsonSchema({"type": "string", "enum": ARM_NAMES, "description": "An arm of the paper."})]


class RequestError(ValueError):
    """A request that cannot be carried out as it stands."""


class StudyRequest(BaseModel):
    """One run of the study. Prefect shows these fields as a form and refuses bad values."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    scale: str = Field(
        default="laptop",
        description=f"The size of the whole study: {', '.join(SCALES)}.",
        json_schema_extra={"enum": [*SCALES]},
    )
    corpus: tuple[str, ...] = Field(
        default=(), description="Folders of multitrack recordings, in any known layout; empty: the embedded corpus."
    )
    layout: tuple[str, ...] = Field(
        default=(), description=f"The layout of each folder: auto, {', '.join(LAYOUT_NAMES)}; empty: recognised."
    )
    weight: tuple[float, ...] = Field(
        default=(), description="Each folder's share of the training pairs, in any unit; empty: all songs take turns."
    )
    arms: tuple[str, ...] = Field(default=(), description="Arms to run, by the paper's names; empty: all five.")
    conditionings: tuple[str, ...] = Field(
        default=(), description="Rows to fill, such as 'CLAP_A,ctx' or 'uncond'; empty: all."
    )
    workspace: str = Field(default="workspace", description="Where results, the MLflow database and reports live.")
    seed: int = Field(default=0, ge=0, description="Seeds corpus, pairs, training and candidates.")
    device: str = Field(default="auto", description="cpu, cuda, or auto: cuda where there is one.")
    soundfont: str | None = Field(
        default=None, description="An .sf2 or .sf3 file that plays the embedded songs, or a corpus of MIDI files."
    )
    shard_root: str | None = Field(
        default=None, description="Where windows and latents go: a folder or a URL such as s3://bucket/prefix."
    )
    fused: bool = Field(default=False, description="Keep no training windows: cut them whenever they are heard.")
    workers: int = Field(default=0, ge=0, description="Workers of the local Dask cluster; 0: one a core.")
    most_workers: int = Field(
        default=0, ge=0, description="Let the local Dask cluster grow to so many while work waits; 0: none come and go."
    )
    arm_workers: int = Field(default=0, ge=0, description="Arms built side by side; 0: two on a CPU, one on a GPU.")
    dask_scheduler: str | None = Field(default=None, description="Address of a Dask scheduler; empty: a local cluster.")
    mlflow_uri: str | None = Field(
        default=None, description="An MLflow tracking server; empty: SQLite in the workspace."
    )
    clap: str = Field(
        default="auto",
        description=f"Who judges: {', '.join(CLAPS)}; auto: LAION's if given, else the small one of the scale.",
        json_schema_extra={"enum": ["auto", *CLAPS]},
    )
    laion_checkpoint: str | None = Field(
        default=None, description="A local LAION-CLAP checkpoint; the paper's scale needs it."
    )
    laion_tokenizer: str | None = Field(
        default=None, description="The folder with roberta-base's vocab.json and merges.txt."
    )
    mono_codec: str | None = Field(
        default=None, description="A fitted mono codec's folder, or Music2Latent's checkpoint; empty: the scale's own."
    )
    stereo_codec: str | None = Field(
        default=None, description="A fitted stereo codec's folder, or CoDiCodec's checkpoint; empty: the scale's own."
    )
    accept_noncommercial: bool = Field(default=False, description="Use released weights under CC BY-NC.")
    refresh: bool = Field(default=False, description="Make results again whose code has changed since.")
    refresh_stages: tuple[str, ...] = Field(
        default=(), description="Stages of which results whose code has changed are made again, and of no others."
    )
    allow_suspect: bool = Field(default=False, description="Use results whose code has changed since as they are.")

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        if self.scale not in SCALES:
            raise ValueError(f"there is no scale {self.scale!r}; the scales are {', '.join(SCALES)}")
        for field in ("layout", "weight"):
            given = len(getattr(self, field))
            if given not in (0, len(self.corpus)):
                raise ValueError(f"{len(self.corpus)} corpora, {given} of --{field}: give one for each, or none")
        for name in self.layout:
            if name != "auto":
                layout_named(name)
        if self.most_workers and self.dask_scheduler:
            raise ValueError(
                "--most-workers is for a local cluster; what started the workers of --dask-scheduler makes them more"
            )
        fewest = self.workers or default_workers()
        if self.most_workers and self.most_workers <= fewest:
            raise ValueError(f"--most-workers {self.most_workers}: the cluster has {fewest} --workers from its start")
        for field in ("mlflow_uri", "shard_root", "dask_scheduler"):
            check_no_secret(field, getattr(self, field) or "")
        return self

    def only(self, *arms: str) -> Self:
        """The same of these arms alone."""
        return self.model_copy(update={"arms": arms})

    def study(self) -> Study:
        """The study at this scale with these arms. Raises ValueError for an unknown arm or a missing checkpoint."""
        study = study_at(self.scale, seed=self.seed, clap=self.clap, laion=self._laion())
        named = self._corpora()
        study = replace(
            study,
            fused=self.fused,
            soundfont_sha256=soundfont_digest(Path(self.soundfont)) if self.soundfont else None,
            layouts=tuple((name, self._layout(place)) for place, name in enumerate(named)) or study.layouts,
            rule=replace(study.rule, weights=tuple(zip(named, self.weight, strict=True)) if self.weight else ()),
        )
        study = with_codecs(study, self._codecs())
        return only_arms(study, self.arms) if self.arms else study

    def _codecs(self) -> tuple[BroughtCodec, ...]:
        """The codecs that were brought along, mono before stereo."""
        places = ((self.mono_codec, True), (self.stereo_codec, False))
        return tuple(
            brought_codec(Path(place), mono=mono, accept_noncommercial=self.accept_noncommercial)
            for place, mono in places
            if place
        )

    def _corpora(self) -> dict[str, Path]:
        """The user's folders by name; a single one has none. Two of one name are told apart by their place."""
        folders = [Path(corpus) for corpus in self.corpus]
        if len(folders) < 2:
            return {"": folders[0]} if folders else {}
        names = [folder.resolve().name for folder in folders]
        return {
            name if names.count(name) == 1 else f"{name}-{place + 1}": folder
            for place, (name, folder) in enumerate(zip(names, folders, strict=True))
        }

    def _layout(self, place: int) -> str | None:
        asked = self.layout[place] if self.layout else "auto"
        return None if asked == "auto" else asked

    def conditionings_of(self, arm: Arm) -> tuple[Conditioning, ...]:
        """The rows of an arm that were asked for."""
        return tuple(row for row in arm.conditionings if not self.conditionings or row.label in self.conditionings)

    def check(self, study: Study) -> None:
        """Raise RequestError for a conditioning that none of the study's arms has."""
        known = {row.label for arm in study.arms for row in arm.conditionings}
        for label in self.conditionings:
            if label not in known:
                raise RequestError(
                    f"no arm of this run has the conditioning {label!r}; there are {', '.join(sorted(known))}"
                )

    def name(self) -> str:
        """What the report of this request is called: scale, corpus and seed."""
        corpus = "+".join(Path(corpus).resolve().name for corpus in self.corpus) or "embedded"
        return f"{self.scale}-{corpus}-seed{self.seed}"

    def command_line(self) -> str:
        """The command that makes the same table again."""
        asked = [("--scale", self.scale), ("--seed", str(self.seed))]
        asked += [("--arms", arm) for arm in self.arms] + [("--conditionings", row) for row in self.conditionings]
        asked += [("--clap", self.clap)] if self.clap != "auto" else []
        for place in range(len(self.corpus)):
            asked.append(("--corpus", f"DIR{place + 1 if place else ''}"))
        asked += [("--soundfont", "FONT")] if self.soundfont else []
        asked += [("--layout", layout) for layout in self.layout]
        asked += [("--weight", f"{weight:g}") for weight in self.weight]
        asked += [("--mono-codec", "CODEC")] if self.mono_codec else []
        asked += [("--stereo-codec", "CODEC")] if self.stereo_codec else []
        return shlex.join(["stemwright", "reproduce", *chain.from_iterable(asked)])

    def runtime(self) -> Runtime:
        """Where it runs. Raises RequestError when the workspace cannot be written."""
        root = Path(self.workspace)
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RequestError(
                f"the workspace {root} cannot be made: {error.strerror}; name another with --workspace"
            ) from error
        if not os.access(root, os.W_OK):
            raise RequestError(f"the workspace {root} cannot be written; name another with --workspace")
        if self.shard_root:
            check_writable(self.shard_root)
        cores = default_workers()
        return Runtime(
            workspace=str(root.resolve()),
            shard_root=self.shard_root,
            device=_device(self.device),
            workers=self.workers or cores,
            most_workers=self.most_workers,
            torch_threads=cores,
            dask_scheduler=self.dask_scheduler,
            mlflow_uri=self.mlflow_uri,
            local_files={digest: str(path) for digest, path in self._local_files()},
        )

    def arms_at_once(self, runtime: Runtime) -> int:
        """How many arms are built side by side. Small networks use two cores best as two trainings of one thread."""
        alone = runtime.device != "cpu" or runtime.dask_scheduler is not None or default_workers() == 1
        return self.arm_workers or (1 if alone else 2)

    def _laion(self) -> LaionClapRecipe | None:
        digests = [digest for digest, _ in self._laion_files()]
        return LaionClapRecipe(checkpoint_sha256=digests[0], tokenizer_sha256=digests[1]) if digests else None

    def _local_files(self) -> Iterator[tuple[str, Path]]:
        yield from self._laion_files()
        yield from self._soundfont_file()
        for codec in self._codecs():
            yield codec.sha256, codec.path.resolve()

    def _laion_files(self) -> list[tuple[str, Path]]:
        """The checkpoint and the tokenizer's vocabulary with their digests; none where neither was given."""
        if not self.laion_checkpoint and not self.laion_tokenizer:
            return []
        if not self.laion_checkpoint or not self.laion_tokenizer:
            raise RequestError("LAION-CLAP needs both --laion-checkpoint FILE and --laion-tokenizer DIR")
        paths = (_existing(self.laion_checkpoint), _existing(str(Path(self.laion_tokenizer, "vocab.json"))))
        return [(file_sha256(path), path) for path in paths]

    def _soundfont_file(self) -> list[tuple[str, Path]]:
        return [(soundfont_digest(Path(self.soundfont)), Path(self.soundfont).resolve())] if self.soundfont else []

    def folder(self) -> Artifact | None:
        """The user's corpus, or None for the embedded one. Raises CorpusError when it is missing or empty."""
        corpora, workspace = self._corpora(), Path(self.workspace)
        if len(corpora) > 1:
            return joined_corpora(corpora, workspace)
        return next((folder_corpus(folder, workspace) for folder in corpora.values()), None)


def _existing(path: str) -> Path:
    if not Path(path).is_file():
        raise RequestError(
            f"{path} is not a file; give LAION-CLAP's checkpoint and tokenizer folder on this machine: {laion_places()}"
        )
    return Path(path)


def _device(asked: str) -> str:
    import torch

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise RequestError(f"the device {asked} was asked for, and torch finds no CUDA device; use --device cpu")
    return asked
