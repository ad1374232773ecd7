"""Training recovers a known conditional law; the full version, with every arm, is benchmarks/designed_corpus.py."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from designed_law import SEGMENT_COSINE, TEXT_COSINE, designed_law, distance, latent_set

from models.batch import StyleSource
from models.conditioning import ClapSource, Conditioning
from models.consistency import ConsistencyObjective
from models.denoiser_training import load_denoiser, train_denoiser
from models.dit import DiTRecipe
from models.edm import EdmObjective
from models.guidance import Guidance
from models.sampling import ConsistencySampler, HeunSampler, sample_latents
from models.training import TrainingRecipe

SIZE = {"channels": 3, "frames": 4, "clap_width": 3}
NETWORK = DiTRecipe(width=32, layers=1, heads=2, noise_width=16)
TRAINING = TrainingRecipe(steps=900, batch_size=128, learning_rate=8e-3, warmup_steps=50, ema_decay=0.99)
ASKED, REPEATS = 128, 6
TOLD = [(True, True), (True, False), (False, True), (False, False)]


@pytest.fixture(scope="module")
def corpus():
    law = designed_law(**SIZE)
    return SimpleNamespace(law=law, data=latent_set(law.draw(8192, seed=1)), asked=law.draw(ASKED, seed=2))


@pytest.fixture(scope="module")
def arms(corpus):
    """A denoiser, and a consistency model tuned from it, each with its sampler."""
    found, start = {}, None
    for objective, training, sampler in (
        (EdmObjective(p_std=1.4), TRAINING, HeunSampler(steps=20)),
        (ConsistencyObjective(), dataclasses.replace(TRAINING, steps=300, learning_rate=3e-3), ConsistencySampler()),
    ):
        start = train_denoiser(NETWORK, objective, training, corpus.data, style=StyleSource.OTHER_SEGMENT, start=start)
        denoiser = load_denoiser(NETWORK, objective, clap_width=SIZE["clap_width"], weights=start)
        found[type(sampler)] = (denoiser, sampler)
    return found


def samples(corpus, arm, *, context, clap, asked=None):
    """Samples (R, N, C, T) of the asked windows, told this much."""
    asked = asked or corpus.asked
    row = Conditioning(clap=ClapSource.AUDIO if clap else None, context=context)
    denoiser, sampler = arm
    context_BCT = corpus.data.standardise(torch.from_numpy(asked.context_NCT)).repeat(REPEATS, 1, 1)
    sampled = sample_latents(
        denoiser,
        row.conditions(context_BCT, torch.from_numpy(asked.others_NKE[:, 0]).repeat(REPEATS, 1)),
        sampler=sampler,
        guidance=Guidance(context=1.0, clap=1.0),
        generators=[torch.Generator().manual_seed(number) for number in range(REPEATS * ASKED)],
    )
    return corpus.data.restore(sampled).unflatten(0, (REPEATS, ASKED)).double().numpy()


def found_distance(corpus, arm, *, context, clap):
    sampled, cosine = samples(corpus, arm, context=context, clap=clap), SEGMENT_COSINE if clap else 0.0
    asked = corpus.asked
    return distance(corpus.law, sampled, asked.context_NCT, asked.others_NKE[:, 0], context=context, cosine=cosine)


def test_windows_have_the_covariances_of_the_law(corpus):
    law, drawn = corpus.law, corpus.law.draw(40_000, seed=5)
    given = {1.0: drawn.own_NE, SEGMENT_COSINE: drawn.others_NKE[:, 1], TEXT_COSINE: law.told(drawn.text_NE), 0.0: 0}
    for cosine, clap_NE in given.items():
        for context in (True, False):
            mean = context * law.from_context(drawn.context_NCT) + (law.from_clap(cosine * clap_NE) if cosine else 0)
            left = (drawn.target_NCT - mean).reshape(len(drawn.own_NE), -1)
            truth = law.covariance(context=context, cosine=cosine)
            assert np.abs(left.T @ left / len(left) - truth).max() < 0.03


@pytest.mark.parametrize(("context", "cosine"), [(True, 1.0), (True, 0.0), (False, SEGMENT_COSINE), (False, 0.0)])
def test_exact_samples_are_at_no_distance_and_others_are(corpus, context, cosine):
    law, drawn, random = corpus.law, corpus.law.draw(2000, seed=6), np.random.default_rng(0)
    root = np.linalg.cholesky(law.covariance(context=context, cosine=cosine))
    noise = (random.standard_normal((4, 2000, len(root))) @ root.T).reshape(4, *drawn.target_NCT.shape)
    mean = context * law.from_context(drawn.context_NCT) + cosine * law.from_clap(drawn.own_NE)

    def found(sampled):
        return distance(law, sampled, drawn.context_NCT, drawn.own_NE, context=context, cosine=cosine)

    exact = found(mean + noise)
    assert exact.context_gain == pytest.approx(float(context), abs=0.03)
    assert exact.clap_gain == pytest.approx(cosine, abs=0.05)
    assert exact.mean_error < 0.05
    assert exact.covariance_error < 0.05
    assert found(mean + 0.2 + noise).mean_error == pytest.approx(0.2, rel=0.1)
    assert found(mean + 1.1 * noise).covariance_error == pytest.approx(0.21, rel=0.1)


@pytest.mark.parametrize(("context", "clap"), TOLD)
@pytest.mark.parametrize("sampler", [HeunSampler, ConsistencySampler])
def test_samples_follow_what_was_told_and_nothing_else(corpus, arms, sampler, context, clap):
    """Bounds: the worst of seeds 3 and 4 of law, windows and weights were 0.09, 0.11, 0.14 and 0.36.

    An arm that was told and did not listen has a gain of 0 and a mean error of 0.6.
    """
    found = found_distance(corpus, arms[sampler], context=context, clap=clap)
    assert found.context_gain == pytest.approx(float(context), abs=0.15)
    assert found.clap_gain == pytest.approx(SEGMENT_COSINE * clap, abs=0.2)
    assert found.mean_error < 0.25
    assert found.covariance_error < 0.6


@pytest.mark.parametrize(("context", "clap"), TOLD)
def test_a_withheld_condition_changes_no_bit_and_a_given_one_all_samples(corpus, arms, context, clap):
    arm, asked = arms[ConsistencySampler], corpus.asked
    plain = samples(corpus, arm, context=context, clap=clap)
    other_context = asked._replace(context_NCT=asked.context_NCT[::-1].copy())
    other_clap = asked._replace(others_NKE=asked.others_NKE[::-1].copy())
    for other, given in ((other_context, context), (other_clap, clap)):
        changed = np.abs(samples(corpus, arm, context=context, clap=clap, asked=other) - plain).max((0, 2, 3))
        assert (changed > 0.01).all() if given else not changed.any()


def test_five_steps_err_little_more_than_the_solver(corpus, arms):
    errors = {
        sampler: sum(sum(found_distance(corpus, arm, context=context, clap=clap)[2:]) for context, clap in TOLD)
        for sampler, arm in arms.items()
    }
    assert errors[ConsistencySampler] < 3 * errors[HeunSampler] + 0.3
