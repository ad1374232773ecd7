"""How fast the metrics are beside the installed peers, on the paper's sizes, with equal values.

    python benchmarks/metric_speed.py [--threads 1] [--rounds 5] [--references 5000] [--candidates 1000]
    python benchmarks/metric_speed.py --growth 50000

Ours and theirs take turns; a factor is the median over rounds of their time over ours. With one thread time is this
process' own CPU time, which other processes on the machine lengthen least; with more it is wall time. `cold` includes
what belongs to the references alone, `cached` does not, on either side. Needs the test extra (audio-metrics, prdc);
torch-fidelity is compared where it is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

K = 5  # neighbours: the default of prdc's authors


class Job(NamedTuple):
    """Two ways to the same value, and how far apart their values may be; None where they answer different questions."""

    name: str
    ours: Callable[[], float]
    theirs: Callable[[], float]
    tolerance: float | None


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("threads", 1), ("rounds", 5), ("references", 5000), ("candidates", 1000), ("growth", 0)):
        asked.add_argument(f"--{name}", type=int, default=default)
    told = asked.parse_args()
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(told.threads)  # read once, when numpy and torch are imported below
    if told.growth:
        print_growth(told.growth, told.candidates)
        return
    clock = time.process_time if told.threads == 1 else time.perf_counter
    for job in jobs(told.references, told.candidates, told.threads):
        compare(job, told.rounds, clock)


def compare(job: Job, rounds: int, clock: Callable[[], float]) -> None:
    """Prints medians of both sides and of their ratio; an error if the values differ."""
    ours, theirs = job.ours(), job.theirs()
    if job.tolerance is not None and abs(ours - theirs) > job.tolerance:
        raise ValueError(f"{job.name}: ours is {ours!r}, theirs {theirs!r}, more than {job.tolerance:g} apart")
    taken = [(seconds(job.ours, clock), seconds(job.theirs, clock)) for _ in range(rounds)]
    ours_s, theirs_s = median(pair[0] for pair in taken), median(pair[1] for pair in taken)
    factor = median(pair[1] / pair[0] for pair in taken)
    print(f"{job.name:52} {1e3 * ours_s:9.1f} ms {1e3 * theirs_s:9.1f} ms {factor:7.1f} x", flush=True)


def seconds(work: Callable[[], float], clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return clock() - start


class Sets(NamedTuple):
    """Embeddings (N, 512) of references and candidates, and audio-metrics' form of any of them."""

    stems: Any
    mixtures: Any
    mispaired: Any
    stem: Any
    mixture: Any

    @staticmethod
    def fitted(rows: Any) -> Any:
        import torch
        from audio_metrics.data import AudioMetricsData

        data = AudioMetricsData()
        data.add(torch.from_numpy(rows))
        return data


def jobs(references: int, candidates: int, threads: int) -> list[Job]:
    """Every comparison that the installed peers allow."""
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    sizes_and_shifts = [(references, 0.0), (references, 0.5), (references, 0.8), (candidates, 0.2), (candidates, 0.6)]
    sets = Sets(*(clap_like(rng, count, shift) for count, shift in sizes_and_shifts))
    print(f"{references} references, {candidates} candidates, {threads} thread(s)")
    print(f"{'':52} {'ours':>12} {'theirs':>12} {'factor':>9}")
    return [*fad_jobs(sets), *kd_jobs(sets), *density_coverage_jobs(sets), *table_jobs(sets)]


def fad_jobs(sets: Sets) -> list[Job]:
    import numpy as np
    from audio_metrics.metrics.fad import frechet_distance as theirs
    from scipy.linalg import sqrtm

    from metrics.frechet import frechet_distance, gaussian

    kept, their_kept = gaussian(sets.stems), sets.fitted(sets.stems)
    mean_D, covariance_DD = sets.stems.mean(axis=0, dtype=np.float64), np.cov(sets.stems.T)

    def by_square_root() -> float:
        shift_D = mean_D - sets.stem.mean(axis=0, dtype=np.float64)
        other_DD = np.cov(sets.stem.T)
        overlap = np.trace(sqrtm(covariance_DD @ other_DD).real)
        return float(shift_D @ shift_D + np.trace(covariance_DD) + np.trace(other_DD) - 2 * overlap)

    def cold() -> float:
        return frechet_distance(sets.stems, sets.stem)

    def cached() -> float:
        return frechet_distance(kept, sets.stem)

    return [
        Job("FAD cold, audio-metrics", cold, lambda: theirs(sets.fitted(sets.stems), sets.fitted(sets.stem)), 1e-6),
        Job("FAD cached, audio-metrics", cached, lambda: theirs(their_kept, sets.fitted(sets.stem)), 1e-6),
        Job("FAD cached, scipy's sqrtm (frechet-audio-distance's)", cached, by_square_root, 1e-6),
    ]


def kd_jobs(sets: Sets) -> list[Job]:
    from audio_metrics.metrics.kd import kid_features_to_metric

    from metrics.kernel import kernel_distance, kernel_distance_subsets, kernel_set

    kept = kernel_set(sets.stems)

    def theirs() -> float:
        return float(kid_features_to_metric(sets.stem, sets.stems)["kernel_distance_mean"])

    def subsets() -> float:
        return kernel_distance_subsets(sets.stems, sets.stem).mean

    return [
        Job("KD cold, audio-metrics' 100 subsets", lambda: kernel_distance(sets.stems, sets.stem), theirs, None),
        Job("KD cached, audio-metrics' 100 subsets", lambda: kernel_distance(kept, sets.stem), theirs, None),
        Job("KD, the same 100 subsets, audio-metrics", subsets, theirs, 1e-6),
        *torch_fidelity_jobs(sets),
    ]


