"""Windows from shards or from the plan, here or in a bucket: what is made of them has the same digest."""

from __future__ import annotations

import json
import os
import signal
import tarfile
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import soundfile
from distributed import LocalCluster

from data_manifests.pairs import PairPlan, PairRange, PairRule, split_tracks
from models.codec import CHUNK_SAMPLES
from models.small_clap import SmallClapRecipe
from models.spectral import SpectralRecipe
from tasks.artifact import Artifact, planned
from tasks.catalogue_file import read_catalogue, read_tracks
from tasks.clap import FitClap
from tasks.cut import CatalogueCorpus, CutWindows, PlanPairs
from tasks.dask_workers import client_at
from tasks.embed import EmbedWindows, Mixing
from tasks.encode import EncodeWindows
from tasks.fit_codec import FitCodec
from tasks.pack import PackLatents
from tasks.plan_file import read_plan, write_plan
from tasks.runtime import Runtime
from tasks.shard_folder import shards_of
from tasks.shards import load_npy, read_shard
from tasks.storage import remove, sizes_in
from tasks.store import Store
from tasks.verify_windows import verify_windows
from tasks.window_source import pieces_of, samples_of

CLAP = SmallClapRecipe(width=16, channels=(4, 8, 8, 8), steps=2, batch_size=4, seed=0)
RULE = PairRule(window_samples=CHUNK_SAMPLES)
MIXING = Mixing(preset="L0", window_s=0.5, level_each_window=False)


@pytest.fixture
def runtime(tmp_path, workers):
    return Runtime(workspace=str(tmp_path), dask_scheduler=workers, progress=False, torch_threads=1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory, workers):
    """A store with a catalogue of four songs, seven windows of it and what is made of them, and its runtime."""
    root = tmp_path_factory.mktemp("shared")
    rng = np.random.default_rng(0)
    for song in range(4):
        (root / "corpus" / f"song{song}").mkdir(parents=True)
        for level, name in enumerate(("drums", "bass", "pad"), start=1):
            audio = 0.1 * level * rng.standard_normal((3 * 48_000, 2))
            soundfile.write(root / "corpus" / f"song{song}" / f"{name}.wav", audio, 48_000, subtype="FLOAT")
    runtime = Runtime(workspace=str(root), dask_scheduler=workers, progress=False, torch_threads=1)
    return Store(root / "artifacts"), runtime


@pytest.fixture(scope="module")
def cut(shared):
    """The step that cuts seven windows into shards of three, three and one."""
    store, runtime = shared
    corpus = Artifact(stage="corpus", key=None, location=f"{runtime.workspace}/corpus", digest="c0")
    catalogue = store.build(CatalogueCorpus(corpus=corpus, heldout_fraction=0.5, seed=0), runtime)
    rows = PairRange(split="train", first=0, stop=7)
    plan = store.build(PlanPairs(catalogue=catalogue, rule=RULE, rows=rows), runtime)
    return CutWindows(corpus=corpus, catalogue=catalogue, plan=plan, rows=rows, shard_rows=3)


@pytest.fixture(scope="module")
def codec(shared, cut):
    store, runtime = shared
    recipe = SpectralRecipe(audio_channels=2)
    return store.build(FitCodec(recipe=recipe, windows=cut.planned, first_windows=None, seed=0), runtime)


@pytest.fixture(params=["folder", "memory", "s3"])
def root(request, tmp_path):
    if request.param == "s3":
        request.getfixturevalue("s3")
    yield {"s3": "s3://windows/prefix", "memory": "memory://shards", "folder": str(tmp_path / "big")}[request.param]
    if request.param == "memory":
        remove("memory://shards")


def test_a_plan_gives_the_samples_that_its_shards_hold(shared, cut):
    windows = shared[0].build(cut, shared[1])
    assert [len(list(samples_of(piece))) for piece in pieces_of(cut.planned)] == [3, 3, 1]
    for piece, shard in zip(pieces_of(cut.planned), shards_of(windows), strict=True):
        assert list(samples_of(piece)) == list(read_shard(shard))


