"""The one training loop: exact resume, its guard, its schedule, and that it learns."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from models.batch import LatentSet, StyleSource
from models.consistency import ConsistencyObjective
from models.denoiser import build_denoiser
from models.denoiser_training import load_denoiser, train_denoiser, training_batch
from models.device_memory import TooLargeError
from models.dit import DiTRecipe
from models.edm import EdmObjective
from models.training import DivergedError, Precision, TrainingRecipe, TrainingStopped, fit
from models.training_draws import batch_indices
from models.unet import UNetRecipe
from models.weights import WeightsError, load_weights, save_weights

DIT = DiTRecipe(width=32, layers=1, heads=2, noise_width=32, frames_per_token=2)
UNET = UNetRecipe(base=16, multipliers=(1, 2), blocks=1, attention_levels=(2,), embedding=16)
BRIEF = TrainingRecipe(steps=12, batch_size=4, learning_rate=1e-2, warmup_steps=3)


@pytest.fixture
def corpus():
    """Targets that are a linear image of their context, shifted by their CLAP embedding, with a little noise."""
    random = np.random.default_rng(0)
    context = random.standard_normal((64, 4, 8))
    clap = random.standard_normal((64, 6)) / math.sqrt(6)
    mixing, shift = np.linalg.qr(random.standard_normal((4, 4)))[0], random.standard_normal((6, 4))
    target = 0.8 * np.einsum("dc,nct->ndt", mixing, context) + (clap @ shift)[:, :, None] * 0.5
    target += 0.05 * random.standard_normal(target.shape)
    return LatentSet(
        target_NCT=target.astype(np.float32),
        context_NCT=context.astype(np.float32),
        clap_audio_NKE=clap[:, None].astype(np.float32),
        clap_leak_NE=clap.astype(np.float32),
        mean_C=np.zeros(4, np.float32),
        std_C=np.ones(4, np.float32),
    )


def train(corpus, training=BRIEF, network=DIT, objective=None, **keywords):
    return train_denoiser(
        network, objective or EdmObjective(), training, corpus, style=StyleSource.OTHER_SEGMENT, **keywords
    )


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("network", [DIT, UNET], ids=["dit", "unet"])
@pytest.mark.parametrize("objective", [EdmObjective(), ConsistencyObjective()], ids=["edm", "consistency"])
def test_interrupted_training_equals_uninterrupted_bit_for_bit(tmp_path, corpus, network, objective):
    saved = []
    whole = train(corpus, network=network, objective=objective, save=saved.append, save_every=5)
    assert [int(state["step"]) for state in saved] == [5, 10]
    for number, state in enumerate(saved):
        save_weights(tmp_path / f"{number}", state, {})
        read, _ = load_weights(tmp_path / f"{number}")
        assert equal(train(corpus, network=network, objective=objective, resume=read), whole)


def test_training_is_a_function_of_its_seed(corpus):
    first, again = train(corpus), train(corpus)
    other = train(corpus, dataclasses.replace(BRIEF, seed=1))
    assert equal(first, again)
    assert not equal(first, other)


def test_resuming_another_network_names_the_tensors(corpus):
    saved = []
    train(corpus, save=saved.append, save_every=5)
    with pytest.raises(WeightsError, match="missing: ema/network"):
        train(corpus, network=UNET, resume=saved[0])


def test_loss_decreases_and_both_conditions_are_used(corpus):
    heard = []
    training = TrainingRecipe(steps=300, batch_size=32, learning_rate=5e-3, warmup_steps=10, ema_decay=0.98)
    weights = train(corpus, training, log=lambda step, values: heard.append(values["loss"]), log_every=50)
    assert heard[-1] < 0.6 * heard[0]
    denoiser = load_denoiser(DIT, EdmObjective(), clap_width=6, weights=weights)
    batch = corpus.batch(np.arange(64), np.zeros(64, int), StyleSource.OTHER_SEGMENT)
    noisy = batch.target_BCT + 2.0 * torch.randn(batch.target_BCT.shape, generator=torch.Generator().manual_seed(0))

    def error(**withheld):
        found = denoiser(noisy, torch.full((64,), 2.0), batch.conditions.without(**withheld))
        return (found - batch.target_BCT).square().mean().item()

    with_both = error()
    assert with_both < 0.8 * error(context=True)
    assert with_both < 0.95 * error(clap=True)
    assert error(context=True, clap=True) < 1.1 * batch.target_BCT.var().item()


def test_consistency_training_is_tuned_from_edm_weights(corpus):
    """With a rate of 0 nothing moves: what comes out is the start, and only with a start."""
    edm = train(corpus)
    still = dataclasses.replace(BRIEF, learning_rate=0.0)
    assert equal(train(corpus, still, objective=ConsistencyObjective(), start=edm), edm)
    assert not equal(train(corpus, still, objective=ConsistencyObjective()), edm)


def test_consistency_training_in_bfloat16_is_an_error(corpus):
    with pytest.raises(ValueError, match="use FLOAT32"):
        train(corpus, dataclasses.replace(BRIEF, precision=Precision.BFLOAT16), objective=ConsistencyObjective())


def test_bfloat16_training_stays_close_to_float32(corpus):
    losses = {}
    for precision in Precision:
        recipe = dataclasses.replace(BRIEF, precision=precision)
        train(corpus, recipe, log=lambda step, values, key=precision: losses.setdefault(key, values["loss"]))
    assert losses[Precision.BFLOAT16] != losses[Precision.FLOAT32]
    assert losses[Precision.BFLOAT16] == pytest.approx(losses[Precision.FLOAT32], rel=0.02)


@pytest.fixture
def line():
    """One weight, started at 1."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.ones_(module.weight)
    return module


