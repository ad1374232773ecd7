"""Embeddings are computed once for the same bytes in the same space, and two spaces never mix."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from io import BytesIO

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from metrics.embeddings import Space
from metrics.protocol import Protocol
from models.clap import ClapSpec, LaionClapRecipe
from tasks.artifact import Artifact
from tasks.audio_bytes import flac_bytes
from tasks.clap import SPEC, ImportLaionClap
from tasks.embed import EmbedWindows, Mixing
from tasks.embedding_cache import FOLDER, EmbeddingCache
from tasks.embeddings import Row, load_embeddings, merge_parts, part_path, write_part
from tasks.judge import ScoreRow
from tasks.judged_row import JudgedRow
from tasks.reference_state import MeasureReferences
from tasks.runtime import Runtime

SPEC_A = ClapSpec(name="counting", width=4, licence="any", weights_sha256="a" * 64)
SPACE_A = Space(name="counting", width=4, normalised=True, weights_sha256="a" * 64)
SPACE_B = replace(SPACE_A, name="counting-int16")
MIXING = Mixing(preset="L0", window_s=0.5, level_each_window=False)
CLIP = 48_000


class CountingClap:
    """An embedder whose vectors say what was heard, and that knows how often it was asked."""

    def __init__(self, spec=SPEC_A):
        self.spec, self.heard = spec, 0

    def embed_audio(self, audio_BSN):
        self.heard += len(audio_BSN)
        mono_BN = audio_BSN.mean(dim=1)
        return normalize(torch.stack([mono_BN.mean(1), mono_BN.std(1), mono_BN[:, 0], mono_BN[:, -1]], dim=1), dim=1)

    def embed_text(self, texts):
        return normalize(torch.ones(len(texts), 4), dim=1)


@pytest.fixture
def samples():
    """Three windows as a shard holds them."""
    noise = np.random.default_rng(0)

    def window(number):
        target, context, style = (0.1 * noise.standard_normal((2, CLIP)).astype(np.float32) for _ in range(3))
        told = {"track_id": f"song{number}", "role": "bass", "tags": "bass", "style_starts_samples": [0, CLIP // 2]}
        members = {"target.flac": target, "context.flac": context, "style.flac": style}
        flacs = {name: flac_bytes(audio) for name, audio in members.items()}
        return {"__key__": f"w{number}", "json": json.dumps(told), **flacs}

    return [window(number) for number in range(3)]


@pytest.fixture
def embed(tmp_path, monkeypatch):
    """Embeds windows as a stage does, into a folder of its own but with one workspace; the artifact."""

    def run(clap, samples, mixing=None, workspace="workspace"):
        home = tmp_path / clap.spec.name
        home.mkdir(exist_ok=True)
        space = {name: value for name, value in asdict(clap.spec).items() if name in asdict(SPACE_A)}
        (home / SPEC).write_text(json.dumps(space))
        monkeypatch.setattr("tasks.clap.load_clap", lambda *_: clap)
        monkeypatch.setattr("tasks.embed.pieces_of", lambda _: ["all"])
        monkeypatch.setattr("tasks.embed.samples_of", lambda _: iter(samples))
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        windows = Artifact(stage="windows", key="w", location="", digest="w")
        step = EmbedWindows(windows=windows, clap=replace(windows, location=str(home)), mixing=mixing)
        step.run(out, Runtime(workspace=str(tmp_path / workspace), workers=1))
        return Artifact(stage="embed", key="e", location=str(out), digest="e")

    return run


def test_the_same_bytes_in_the_same_space_are_embedded_once(embed, samples):
    clap = CountingClap()
    first = load_embeddings(embed(clap, samples[:2])).arrays
    assert clap.heard == 2 * 3  # a stem and two style segments each
    more = load_embeddings(embed(clap, samples)).arrays
    assert clap.heard == 3 * 3  # only the third window's
    assert np.array_equal(more["stem_NE"][:2], first["stem_NE"])
    assert np.array_equal(more["style_NKE"][:2], first["style_NKE"])


def test_what_is_kept_is_what_would_be_computed(embed, samples):
    clap = CountingClap()
    kept = [load_embeddings(embed(clap, samples, MIXING)).arrays for _ in range(2)][1]
    fresh = load_embeddings(embed(clap, samples, MIXING, workspace="elsewhere")).arrays
    assert all(np.array_equal(kept[name], fresh[name]) for name in fresh)


def test_mixtures_are_made_again_only_where_they_are_mixed_otherwise(embed, samples):
    clap = CountingClap()
    embed(clap, samples, MIXING)
    heard = clap.heard
    embed(clap, samples, MIXING)
    assert clap.heard == heard
    embed(clap, samples, replace(MIXING, window_s=1.0))
    assert clap.heard == heard + 3  # one window of 1 s each; stems and styles are kept


def test_another_space_or_device_never_finds_what_this_one_kept(tmp_path):
    first = EmbeddingCache(tmp_path, spec=SPEC_A, device="cpu")
    first.found_or_made([b"audio"], "stem", lambda: np.zeros(4, np.float32))
    for other in (
        EmbeddingCache(tmp_path, spec=replace(SPEC_A, weights_sha256="b" * 64), device="cpu"),
        EmbeddingCache(tmp_path, spec=replace(SPEC_A, name="counting-int16"), device="cpu"),
        EmbeddingCache(tmp_path, spec=SPEC_A, device="cuda"),
    ):
        assert other.found_or_made([b"audio"], "stem", lambda: np.ones(4, np.float32)).all()
    assert not first.found_or_made([b"audio"], "stem", lambda: np.ones(4, np.float32)).any()
    for heard, how in (([b"other"], "stem"), ([b"audio"], "2 segments"), ([b"aud", b"io"], "stem")):
        assert first.found_or_made(heard, how, lambda: np.ones(4, np.float32)).all()


def test_a_torn_entry_is_made_again(tmp_path):
    cache = EmbeddingCache(tmp_path, spec=SPEC_A, device="cpu")
    cache.found_or_made([b"audio"], "stem", lambda: np.zeros(4, np.float32))
    (entry,) = (tmp_path / FOLDER).rglob("*.npy")
    whole = entry.read_bytes()
    for torn in (b"", whole[:-3], bytes(len(whole))):
        entry.write_bytes(torn)
        assert cache.found_or_made([b"audio"], "stem", lambda: np.ones(4, np.float32)).all()
    assert np.load(BytesIO(entry.read_bytes())).tolist() == [1.0] * 4


def test_embeddings_of_two_spaces_are_never_scored_together_and_both_are_named(tmp_path):
    def embeddings(space, name):
        vectors = np.tile(np.eye(4, dtype=np.float32), (2, 1))
        arrays = {"stem_NE": vectors, "text_NE": vectors, "mixture_NWE": vectors[:, None]}
        folder = tmp_path / name
        folder.mkdir()
        write_part(part_path(folder, 0), arrays, [Row(f"{name}{row}", "song", "bass", "bass") for row in range(8)])
        merge_parts(folder, space)
        (folder / SPEC).write_text(json.dumps(asdict(space)))
        return Artifact(stage="embed", key=name, location=str(folder), digest=name)

    references, candidates = embeddings(SPACE_A, "references"), embeddings(SPACE_B, "candidates")
    state = tmp_path / "state"
    state.mkdir()
    runtime = Runtime(workspace=str(tmp_path), workers=1, progress=False)
    MeasureReferences(references=references, mispaired=references).run(state, runtime)
    row = JudgedRow(
        arm="real",
        inputs="x",
        conditioning=None,
        candidates=candidates,
        prompts=None,
        references=references,
        mispaired=references,
        reference_state=Artifact(stage="reference-state", key="state", location=str(state), digest="state"),
        clap=references,
        protocol=Protocol(
            profile="laptop", batches=1, batch_size=8, reference_size=8, space=SPACE_A, mixture_space=SPACE_A
        ),
        batches=1,
        quality=True,
        adherence=True,
    )
    with pytest.raises(ValueError) as raised:
        ScoreRow(row=row).run(tmp_path, Runtime(workspace=str(tmp_path)))
    assert "'counting'" in str(raised.value) and "'counting-int16'" in str(raised.value)


def test_a_checkpoint_of_a_known_name_and_another_digest_is_recorded_with_a_remark(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("tasks.clap.load_clap", lambda *_: CountingClap())
    name = "music_audioset_epoch_15_esc_90.14.pt"
    recipe = LaionClapRecipe(checkpoint_sha256="c" * 64, tokenizer_sha256="t" * 64)
    runtime = Runtime(workspace=str(tmp_path), local_files={"c" * 64: f"/somewhere/{name}"})
    summary = ImportLaionClap(recipe=recipe).run(tmp_path, runtime)
    assert summary["remark"] in caplog.text
    assert name in caplog.text and "c" * 64 in caplog.text and "fae3e9c0" in caplog.text
    mine = replace(runtime, local_files={"c" * 64: "/somewhere/mine.pt"})
    assert ImportLaionClap(recipe=recipe).run(tmp_path, mine)["remark"] is None