def test_a_plan_on_disk_is_the_plan_row_by_row_from_any_range(cut, tmp_path, monkeypatch):
    tracks = split_tracks(read_catalogue(cut.catalogue.path).tracks, "train")
    plan = PairPlan(tracks, replace(RULE, style_segments=2))
    monkeypatch.setattr("tasks.plan_file.GROUP_ROWS", 7)
    write_plan(plan, PairRange(split="train", first=3, stop=33), tmp_path)
    for first, stop in ((3, 33), (3, 4), (8, 19), (32, 33)):
        planned = read_plan(tmp_path, PairRange(split="train", first=first, stop=stop))
        assert planned.pairs == tuple(plan.pairs(first, stop)) and planned.window_samples == CHUNK_SAMPLES
    for wrong in (PairRange(split="train", first=2, stop=9), PairRange(split="heldout", first=4, stop=9)):
        with pytest.raises(ValueError, match="holds rows 3 to 33 of train"):
            read_plan(tmp_path, wrong)


def test_a_catalogue_gives_single_tracks_as_the_whole_has_them(cut):
    whole = {track.id: track for track in read_catalogue(cut.catalogue.path).tracks}
    some = sorted(whole)[1:3]
    assert read_tracks(cut.catalogue.path, some) == {name: whole[name] for name in some}


def test_fused_stages_give_the_bytes_of_those_that_read_shards(shared, cut, codec):
    store, runtime = shared
    windows = store.build(cut, runtime)
    fused = EncodeWindows(windows=cut.planned, codec=codec)
    stored = replace(fused, windows=windows)
    assert fused.key() != stored.key()
    first, second = store.build(fused, runtime), store.build(stored, runtime)
    assert store.record(first)["files"] == store.record(second)["files"]
    assert len(store.record(first)["files"]) == 3 * 3 + 1
    clap = FitClap(recipe=CLAP, windows=windows)
    weights, again = (store.build(step, runtime) for step in (clap, replace(clap, windows=cut.planned)))
    assert weights.digest == again.digest
    embed = EmbedWindows(windows=windows, clap=weights, mixing=MIXING)
    assert store.build(embed, runtime).digest == store.build(replace(embed, windows=cut.planned), runtime).digest
    fit = FitCodec(recipe=SpectralRecipe(audio_channels=2), windows=windows, first_windows=None, seed=0)
    assert store.build(fit, runtime).digest == codec.digest


def test_embedding_goes_on_where_it_stopped(shared, cut, monkeypatch, runtime, tmp_path):
    clap = shared[0].build(FitClap(recipe=CLAP, windows=cut.planned), shared[1])
    step = EmbedWindows(windows=cut.planned, clap=clap, mixing=None)
    expected = shared[0].build(step, shared[1]).digest
    store = Store(tmp_path / "artifacts")
    with monkeypatch.context() as patch:
        patch.setattr("tasks.embed.merge_parts", lambda *_: pytest.fail("stopped here"))
        with pytest.raises(pytest.fail.Exception):
            store.build(step, runtime)
    (part,) = (tmp_path / "artifacts" / "embed" / f".building-{step.key()}").glob("part-000001.json")
    part.unlink()
    read = []
    source = samples_of
    monkeypatch.setattr("tasks.embed.samples_of", lambda piece: read.append(piece) or source(piece))
    assert store.build(step, runtime).digest == expected
    assert read == [pieces_of(cut.planned)[1]]


def test_a_plan_over_a_catalogue_that_is_still_to_come_waits(cut, codec):
    step = EncodeWindows(windows=replace(cut.planned, catalogue=planned("catalogue")), codec=codec)
    assert step.waits
    assert "windows.corpus" in dict(EncodeWindows(windows=cut.planned, codec=codec).needs())


def test_a_shard_root_changes_neither_key_nor_digest_and_all_stages_read_from_it(
    shared, cut, codec, root, runtime, tmp_path
):
    here, there = shared[0], Store(Path(runtime.workspace) / "artifacts")
    runtime = replace(runtime, shard_root=root)
    windows = there.build(cut, runtime)
    assert windows.digest == here.build(cut, shared[1]).digest
    assert sorted(path.name for path in windows.path.iterdir()) == ["record.json", "shards.json"]
    assert all(shard.startswith(root) for shard in shards_of(windows))
    latents = there.build(EncodeWindows(windows=windows, codec=codec), runtime)
    assert latents.digest == here.build(EncodeWindows(windows=cut.planned, codec=codec), shared[1]).digest
    clap = here.build(FitClap(recipe=CLAP, windows=cut.planned), shared[1])
    embedded = there.build(EmbedWindows(windows=windows, clap=clap, mixing=None), runtime)
    packed = there.build(PackLatents(latents=latents, embeddings=embedded), runtime)
    assert len(json.loads((packed.path / "keys.json").read_text())) == 7
    target_NCT = np.stack([load_npy(s["target.npy"]) for shard in shards_of(latents) for s in read_shard(shard)])
    np.save(tmp_path / "target.npy", target_NCT)
    assert (packed.path / "target_NCT.npy").read_bytes() == (tmp_path / "target.npy").read_bytes()
    report = verify_windows(windows, runtime)
    assert report.passed and report.windows == 7 and verify_windows(f"{root}/windows/{windows.key}", runtime).passed