def test_a_non_finite_step_changes_nothing_and_is_counted(line):
    seen, heard = [], []

    def loss(step):
        seen.append(line.weight.item())
        return line.weight.square().sum() * (math.nan if step == 2 else 1.0)

    recipe = TrainingRecipe(steps=5, batch_size=1, learning_rate=0.1, warmup_steps=1)
    weights = fit(line, loss, recipe, log=lambda step, values: heard.append(values), log_every=1)
    assert seen[3] == seen[2]
    assert seen[4] != seen[3]
    assert [values["skipped_steps"] for values in heard] == [0, 0, 1, 1, 1]
    assert torch.isfinite(weights["weight"]).all()


def test_too_many_non_finite_steps_end_the_training_with_a_reason(line):
    recipe = TrainingRecipe(steps=50, batch_size=1, nonfinite_limit=4)
    with pytest.raises(DivergedError, match="4 steps in a row up to step 3 had no finite gradient"):
        fit(line, lambda step: line.weight.sum() * math.inf, recipe)


@pytest.mark.parametrize("asked_at", [1, 5, 7])
def test_a_training_that_is_asked_to_stop_saves_and_goes_on_exactly(corpus, asked_at):
    asked, saved = iter(range(1, BRIEF.steps + 1)), []
    with pytest.raises(TrainingStopped, match=f"stopped after step {asked_at} of 12"):
        train(corpus, save=saved.append, save_every=5, stop=lambda: next(asked) == asked_at)
    assert int(saved[-1]["step"]) == asked_at
    assert equal(train(corpus, resume=saved[-1]), train(corpus))


def test_a_training_that_is_asked_to_stop_after_its_last_step_has_ended(line):
    recipe = TrainingRecipe(steps=1, batch_size=1)
    assert fit(line, lambda step: line.weight.sum(), recipe, stop=lambda: True)


def test_a_step_that_does_not_fit_the_memory_names_the_remedy(line):
    def loss(step):
        raise torch.OutOfMemoryError("tried to allocate 20 GiB\nmuch detail")

    with pytest.raises(
        TooLargeError, match=r"step 0 does not fit the memory of cpu \(tried to allocate 20 GiB\); take"
    ):
        fit(line, loss, TrainingRecipe(steps=1, batch_size=1))


