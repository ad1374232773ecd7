"""The small CLAP that ships: its weights are what its card says, and it knows songs that it never heard."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from data_manifests.composer import EmbeddedCorpus, compose
from data_manifests.renderer import render
from flows.__main__ import app
from flows.clap_release import CARD, RELEASE_SEED, ClapRelease
from flows.scales import CLAPS, SCALES, ScaleError, study_at
from models.clap import LaionClapRecipe
from models.clap_quality import centroid_accuracy, recall_at_k, zero_shot_accuracy
from models.small_clap import SmallClapRecipe
from models.weights import WeightsError
from tasks.clap import (
    SHIPPED,
    WEIGHTS,
    ImportShippedClap,
    ShippedClapRecipe,
    load_clap,
    shipped_clap,
)
from tasks.recipes import load_recipe
from tasks.runtime import Runtime

LAION = LaionClapRecipe(checkpoint_sha256="a" * 64, tokenizer_sha256="b" * 64)


@pytest.fixture(scope="module")
def clap(tmp_path_factory):
    out = tmp_path_factory.mktemp("clap")
    ImportShippedClap(recipe=shipped_clap()).run(out, Runtime(workspace=str(out)))
    return load_clap(str(out), {}, "cpu")


@pytest.fixture(scope="module")
def heard(clap):
    """Vectors, roles and texts of 10-s stems of six songs of a corpus that no release trains on."""
    corpus = EmbeddedCorpus(songs=6, seconds=11.0, seed=RELEASE_SEED + 1, heldout=0)
    vectors, roles, texts, songs = [], [], [], []
    for index in range(corpus.songs):
        song = compose(corpus, index)
        audio = render(song)
        for part in song.parts:
            stem_SN = audio[part.id]
            if part.is_vocal or float(np.sqrt(np.mean(stem_SN**2))) < 1e-3:
                continue
            vectors.append(clap.embed_audio(torch.from_numpy(stem_SN)[None])[0].numpy())
            roles.append(part.role)
            texts.append(", ".join((*part.tags, *song.tags)))
            songs.append(index)
    return np.stack(vectors), roles, texts, np.array(songs)


def test_the_card_names_the_weights_and_they_are_small() -> None:
    card = (SHIPPED / CARD).read_text(encoding="utf-8")
    assert shipped_clap().weights_sha256 in card
    assert (SHIPPED / WEIGHTS).stat().st_size <= 10 * 2**20


def test_the_weights_come_from_the_recipe_of_the_release_command() -> None:
    assert load_recipe((SHIPPED / "recipe.json").read_text(encoding="utf-8")) == ClapRelease().recipe


def test_the_command_that_made_them_gives_weights_and_card_of_any_size(tmp_path, monkeypatch) -> None:
    recipe = SmallClapRecipe(width=16, channels=(4, 8, 8, 8), steps=2, batch_size=4, seed=0)
    least = ClapRelease(songs=5, heldout=2, seconds=11.0, train_windows=24, heldout_windows=6, recipe=recipe)
    monkeypatch.setattr("flows.clap_release.ClapRelease", lambda: least)
    monkeypatch.setattr("flows.clap_release.RELEASE_SEED", 0)  # three songs whose tags know every role
    monkeypatch.setattr("flows.request.default_workers", lambda: 1)
    out = tmp_path / "clap"
    done = CliRunner().invoke(app, ["clap", "fit", "--out", str(out), "--workspace", str(tmp_path), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    made = load_clap(str(out), {}, "cpu")
    assert (made.spec.width, made.spec.name) == (16, "small")
    assert made.embed_text(["bass"]).shape == (1, 16)
    card = (out / CARD).read_text(encoding="utf-8")
    assert made.spec.weights_sha256 in card and made.spec.weights_sha256 in done.output
    assert "3 rendered songs of\n  11 s, 24 windows" in card and "6 windows of 2 held-out songs" in card


def test_the_space_is_named_by_the_shipped_weights(clap) -> None:
    assert clap.spec.weights_sha256 == shipped_clap().weights_sha256
    assert (clap.spec.name, clap.spec.width) == ("small", 128)


def test_roles_of_songs_it_never_heard_are_told_apart(heard) -> None:
    vectors_NE, roles, _, songs_N = heard
    first, second = songs_N < 3, songs_N >= 3
    common = set(np.array(roles)[first]) & set(np.array(roles)[second])
    judged = [row for row in np.flatnonzero(second) if roles[row] in common]
    accuracy = centroid_accuracy(
        vectors_NE[judged],
        [roles[row] for row in judged],
        reference_RE=vectors_NE[first],
        reference_labels=[roles[row] for row in np.flatnonzero(first)],
    )
    assert accuracy >= 0.7


def test_tags_find_their_stem_far_above_chance(heard, clap) -> None:
    vectors_NE, _, texts, _ = heard
    text_NE = clap.embed_text(texts).numpy()
    assert recall_at_k(vectors_NE, text_NE, k=5) >= 3 * 5 / len(texts)


def test_an_unseen_word_in_a_prompt_changes_little_and_never_fails(clap) -> None:
    unseen = ["didgeridoo", "xylophonic", "zzyzx", "Zigeunergitarre", "日本語", "🎷", "x" * 400]
    assert not {word.lower() for word in unseen} & set(clap.vocabulary.units)
    for prompt, other in (("warm bass, house", "violin, sad"), ("acoustic guitar, folk, mellow", "drums, techno")):
        known, stranger = clap.embed_text([prompt, other])
        cosine = clap.embed_text([f"{prompt}, {word}" for word in unseen]) @ known
        assert float(cosine.min()) > 0.6
        assert float(cosine.mean()) > 0.85
        assert float(cosine.min()) > float(known @ stranger) + 0.3


def test_role_names_as_prompts_find_stems_of_songs_it_never_heard(heard, clap) -> None:
    vectors_NE, roles, _, _ = heard
    names = sorted(set(roles))
    found = zero_shot_accuracy(vectors_NE, clap.embed_text(names).numpy(), [names.index(role) for role in roles])
    assert found >= 0.85


def test_other_weights_than_the_recipe_names_are_refused(tmp_path) -> None:
    step = ImportShippedClap(recipe=ShippedClapRecipe(weights_sha256="0" * 64))
    with pytest.raises(WeightsError, match="expected 0000"):
        step.run(tmp_path, Runtime(workspace=str(tmp_path)))


def test_who_judges_is_a_choice_at_every_scale() -> None:
    assert study_at("tiny").clap == study_at("laptop").clap == shipped_clap()
    for scale in SCALES:
        chosen = [study_at(scale, clap=clap, laion=LAION).clap for clap in CLAPS]
        assert len(set(map(repr, chosen))) == len(CLAPS)
        assert study_at(scale, laion=LAION).clap == LAION


def test_the_papers_scale_asks_for_laion_clap() -> None:
    with pytest.raises(ScaleError, match=r"--laion-checkpoint.*music_audioset.*sha256 fae3e9c0.*vocab\.json"):
        study_at("paper")
    with pytest.raises(ScaleError, match="choices are auto, shipped, fit, laion, laion-int16"):
        study_at("tiny", clap="vggish")
