"""Latents in shards: half precision and its error, exact statistics, shards that are lost, and batches from them."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed import LocalCluster
from safetensors.numpy import save_file

from metrics.embeddings import Space
from models.batch import LatentSet, StyleSource, standardise
from models.codec import CHUNK_SAMPLES
from models.spectral import SpectralRecipe
from models.weights import load_weights, save_weights
from tasks.artifact import Artifact
from tasks.audio_bytes import decode_flac, flac_bytes
from tasks.dask_workers import client_at
from tasks.embeddings import EMBEDDINGS, ROWS, SPACE, Row
from tasks.encode import STATISTICS, EncodeWindows
from tasks.fit_codec import RECIPE, WEIGHTS, load_codec
from tasks.latent_origin import codec_of
from tasks.latent_stream import stream_batches
from tasks.lost_shards import LOST, lost_shards
from tasks.pack import PackLatents, load_keys, load_latents
from tasks.recipes import dump_recipe
from tasks.runtime import Runtime
from tasks.shard_folder import shard_path, shards_of
from tasks.shards import json_bytes, load_npy, read_shard, write_shard
from tasks.store import Store

SHARDS = (3, 3, 1)
KEYS = [f"train-{row:08d}" for row in range(sum(SHARDS))]
WIDTH = 5


@pytest.fixture
def runtime(tmp_path, workers):
    return Runtime(workspace=str(tmp_path), dask_scheduler=workers, progress=False, torch_threads=1)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "artifacts")


def write_windows(folder, sizes=SHARDS):
    """Shards of seven windows of noise, the same whatever the sizes of the shards."""
    random = np.random.default_rng(0)
    samples = []
    for key in KEYS:
        audio = {name: 0.1 * random.standard_normal((2, CHUNK_SAMPLES)) for name in ("target", "context")}
        samples.append(
            {"__key__": key, "json": json_bytes({"key": key})}
            | {f"{name}.flac": flac_bytes(audio_SN.astype(np.float32)) for name, audio_SN in audio.items()}
        )
    rest = iter(samples)
    for number, size in enumerate(sizes):
        write_shard(shard_path(folder, number), [next(rest) for _ in range(size)])
    return Artifact(stage="windows", key=None, location=str(folder), digest=f"windows of {sizes}")


@pytest.fixture
def windows(tmp_path):
    return write_windows(tmp_path / "windows")


@pytest.fixture
def codec(tmp_path):
    """A spectral codec of random components: what latents mean plays no part here."""
    recipe, folder = SpectralRecipe(audio_channels=2), tmp_path / "codec"
    folder.mkdir()
    random = torch.Generator().manual_seed(0)
    components = torch.randn(recipe.latent_width, recipe.patch_values, generator=random) / recipe.patch_values**0.5
    save_weights(folder / WEIGHTS, {"mean": torch.zeros(recipe.patch_values), "components": components}, {})
    (folder / RECIPE).write_text(dump_recipe(recipe))
    return Artifact(stage="codec", key=None, location=str(folder), digest="a codec")


@pytest.fixture
def embeddings(tmp_path):
    return write_embeddings(tmp_path / "embeddings", KEYS)


def write_embeddings(folder, keys):
    folder.mkdir()
    numbers = np.array([int(key[-8:]) for key in keys])
    arrays = {
        "stem_NE": np.repeat(numbers[:, None], WIDTH, 1),
        "style_NKE": 10 * numbers[:, None, None] + np.arange(2)[:, None] + np.zeros(WIDTH),
        "text_NE": np.zeros((len(keys), WIDTH)),
    }
    save_file({name: array.astype(np.float32) for name, array in arrays.items()}, folder / EMBEDDINGS)
    (folder / ROWS).write_text(json.dumps([Row(key, "track", "bass", "")._asdict() for key in keys]))
    space = Space(name="test", width=WIDTH, normalised=False, weights_sha256="0")
    (folder / SPACE).write_text(json.dumps(asdict(space)))
    return Artifact(stage="embed", key=None, location=str(folder), digest=f"{len(keys)} embeddings")


def raw_latents(windows, codec):
    """(2, N, C, T) of targets and contexts as the codec gives them."""
    network = load_codec(codec.location)
    samples = [sample for shard in shards_of(windows) for sample in read_shard(shard)]
    return torch.stack(
        [
            torch.cat(
                [network.encode(torch.from_numpy(decode_flac(s[f"{name}.flac"]))[None]).latent_BCT for s in samples]
            )
            for name in ("target", "context")
        ]
    )


def stored_latents(latents):
    samples = [sample for shard in shards_of(latents) for sample in read_shard(shard)]
    return np.stack([[load_npy(sample[f"{name}.npy"]) for sample in samples] for name in ("target", "context")])


def damage(shard):
    data = bytearray(Path(shard).read_bytes())
    data[len(data) // 2] ^= 16
    Path(shard).write_bytes(data)


def test_latents_are_kept_in_half_precision_and_the_summary_has_its_error(store, runtime, windows, codec):
    latents = store.build(EncodeWindows(windows=windows, codec=codec), runtime)
    raw, kept = raw_latents(windows, codec).double().numpy(), stored_latents(latents)
    assert kept.dtype == np.float16
    np.testing.assert_array_equal(kept, raw.astype(np.float16))
    error, std_C = np.abs(kept.astype(float) - raw), raw.std((0, 1, 3))
    summary = store.record(latents)["summary"]
    assert summary["rounding_max_std"] == pytest.approx((error.max((0, 1, 3)) / std_C).max(), rel=1e-9)
    rms_C = np.sqrt(np.square(error).mean((0, 1, 3)))
    assert summary["rounding_rms_std"] == pytest.approx((rms_C / std_C).max(), rel=1e-9)
    assert 0 < summary["rounding_rms_std"] < summary["rounding_max_std"] < 0.01


def test_statistics_are_those_of_the_unrounded_latents_however_they_are_sharded(
    store, runtime, windows, codec, tmp_path
):
    raw = raw_latents(windows, codec).double().numpy()
    for source in (windows, write_windows(tmp_path / "one", (7,))):
        latents = store.build(EncodeWindows(windows=source, codec=codec), runtime)
        told = json.loads((latents.path / STATISTICS).read_text())
        np.testing.assert_allclose(told["mean_C"], raw.mean((0, 1, 3)), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(told["std_C"], raw.std((0, 1, 3)), rtol=1e-9)


def test_the_same_numbers_of_another_codec_are_another_result(store, runtime, windows, codec, embeddings):
    packed = []
    for digest in ("a codec", "the same weights, fitted once more"):
        latents = store.build(EncodeWindows(windows=windows, codec=replace(codec, digest=digest)), runtime)
        packed.append(store.build(PackLatents(latents=latents, embeddings=embeddings), runtime))
    assert packed[0].key != packed[1].key and codec_of(packed[0]) != codec_of(packed[1])


def test_a_broken_shard_is_left_out_and_named_and_the_rest_goes_on(
    store, runtime, windows, codec, embeddings, tmp_path, monkeypatch
):
    monkeypatch.setattr("tasks.lost_shards.LOST_SHARE", 0.4)
    whole = Store(tmp_path / "whole").build(EncodeWindows(windows=windows, codec=codec), runtime)
    damage(shards_of(windows)[1])
    latents = store.build(EncodeWindows(windows=windows, codec=codec), runtime)
    assert [Path(shard).name for shard in shards_of(latents)] == ["shard-000000.tar", "shard-000002.tar"]
    (lost,) = lost_shards(latents)
    assert lost.shard == "shard-000001.tar" and "sha256" in lost.reason
    assert store.record(latents)["summary"]["lost"] == [str(lost)]
    assert str(tmp_path) not in (latents.path / LOST).read_text()
    assert latents.key == whole.key and latents.digest != whole.digest and not lost_shards(whole)
    packed = store.build(PackLatents(latents=latents, embeddings=embeddings), runtime)
    kept = [0, 1, 2, 6]
    assert load_keys(packed) == [KEYS[row] for row in kept]
    assert store.record(packed)["summary"] == {"windows": 4, "left_out": 3}
    np.testing.assert_array_equal(load_latents(packed).target_NCT, stored_latents(whole)[0][kept])
    np.testing.assert_array_equal(load_latents(packed).clap_leak_NE[:, 0], kept)


def test_embeddings_that_lack_windows_unexplained_are_refused(store, runtime, windows, codec, tmp_path):
    latents = store.build(EncodeWindows(windows=windows, codec=codec), runtime)
    fewer = write_embeddings(tmp_path / "fewer", KEYS[:6])
    with pytest.raises(ValueError, match="7 windows that are not the 6 embedded ones"):
        store.build(PackLatents(latents=latents, embeddings=fewer), runtime)


def test_too_many_broken_shards_end_the_run_which_goes_on_when_they_are_repaired(
    store, runtime, windows, codec, tmp_path
):
    whole = Store(tmp_path / "whole").build(EncodeWindows(windows=windows, codec=codec), runtime)
    damage(shards_of(windows)[0])
    step = EncodeWindows(windows=windows, codec=codec)
    with pytest.raises(
        ValueError, match=r"1 of 3 shards .* more than 1%: shard-000000.tar: .*sha256.* invalidate windows"
    ):
        store.build(step, runtime)
    assert store.find(step) is None
    (kept,) = store.root.glob("encode/.building-*/shard-000001.tar")
    written = kept.stat().st_mtime_ns
    write_windows(windows.path)
    repaired = store.build(step, runtime)
    assert repaired.digest == whole.digest
    assert Path(shards_of(repaired)[1]).stat().st_mtime_ns == written


def test_latents_beyond_half_precision_name_their_window(store, runtime, windows, codec):
    weights, _ = load_weights(codec.path / WEIGHTS)
    save_weights(codec.path / WEIGHTS, weights | {"components": weights["components"] * 1e6}, {})
    with pytest.raises(ValueError, match=f"window {KEYS[0]}: latents of its target are NaN, infinite or beyond"):
        store.build(EncodeWindows(windows=windows, codec=codec), runtime)


def test_a_stream_gives_every_window_once_as_packed_arrays_do(store, runtime, windows, codec, embeddings):
    latents = store.build(EncodeWindows(windows=windows, codec=codec), runtime)
    data = load_latents(store.build(PackLatents(latents=latents, embeddings=embeddings), runtime))

    def batches(seed, style=StyleSource.TARGET_WINDOW):
        random = np.random.default_rng(seed)
        return list(stream_batches(latents, embeddings, batch_size=2, style=style, random=random))

    orders = []
    for seed in range(3):
        assert [len(batch.target_BCT) for batch in batches(seed)] == [2, 2, 2, 1]
        orders.append(rows := [int(number) for batch in batches(seed) for number in batch.clap_BE[:, 0]])
        assert sorted(rows) == list(range(7))
        expected = data.batch(np.array(rows), np.zeros(7, int), StyleSource.TARGET_WINDOW)
        for name in ("target_BCT", "context_BCT", "clap_BE", "has_context_B", "has_clap_B"):
            assert torch.equal(torch.cat([getattr(batch, name) for batch in batches(seed)]), getattr(expected, name))
    assert len(set(map(tuple, orders))) > 1
    styles = torch.cat([batch.clap_BE[:, 0] for batch in batches(0, StyleSource.OTHER_SEGMENT)]).int()
    assert sorted((styles // 10).tolist()) == list(range(7)) and set((styles % 10).tolist()) == {0, 1}


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_a_batch_is_the_standardised_rows_bit_by_bit_and_the_arrays_stay(tmp_path, kind):
    random = np.random.default_rng(0)
    raw_NCT = (20 * random.standard_normal((9, 4, 6))).astype(kind)
    np.save(tmp_path / "raw.npy", raw_NCT)
    mean_C, std_C = random.standard_normal(4).astype(np.float32), random.uniform(1, 20, 4).astype(np.float32)
    for array_NCT in (raw_NCT.copy(), np.load(tmp_path / "raw.npy", mmap_mode="r")):
        data = LatentSet(
            target_NCT=array_NCT,
            context_NCT=array_NCT,
            clap_audio_NKE=np.zeros((9, 1, 2), np.float32),
            clap_leak_NE=np.zeros((9, 2), np.float32),
            mean_C=mean_C,
            std_C=std_C,
        )
        for rows in (np.array([3, 1, 1]), np.arange(9)):
            target_BCT = data.batch(rows, np.zeros(len(rows), int), StyleSource.TARGET_WINDOW).target_BCT
            expected_BCT = standardise(torch.from_numpy(raw_NCT[rows].astype(np.float32)), mean_C, std_C)
            assert torch.equal(target_BCT, expected_BCT)
        np.testing.assert_array_equal(array_NCT, raw_NCT)


def test_a_worker_killed_while_it_encodes_costs_only_its_shard(store, runtime, codec, tmp_path):
    windows = write_windows(tmp_path / "many", (1,) * 7)
    step = EncodeWindows(windows=windows, codec=codec)
    expected = Store(tmp_path / "whole").build(step, runtime)
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        first, seen = cluster.workers[0].pid, {}
        index = Path(shard_path(windows.path, 3)).with_suffix(".json")
        whole = index.rename(tmp_path / "whole.json")
        os.mkfifo(index)
        watcher = threading.Thread(target=_kill_at, args=(index, whole, store.root, first, seen), daemon=True)
        watcher.start()
        latents = store.build(step, replace(runtime, dask_scheduler=cluster.scheduler_address))
        watcher.join()
        assert cluster.workers[0].pid != first
        client_at(cluster.scheduler_address).close()
    assert latents.digest == expected.digest
    assert 0 < len(seen) < 7
    assert {shard.name: shard.stat().st_mtime_ns for shard in map(Path, shards_of(latents))}.items() >= seen.items()


def _kill_at(pipe: Path, whole: Path, root: Path, pid: int, seen: dict[str, int]) -> None:
    """Kill a worker while it waits for what `pipe` says, which is `whole` afterwards; `seen` is told the shards then.

    A worker that waits cannot be done before it is killed, however slow this thread is.
    """
    with pipe.open("wb"):  # opens when the worker reads it
        seen |= {path.name: path.stat().st_mtime_ns for path in root.glob("encode/*/shard-*.tar")}
        whole.replace(pipe)
        os.kill(pid, signal.SIGKILL)