@pytest.mark.parametrize("objective", [EdmObjective(), ConsistencyObjective()], ids=["edm", "consistency"])
def test_under_bfloat16_only_the_networks_products_are_rounded(objective):
    """What goes into the network and what the loss makes of its output are float32, bit for bit as without autocast."""
    random = torch.Generator().manual_seed(0)
    clean, noise, output = torch.randn(3, 5, 4, 8, generator=random).unbind()
    seen = []

    def raw(noisy, sigma_B):
        seen.append((noisy, sigma_B))
        return output

    def losses():
        t_B = torch.linspace(0.1, 0.9, 5)
        return objective.losses(raw, clean, t_B, noise, progress=0.5, channel_weight_C=torch.ones(4))

    plain = losses()
    with torch.autocast("cpu", torch.bfloat16):
        told = losses()
    assert told.dtype == torch.float32 and torch.equal(told, plain)
    half = len(seen) // 2
    for before, after in zip(seen[:half], seen[half:], strict=True):
        assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_bfloat16_network_answers_in_float32_to_unrounded_inputs(corpus):
    denoiser = build_denoiser(DIT, EdmObjective(), clap_width=6, seed=0, latent_width=4)
    features = []
    denoiser.network.register_forward_pre_hook(lambda module, told: features.append(told[0]))
    batch = training_batch(corpus, StyleSource.OTHER_SEGMENT, BRIEF, 0)
    with torch.autocast("cpu", torch.bfloat16):
        found = denoiser(batch.target_BCT, torch.ones(4), batch.conditions)
    assert found.dtype == features[0].dtype == torch.float32


def test_a_compiled_network_trains_to_the_same_weights_under_the_same_names(corpus, monkeypatch):
    """Dynamo's graphs run by torch itself: bit for bit; `test_compiled_training.py` has the real compiler."""
    compiled_in_place = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled_in_place(module, backend="eager"))
    torch._dynamo.utils.counters.clear()
    brief = dataclasses.replace(BRIEF, steps=3)
    compiled = train(corpus, brief, compiled=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0  # it was compiled, not silently left as it is
    assert equal(compiled, train(corpus, brief))


def test_rate_warms_up_linearly_and_falls_to_zero():
    recipe = TrainingRecipe(steps=110, batch_size=1, learning_rate=2.0, warmup_steps=10)
    assert [recipe.rate(step) for step in (0, 4, 9)] == pytest.approx([0.2, 1.0, 2.0])
    assert recipe.rate(60) == pytest.approx(1.0)
    assert recipe.rate(110) == pytest.approx(0.0)


def test_average_forgets_the_start(line):
    """The warm-up of the decay: after n updates the initial weight's share falls far below decay ** n."""
    recipe = TrainingRecipe(steps=40, batch_size=1, learning_rate=0.1, warmup_steps=1, weight_decay=0.0)
    averaged = fit(line, lambda step: (line.weight - 3).square().sum(), recipe)["weight"].item()
    assert 0.9999**40 > 0.99
    assert averaged > 2.0


def test_only_matrices_decay():
    module = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Conv1d(2, 2, 1))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    recipe = TrainingRecipe(steps=3, batch_size=1, learning_rate=0.1, warmup_steps=1, weight_decay=0.5)
    fit(module, lambda step: sum(0 * parameter.sum() for parameter in module.parameters()), recipe)
    moved = {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"0.weight", "2.weight"}


def test_every_epoch_is_a_permutation_and_batches_run_across_their_borders():
    rows = np.concatenate([batch_indices(3, step, 4, 10) for step in range(10)])
    for epoch in range(4):
        assert sorted(rows[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert not np.array_equal(rows[:10], rows[10:20])
    assert len(batch_indices(3, 0, 25, 10)) == 25


def test_a_steps_windows_depend_on_seed_and_step_alone(corpus):
    first = training_batch(corpus, StyleSource.OTHER_SEGMENT, BRIEF, 7)
    training_batch(corpus, StyleSource.OTHER_SEGMENT, BRIEF, 8)
    assert torch.equal(training_batch(corpus, StyleSource.OTHER_SEGMENT, BRIEF, 7).target_BCT, first.target_BCT)
    other = training_batch(corpus, StyleSource.OTHER_SEGMENT, dataclasses.replace(BRIEF, seed=1), 7)
    assert not torch.equal(other.target_BCT, first.target_BCT)


def test_loaded_denoiser_cannot_learn_and_misfits_are_named(corpus):
    weights = train(corpus)
    denoiser = load_denoiser(DIT, EdmObjective(), clap_width=6, weights=weights)
    assert not denoiser.training
    assert not any(parameter.requires_grad for parameter in denoiser.parameters())
    assert equal(denoiser.state_dict(), weights)
    with pytest.raises(WeightsError, match=r"missing: network\.blocks"):
        load_denoiser(DIT, EdmObjective(), clap_width=6, weights={})
    with pytest.raises(WeightsError, match=r"of another shape: network\.clap\.weight"):
        load_denoiser(DIT, EdmObjective(), clap_width=7, weights=weights)
