import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy, normalize

from models.clap_quality import recall_at_k
from models.mel import LogMel, MelRecipe, mel_filters, mix_mels
from models.small_clap import VOCABULARY, SmallClap, SmallClapRecipe
from models.small_clap_fit import ClapWindows, contrastive_loss, fit_small_clap, partly_read, tag_overlap
from models.word_tower import Vocabulary, tags_of

RATE_HZ = 48_000
SAMPLES = 32_768
SOUNDS = {
    "deep bass, warm": 80.0,
    "cello section, slow": 250.0,
    "electric guitar, bright": 800.0,
    "flute solo, airy": 2500.0,
    "glass bells, cold": 8000.0,
}


@pytest.fixture(scope="module")
def tones():
    """Noisy tones mono_BN, one per sound and repeat, with their tag lists."""

    def draw(repeats, seed):
        generator = np.random.default_rng(seed)
        time_s = np.arange(SAMPLES) / RATE_HZ
        audio, texts = [], []
        for text, frequency_hz in list(SOUNDS.items()) * repeats:
            pulse = 0.5 + 0.5 * np.sin(2 * np.pi * generator.uniform(1, 4) * time_s)
            tone = np.sin(2 * np.pi * frequency_hz * generator.uniform(0.95, 1.05) * time_s)
            audio.append(0.2 * pulse * tone + 0.002 * generator.normal(size=SAMPLES))
            texts.append(text)
        return torch.tensor(np.array(audio), dtype=torch.float32), texts

    return draw


@pytest.fixture(scope="module")
def recipe():
    return SmallClapRecipe(
        width=32,
        channels=(8, 16),
        hidden=32,
        unit_width=32,
        steps=120,
        batch_size=20,
        learning_rate=4e-3,
        warmup_steps=5,
    )


@pytest.fixture(scope="module")
def windows(tones, recipe):
    mono_BN, texts = tones(6, seed=0)
    mel = LogMel(recipe.mel)(mono_BN).numpy().astype(np.float16)
    return ClapWindows(stem_NMT=mel, context_NMT=np.roll(mel, 1, axis=0), texts=texts, song_ids=texts)


@pytest.fixture(scope="module")
def losses():
    return []


@pytest.fixture(scope="module")
def state(recipe, windows, losses):
    return fit_small_clap(recipe, windows, log=lambda _, figures: losses.append(figures["loss"]))


@pytest.fixture(scope="module")
def clap(recipe, state):
    return SmallClap(recipe, state)


# Pictures


