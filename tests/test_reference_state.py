"""Claims about the state of the references: cut into shards, measured on workers, merged to what one pass gives."""

from itertools import pairwise

import numpy as np
import pytest
from distributed import LocalCluster
from threadpoolctl import threadpool_limits

from metrics.embeddings import Space
from metrics.reference_state import reference_state
from metrics.score import largest_neighbourhood
from metrics.set_distances import set_distances
from tasks import reference_state as measuring
from tasks.artifact import Artifact
from tasks.dask_workers import client_at
from tasks.embeddings import Row, merge_parts, part_path, write_part
from tasks.reference_state import SHARD_ROWS, STATE, MeasureReferences, reference_set
from tasks.runtime import Runtime

# Shapes: N windows, W windows of a mixture, E width of the space.

WIDTH, REFERENCES = 200, 700  # enough for BLAS to share the work among threads
SPACE = Space(name="drawn", width=WIDTH, normalised=False, weights_sha256="")


@pytest.fixture(scope="module")
def step(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("embeddings"), np.random.default_rng(6)

    def artifact(name, shift):
        place = folder / name
        place.mkdir()
        arrays = {
            "stem_NE": random.standard_normal((REFERENCES, WIDTH)),
            "mixture_NWE": random.standard_normal((REFERENCES, 2, WIDTH)) + shift,
        }
        write_part(part_path(place, 0), arrays, [Row(f"window-{row}", "song", "bass", "") for row in range(REFERENCES)])
        merge_parts(place, SPACE)
        return Artifact(stage="embed", key=name, location=str(place), digest=name)

    return MeasureReferences(references=artifact("true", 0.0), mispaired=artifact("mispaired", 1.0))


@pytest.fixture
def measure(step, tmp_path, monkeypatch):
    """The folder that the step fills, with shards of so many rows."""

    def measure(name, *, shard_rows=SHARD_ROWS, **where):
        monkeypatch.setattr(measuring, "SHARD_ROWS", shard_rows)
        out = tmp_path / name
        out.mkdir()
        step.run(out, Runtime(workspace=str(tmp_path), progress=False, **{"workers": 1, **where}))
        return out

    return measure


def kept_in(folder, step):
    state = Artifact(stage="reference-state", key="", location=str(folder), digest="")
    return reference_set(step.references, step.mispaired, kept=state)


def test_two_workers_give_the_bytes_that_this_process_gives(measure):
    here = measure("here", shard_rows=150)
    with LocalCluster(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        spread = measure("spread", shard_rows=150, dask_scheduler=cluster.scheduler_address)
        client_at(cluster.scheduler_address).close()
    assert [path.name for path in spread.iterdir()] == [STATE]
    assert (spread / STATE).read_bytes() == (here / STATE).read_bytes()


def test_the_number_of_threads_changes_not_a_bit(measure):
    folders = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            folders.append(measure(f"{threads} threads"))
    one, two = ((folder / STATE).read_bytes() for folder in folders)
    assert one == two


@pytest.mark.parametrize("shard_rows", [150, SHARD_ROWS])
def test_what_is_kept_of_every_set_is_what_one_pass_over_it_gives(measure, step, shard_rows):
    reference = kept_in(measure("kept", shard_rows=shard_rows), step)
    candidate = np.random.default_rng(7).standard_normal((40, WIDTH)).astype(np.float32)
    assert set(reference.kept) == {"stems", "mixtures", "mispaired"}
    for name, rows in reference.sets().items():
        kept, whole = reference.kept[name], reference_state(rows, largest_k=largest_neighbourhood(rows))
        assert (kept.neighbourhoods is None) == (whole.neighbourhoods is None) == (name != "stems")
        assert kept.gaussian.mean_D == pytest.approx(whole.gaussian.mean_D, rel=1e-12, abs=1e-15)
        assert kept.gaussian.trace == pytest.approx(whole.gaussian.trace, rel=1e-13)
        assert kept.kernel.mean_within == pytest.approx(whole.kernel.mean_within, rel=1e-9)
    found, expected = (
        set_distances(state, candidate, (2, 5)) for state in (reference.stem_state, reference_state(reference.stems))
    )
    assert found.densities_and_coverages == expected.densities_and_coverages
    assert found.frechet_distance == pytest.approx(expected.frechet_distance, rel=1e-11)
    assert found.kernel_distance == pytest.approx(expected.kernel_distance, abs=1e-9)


@pytest.mark.parametrize("count", [2, SHARD_ROWS - 1, SHARD_ROWS, SHARD_ROWS + 1, 2 * SHARD_ROWS, 5 * SHARD_ROWS + 1])
def test_shards_hold_every_row_once_and_enough_for_a_covariance(count, tmp_path):
    rows = [shard.rows for shard in measuring._shards(tmp_path, "stems", count)]
    assert (rows[0].start, rows[-1].stop) == (0, count)
    assert all(one.stop == other.start for one, other in pairwise(rows))
    assert min(shard.stop - shard.start for shard in rows) >= min(count, SHARD_ROWS)
    assert max(shard.stop - shard.start for shard in rows) < 2 * SHARD_ROWS
