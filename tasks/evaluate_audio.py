"""Folders of audio that somebody brought, embedded by a CLAP on the workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metrics.adherence import derangement
from metrics.protocol import Protocol
from tasks.artifact import Artifact
from tasks.corpus import folder_corpus
from tasks.embed import Mixing
from tasks.embeddings import load_embeddings
from tasks.evaluate_clips import ClipRule, named_files, track_of
from tasks.evaluate_embed import EmbedFolder, EmbedFolderMispaired, read_heard
from tasks.evaluate_material import CONTEXTS, Heard, Material, joined
from tasks.evaluate_prompts import read_prompts
from tasks.runtime import Runtime
from tasks.step import Step
from tasks.store import Store
from tasks.whole_files import file_sha256


def heard_audio(material: Material, protocol: Protocol, clap: Artifact, runtime: Runtime) -> Heard:
    """The folders as embeddings. What is wrong with any of them is said before one is embedded."""
    if material.space is not None:
        raise ValueError(f"the space {material.space!r} is for embeddings; audio is embedded in that of the CLAP")
    _check(material)
    mixing, why_not = _mixing(material, protocol)
    ears = _Ears(clap, ClipRule.of(protocol), mixing, protocol.pairing_seed, runtime)
    prompts = ears.prompts(material.prompts) if material.prompts else None
    made = {name: ears.embed(path, material.contexts, prompts) for name, path in material.arms().items()}
    targets = {"target": ears.embed(material.targets)} if material.targets else {}
    references = ears.embed(material.references, material.reference_contexts)
    mispaired = ears.mispair(references, material) if mixing else None
    sets = {**made, **{f"{what}s": artifact for what, artifact in targets.items()}, "references": references}
    told = {what: read_heard(artifact) for what, artifact in sets.items()}
    left_out = {what: list(one.left_out) for what, one in told.items()}
    partners = {what: load_embeddings(artifact) for what, artifact in targets.items()}
    return Heard(
        kind="audio",
        arms={name: joined(load_embeddings(artifact), partners, left_out[name]) for name, artifact in made.items()},
        references=load_embeddings(references),
        mispaired=load_embeddings(mispaired) if mispaired else None,
        digest=references.digest or "",
        blank=({"apa": why_not} if why_not else {}) | material.blank(),
        left_out=left_out,
        notes=[*(note for what, one in told.items() for note in one.notes(what, ears.rule)), *_strangers(material)],
    )


@dataclass(frozen=True)
class _Ears:
    """How all folders are embedded: by one CLAP, in the same clips, mixed in the same way."""

    clap: Artifact
    rule: ClipRule
    mixing: Mixing | None
    seed: int
    runtime: Runtime

    def embed(self, stems: Path, contexts: Path | None = None, prompts: Artifact | None = None) -> Artifact:
        """The stems alone and, where adherence is measured and they have contexts, mixed."""
        mixed = contexts is not None and self.mixing is not None
        return self._make(
            EmbedFolder(
                stems=self._folder(stems),
                contexts=self._folder(contexts) if contexts and mixed else None,
                prompts=prompts,
                clap=self.clap,
                rule=self.rule,
                mixing=self.mixing if mixed else None,
            )
        )

    def mispair(self, references: Artifact, material: Material) -> Artifact:
        """The references' contexts with stems of other songs."""
        assert self.mixing and material.reference_contexts, "_mixing found contexts to mix with"
        return self._make(
            EmbedFolderMispaired(
                references=references,
                stems=self._folder(material.references),
                contexts=self._folder(material.reference_contexts),
                clap=self.clap,
                rule=self.rule,
                mixing=self.mixing,
                seed=self.seed,
            )
        )

    def prompts(self, path: Path) -> Artifact:
        """A file of prompts as an input of a step."""
        return Artifact(stage="prompts", key=None, location=str(path.resolve()), digest=file_sha256(path))

    def _folder(self, path: Path) -> Artifact:
        return folder_corpus(path, self.runtime.root)

    def _make(self, step: Step) -> Artifact:
        return Store(self.runtime.root / "artifacts").build(step, self.runtime)


def _check(material: Material) -> None:
    folders = (*material.candidates, material.references)
    others = (material.contexts, material.reference_contexts, material.targets)
    for path in (*folders, *(path for path in others if path)):
        named_files(path)
    if material.prompts:
        read_prompts(material.prompts)


def _strangers(material: Material) -> list[str]:
    """A line for each kind of partner of which some belong to nothing that is judged: misspelt names, perhaps."""
    stems = {name for path in material.candidates for name in named_files(path)}
    given = {
        "contexts": (set(named_files(material.contexts)) if material.contexts else set()) - stems,
        "targets": (set(named_files(material.targets)) if material.targets else set()) - stems,
        "prompts": (set(read_prompts(material.prompts)) if material.prompts else set()) - stems,
    }
    return [
        f"{what}: {len(names)} bear no candidate's name: {', '.join(sorted(names)[:3])}{' …' if len(names) > 3 else ''}"
        for what, names in given.items()
        if names
    ]


def _mixing(material: Material, protocol: Protocol) -> tuple[Mixing | None, str]:
    """How mixtures are made for APA, or None and why there are none."""
    if not material.contexts or not material.reference_contexts:
        missing = [name for name in ("contexts", "reference_contexts") if getattr(material, name) is None]
        return None, f"it needs {CONTEXTS}; not given: {', '.join(missing)}"
    contexts = named_files(material.reference_contexts)
    tracks = [track_of(name) for name in named_files(material.references) if name in contexts]
    try:
        derangement(tracks, seed=protocol.pairing_seed)
    except ValueError as error:
        return None, f"references cannot be mispaired, where files of one subfolder are of one song: {error}"
    return Mixing.of(protocol), ""