def test_the_bands_of_a_frame_add_up_to_the_mean_square_level():
    time_s = torch.arange(SAMPLES) / RATE_HZ
    mel_BMT = LogMel(MelRecipe())(0.5 * torch.sin(2 * math.pi * 1000 * time_s)[None])
    assert mel_BMT.shape == (1, 64, 1 + SAMPLES // 1200)
    level_T = (10 ** mel_BMT[0]).sum(dim=0)[2:-2]
    assert torch.allclose(level_T, torch.full_like(level_T, 0.125), rtol=1e-3)


def test_mel_triangles_sum_to_one_between_the_outer_centres():
    filters_MF = mel_filters(MelRecipe())
    bins_hz = np.arange(filters_MF.shape[1]) * RATE_HZ / 2048
    inside = (bins_hz > 100) & (bins_hz < 15_000)
    assert np.allclose(filters_MF.sum(axis=0)[inside], 1.0, atol=1e-5)


def test_a_band_without_a_frequency_bin_is_refused():
    with pytest.raises(ValueError, match="no frequency bin"):
        mel_filters(MelRecipe(bands=400))


def test_mixing_pictures_is_the_picture_of_the_mixture(tones):
    """Two sounds of equal level in different bands, mixed to -20 dB."""
    mono_BN, _ = tones(1, seed=5)
    low_N, high_N = (mono_BN[row] / mono_BN[row].square().mean().sqrt() for row in (1, 4))
    mixture_N = (low_N + high_N) * (0.01 / (low_N + high_N).square().mean()).sqrt()
    pictures = LogMel(MelRecipe())(torch.stack([low_N, high_N, mixture_N]))
    mixed = mix_mels(pictures[:1], pictures[1:2], balance_B=torch.zeros(1), level_db=-20.0, floor=1e-8)
    assert (10 ** mixed[0] - 10 ** pictures[2]).abs().max() < 3e-4  # of a total of 1e-2: edge frames and noise


def test_mixing_with_silence_is_the_stem_at_the_asked_level(tones):
    mono_BN, _ = tones(1, seed=6)
    mel_BMT = LogMel(MelRecipe())(mono_BN[:1])
    silence = torch.full_like(mel_BMT, -8.0)
    mixed = mix_mels(mel_BMT, silence, balance_B=torch.zeros(1), level_db=-20.0, floor=1e-8)
    assert float((10**mixed).sum(dim=1).mean()) == pytest.approx(0.01, rel=1e-3)
    both = mix_mels(silence, silence, balance_B=torch.zeros(1), level_db=-20.0, floor=1e-8)
    assert torch.isfinite(both).all()


# Texts


def test_tags_have_no_order_case_or_repetition():
    assert tags_of("Warm Pad,  house, warm  pad,") == tags_of("house, warm-pad") == (("house",), ("warm", "pad"))


def test_the_vocabulary_survives_its_bytes():
    vocabulary = Vocabulary.of(["électrique, drum & bass", "drum & bass"], min_count=2)
    assert Vocabulary.from_bytes(vocabulary.to_bytes()) == vocabulary
    assert "drum bass" in vocabulary.units
    assert "électrique" not in vocabulary.units  # heard once: by its spelling
    assert vocabulary.bag(tags_of("electrique"))


def test_a_word_spelled_out_weighs_as_much_as_a_known_one():
    vocabulary = Vocabulary.of(["guitar", "guitar"], min_count=2)
    assert sum(vocabulary.bag(tags_of("guitar")).values()) == 1.0
    assert sum(vocabulary.bag(tags_of("guitarre")).values()) == pytest.approx(1.0)


def test_training_reads_subsets_of_the_tags_and_never_none(recipe):
    tags = tags_of("guitar, warm, house, slow")
    vocabulary = Vocabulary.of(["guitar, warm, house, slow"], min_count=1)
    forgetful = replace(recipe, tag_dropout=1.0, spelling_share=0.0)
    generator = torch.Generator().manual_seed(0)
    read = {
        frozenset(vocabulary.units[unit] for unit in partly_read(forgetful, vocabulary, tags, generator))
        for _ in range(300)
    }
    assert len(read) == 2**4 - 1  # every subset but the empty one
    whole = partly_read(replace(forgetful, tag_dropout=0.0), vocabulary, tags, generator)
    assert whole == vocabulary.bag(tags)


def test_training_shows_some_words_by_their_spelling(recipe):
    vocabulary = Vocabulary.of(["guitar"], min_count=1)
    read = partly_read(replace(recipe, spelling_share=1.0), vocabulary, tags_of("guitar"), torch.Generator())
    assert {vocabulary.units[unit][0] for unit in read} == {"~"}


# The loss


def test_with_distinct_texts_the_loss_is_clips():
    generator = torch.Generator().manual_seed(0)
    audio = normalize(torch.randn(6, 8, generator=generator), dim=1)
    text = normalize(torch.randn(6, 8, generator=generator), dim=1)
    logits = 5.0 * audio @ text.T
    labels = torch.arange(6)
    clip = (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2
    assert torch.allclose(contrastive_loss(audio, text, torch.tensor(5.0), torch.eye(6)), clip)


def test_equal_texts_are_not_told_apart():
    """With two pairs of equal rows, the best loss is that of an even choice between the two: log 2."""
    vectors = torch.eye(2)[[0, 0, 1, 1]]
    overlap = tag_overlap([tags_of(text) for text in ("a, b", "b, a", "c", "c")])
    assert torch.equal(overlap, vectors @ vectors.T)
    loss = contrastive_loss(vectors, vectors, torch.tensor(100.0), overlap)
    assert float(loss) == pytest.approx(math.log(2.0), abs=1e-5)


def test_audio_that_belongs_to_no_text_only_competes():
    """Two matched rows and a stranger that sounds like the first: only the text side pays, log(1 + 1) against log 1."""
    text = torch.eye(2)
    audio = torch.cat([text, text[:1]])
    target = torch.cat([torch.eye(2), torch.zeros(1, 2)])
    loss = contrastive_loss(audio, text, torch.tensor(100.0), target)
    assert float(loss) == pytest.approx((0 + math.log(2.0) / 2) / 2, abs=1e-5)


def test_tag_overlap_is_the_share_of_common_words():
    overlap = tag_overlap([tags_of("warm pad, house"), tags_of("warm bass, house")])
    assert float(overlap[0, 1]) == pytest.approx(2 / 4)


# The fitted embedder


def test_training_lowers_the_loss(state, losses):
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_unseen_windows_find_their_text(clap, tones):
    mono_BN, texts = tones(1, seed=99)
    audio = clap.embed_audio(mono_BN[:, None])
    assert recall_at_k(audio.numpy(), clap.embed_text(texts).numpy(), k=1) == 1.0


def test_vectors_are_float32_units_of_the_width(clap, tones):
    mono_BN, texts = tones(1, seed=7)
    for vectors in (clap.embed_audio(mono_BN[:, None]), clap.embed_text(texts)):
        assert vectors.dtype == torch.float32
        assert vectors.shape == (5, clap.spec.width)
        assert torch.allclose(vectors.norm(dim=1), torch.ones(5), atol=1e-6)


def test_a_vector_does_not_depend_on_its_neighbours(clap, tones):
    mono_BN, texts = tones(1, seed=8)
    assert torch.equal(clap.embed_audio(mono_BN[:, None])[3:4], clap.embed_audio(mono_BN[3:4, None]))
    assert torch.equal(clap.embed_text(texts)[3:4], clap.embed_text(texts[3:4]))


def test_only_the_first_ten_seconds_are_heard(clap):
    audio_BSN = 0.1 * torch.randn(1, 2, 491_520, generator=torch.Generator().manual_seed(0))
    changed_BSN = audio_BSN.clone()
    changed_BSN[..., 480_000:] = 1.0
    assert torch.equal(clap.embed_audio(audio_BSN), clap.embed_audio(changed_BSN))


def test_stereo_is_heard_as_the_mean_of_its_channels(clap, tones):
    mono_BN, _ = tones(1, seed=9)
    panned_BSN = torch.stack([1.5 * mono_BN, 0.5 * mono_BN], dim=1)
    assert torch.allclose(clap.embed_audio(panned_BSN), clap.embed_audio(mono_BN[:, None]), atol=1e-5)


def test_the_order_and_case_of_tags_mean_nothing(clap):
    assert torch.equal(clap.embed_text(["deep bass, warm"]), clap.embed_text(["WARM, warm, Deep Bass"]))


def test_a_misspelling_lands_near_the_word_it_looks_like(clap):
    misspelled = clap.embed_text(["electrc guittar"])
    cosines = (misspelled @ clap.embed_text(list(SOUNDS)).T)[0]
    assert list(SOUNDS)[int(cosines.argmax())] == "electric guitar, bright"


def test_an_empty_text_is_refused_by_name(clap):
    for empty in ("", " , ;"):
        with pytest.raises(ValueError, match=f"text {empty!r} holds no word"):
            clap.embed_text(["deep bass", empty])


def test_a_text_of_thousands_of_tags_is_heard_to_its_end(clap):
    tags = [f"deep bass {number}" for number in range(3000)]
    long = clap.embed_text([", ".join(tags)])
    assert float(long.norm()) == pytest.approx(1.0, abs=1e-6)
    assert torch.equal(long, clap.embed_text([", ".join(reversed(tags))]))
    assert not torch.equal(long, clap.embed_text([", ".join([*tags, "glass bells"])]))


def test_a_word_of_unknown_letters_changes_nothing(clap):
    assert torch.allclose(clap.embed_text(["deep bass, xyqqz"]), clap.embed_text(["deep bass"]), atol=1e-6)


def test_a_text_of_unknown_letters_is_named(clap):
    with pytest.raises(ValueError, match="'xyqqz'"):
        clap.embed_text(["deep bass", "xyqqz"])


def test_recipe_and_state_alone_rebuild_the_embedder(clap, recipe, state, tones, tmp_path):
    save_file(state, tmp_path / "clap.safetensors")
    again = SmallClap(recipe, load_file(tmp_path / "clap.safetensors"), "abc")
    mono_BN, texts = tones(1, seed=10)
    assert torch.equal(again.embed_audio(mono_BN[:, None]), clap.embed_audio(mono_BN[:, None]))
    assert torch.equal(again.embed_text(texts), clap.embed_text(texts))
    assert again.spec.weights_sha256 == "abc"


def test_fitting_is_a_pure_function_of_the_seed(windows):
    short = SmallClapRecipe(width=8, channels=(4,), hidden=8, unit_width=8, steps=3, batch_size=8)
    other = SmallClapRecipe(width=8, channels=(4,), hidden=8, unit_width=8, steps=3, batch_size=8, seed=1)
    torch.manual_seed(123)
    untouched = torch.random.get_rng_state()
    first = fit_small_clap(short, windows, log=lambda *_: None)
    assert torch.equal(torch.random.get_rng_state(), untouched)
    torch.rand(7)
    second = fit_small_clap(short, windows, log=lambda *_: None)
    assert all(torch.equal(first[name], second[name]) for name in first)
    third = fit_small_clap(other, windows, log=lambda *_: None)
    assert not torch.equal(first["text.vectors.weight"], third["text.vectors.weight"])


def test_what_cannot_be_fitted_or_heard_is_named(clap, recipe, windows, state):
    with pytest.raises(ValueError, match=r"rows \[0\]"):
        fit_small_clap(recipe, replace(windows, texts=[" , ", *windows.texts[1:]]), log=print)
    with pytest.raises(ValueError, match="29 texts"):
        replace(windows, texts=windows.texts[1:])
    with pytest.raises(ValueError, match=r"rows \[1\] hold NaN"):
        clap.embed_audio(torch.tensor([[[0.0] * 4096], [[math.nan] * 4096]]))
    with pytest.raises(ValueError, match="batch, channels, samples"):
        clap.embed_audio(torch.zeros(2, 4096))
    with pytest.raises(ValueError, match="at least one"):
        clap.embed_text([])
    with pytest.raises(ValueError, match=VOCABULARY):
        SmallClap(recipe, {name: tensor for name, tensor in state.items() if name != VOCABULARY})