def test_a_result_whose_shard_is_gone_from_the_root_is_built_again_with_the_same_digest(shared, cut, root, runtime):
    store, runtime = Store(Path(runtime.workspace) / "artifacts"), replace(runtime, shard_root=root)
    made = store.build(cut, runtime)
    assert store.find(cut) == made
    home = f"{root}/windows/{made.key}"
    remove(home) if root.startswith("memory") else remove_one(f"{home}/shard-000001.tar")
    assert store.find(cut) is None
    assert store.build(cut, runtime) == made
    store.remove("windows", made.key)
    assert sizes_in(home) == {}


def remove_one(place: str) -> None:
    if place.startswith("s3"):
        import boto3

        boto3.client("s3").delete_object(Bucket="windows", Key=place.removeprefix("s3://windows/"))
    else:
        Path(place).unlink()


def test_a_killed_worker_leaves_no_half_shard_and_the_digest_is_the_same(shared, cut, runtime, tmp_path):
    rows = PairRange(split="train", first=0, stop=24)
    plan = shared[0].build(PlanPairs(catalogue=cut.catalogue, rule=RULE, rows=rows), shared[1])
    many = replace(cut, plan=plan, rows=rows, shard_rows=1)

    def die_amid_the_fourth_shard() -> None:
        """In the worker: it is killed when three shards of one window are written, and two of the fourth's members."""
        add, earlier = tarfile.TarFile.addfile, count()

        def add_or_die(tar, *member):
            if next(earlier) == 3 * 4 + 2:
                os.kill(os.getpid(), signal.SIGKILL)
            add(tar, *member)

        tarfile.TarFile.addfile = add_or_die

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        runtime = replace(runtime, dask_scheduler=cluster.scheduler_address)
        store = Store(tmp_path / "artifacts")
        first = cluster.workers[0].pid
        client_at(cluster.scheduler_address).run(die_amid_the_fourth_shard)
        windows = store.build(many, runtime)
        assert cluster.workers[0].pid != first
        client_at(cluster.scheduler_address).close()
    assert len(shards_of(windows)) == 24
    assert verify_windows(windows, shared[1]).passed
    assert windows.digest == shared[0].build(many, shared[1]).digest
    assert not list(windows.path.glob(".*"))


def test_verification_names_every_broken_shard_and_window(shared, cut, runtime, tmp_path):
    windows = Store(tmp_path / "artifacts").build(cut, runtime)
    assert verify_windows(windows, runtime).lines() == ["3 shards, 7 windows read: all whole"]
    first, second, third = map(Path, shards_of(windows))
    with tarfile.open(first) as tar:
        place = next(entry for entry in tar if entry.name == "train-00000001.style.flac")
    data = bytearray(first.read_bytes())
    data[place.offset_data + place.size // 2] ^= 16
    first.write_bytes(data)
    second.write_bytes(second.read_bytes()[:-2048])
    third.unlink()
    third.with_suffix(".json").unlink()
    report = verify_windows(windows, runtime)
    told = {Path(shard.shard).name: " ".join(shard.problems) for shard in report.shards}
    assert not report.passed
    assert "sha256" in told["shard-000000.tar"]
    assert "window train-00000001: style.flac" in told["shard-000000.tar"]
    assert told["shard-000000.tar"].count("window ") == 1
    assert "not the whole shard" in told["shard-000001.tar"]
    assert "no index" in told["shard-000002.tar"]
    assert report.lines()[-1] == "3 shards, 3 windows read: 3 shards are broken"
    with pytest.raises(ValueError, match="no shards"):
        verify_windows(tmp_path, runtime)