def torch_fidelity_jobs(sets: Sets) -> list[Job]:
    """None where it is not installed: it is no part of any extra."""
    if find_spec("torch_fidelity") is None:
        return []
    import torch
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    from metrics.kernel import kernel_distance

    features = [torch.from_numpy(rows) for rows in (sets.stems, sets.stem)]
    asked = {"kid_subsets": 100, "kid_subset_size": len(sets.stem), "verbose": False}

    def theirs() -> float:
        return float(kid_features_to_metric(*features, **asked)[KEY_METRIC_KID_MEAN])

    return [Job("KD cold, torch-fidelity's 100 subsets", lambda: kernel_distance(sets.stems, sets.stem), theirs, None)]


def density_coverage_jobs(sets: Sets) -> list[Job]:
    from prdc import compute_prdc

    from metrics.density_coverage import density_coverage
    from metrics.neighbourhoods import neighbourhoods

    kept = neighbourhoods(sets.stems)

    def theirs() -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            found = compute_prdc(sets.stems, sets.stem, K)
        return float(found["density"] + found["coverage"])

    return [
        Job("density, coverage cold, prdc", lambda: sum(density_coverage(sets.stems, sets.stem, K)), theirs, 1e-3),
        Job("density, coverage cached, prdc", lambda: sum(density_coverage(kept, sets.stem, K)), theirs, 1e-3),
    ]


def table_jobs(sets: Sets) -> list[Job]:
    """KD, FAD, density, coverage and APA of one batch; a table has 30 rows of 5, and its references only once."""
    from audio_metrics.metrics.apa import apa
    from audio_metrics.metrics.fad import frechet_distance as their_fad
    from audio_metrics.metrics.kd import kernel_distance as their_kd
    from audio_metrics.metrics.prdc import prdc

    from metrics.adherence import adherence
    from metrics.frechet import frechet_distance, gaussian
    from metrics.reference_state import reference_state
    from metrics.set_distances import set_distances

    stems = reference_state(sets.stems)
    mixtures, mispaired = gaussian(sets.mixtures), gaussian(sets.mispaired)
    separation = frechet_distance(mixtures, mispaired)

    def ours() -> float:
        mixture = gaussian(sets.mixture)
        apa_of_ours = adherence(
            to_reference=frechet_distance(mixtures, mixture),
            to_mispaired=frechet_distance(mispaired, mixture),
            separation=separation,
        )
        return apa_of_ours + set_distances(stems, sets.stem, (K,)).frechet_distance

    def theirs(references: tuple[Any, ...], their_separation: float | None) -> float:
        stem = sets.fitted(sets.stem)
        their_kd(stem, references[0])
        prdc(references[0], stem, K)
        apa_of_theirs = apa(sets.fitted(sets.mixture), references[1], references[2], d_x_xp=their_separation)
        return float(apa_of_theirs + their_fad(references[0], stem))

    kept = sets.fitted(sets.stems), sets.fitted(sets.mixtures), sets.fitted(sets.mispaired)
    kept_separation = their_fad(kept[1], kept[2])
    afresh = sets.stems, sets.mixtures, sets.mispaired
    return [
        Job("table batch, audio-metrics with references kept", ours, lambda: theirs(kept, kept_separation), 1e-5),
        Job(
            "table batch, audio-metrics' functions on embeddings",
            ours,
            lambda: theirs(tuple(sets.fitted(rows) for rows in afresh), None),
            1e-5,
        ),
    ]


def clap_like(rng: Any, count: int, shift: float) -> Any:
    """Unit vectors of width 512 about a common direction, with the spectrum that CLAP's have: few directions matter."""
    import numpy as np

    rows_ND = rng.standard_normal((count, 512)) * np.arange(1, 513) ** -0.6 + 0.05 * (1 + shift)
    return (rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True)).astype(np.float32)


def print_growth(references: int, candidates: int) -> None:
    """Prints what each metric of one large reference set takes: the most memory, in a process of its own, and time."""
    from tasks.peak_memory import peak_mib

    print(f"{references} references (embeddings included), {candidates} candidates")
    for name in ("embeddings alone", "FAD", "KD", "density, coverage"):
        start_s = time.perf_counter()
        peak = peak_mib(partial(judge_large, name, references, candidates), "cpu")
        told = "unknown on this system" if peak is None else f"{peak:5.0f} MiB"
        print(f"{name:20} {told}  {time.perf_counter() - start_s:6.1f} s with its start", flush=True)


def judge_large(name: str, references: int, candidates: int) -> object:
    """One metric of many references, drawn in pieces so that drawing them is not what takes memory."""
    import numpy as np

    from metrics.density_coverage import densities_and_coverages
    from metrics.frechet import frechet_distance
    from metrics.kernel import kernel_distance

    rng = np.random.default_rng(0)
    stems, stem = np.empty((references, 512), np.float32), clap_like(rng, candidates, 0.2)
    for start in range(0, references, 5000):
        stems[start : start + 5000] = clap_like(rng, len(stems[start : start + 5000]), 0.0)
    match name:
        case "FAD":
            return frechet_distance(stems, stem)
        case "KD":
            return kernel_distance(stems, stem)
        case "density, coverage":
            return densities_and_coverages(stems, stem, (2, K))
    return stems


if __name__ == "__main__":
    main()
