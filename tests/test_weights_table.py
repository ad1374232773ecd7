"""The table of released weights: what it knows, what it admits not to know, and what is said of a wrong file."""

from __future__ import annotations

import pytest

from data_manifests.weights import known_weights, mistaken_digest, parse_table, where_to_get
from tasks.secondary_fad import EMBEDDERS

DEFAULT = "music_audioset_epoch_15_esc_90.14.pt"


def test_every_file_that_an_embedder_or_a_codec_needs_is_in_the_table() -> None:
    needed = {name for embedder in EMBEDDERS.values() for name in embedder.files}
    needed |= {DEFAULT, "630k-audioset-best.pt", "roberta-base/vocab.json", "roberta-base/merges.txt"}
    assert needed | {"music2latent.pt", "codicodec.pt"} <= set(known_weights())


def test_the_noncommercial_weights_are_the_two_codecs_of_sony() -> None:
    assert {name for name, file in known_weights().items() if file.noncommercial} == {"music2latent.pt", "codicodec.pt"}


def test_a_file_is_told_with_place_licence_and_digest() -> None:
    told = where_to_get(DEFAULT)
    assert DEFAULT in told
    assert "https://huggingface.co/lukewys/laion_clap" in told
    assert "licence CC0-1.0" in told
    assert f"sha256 {known_weights()[DEFAULT].sha256}" in told


def test_what_is_unknown_is_called_unknown() -> None:
    assert "sha256 unknown" in where_to_get("codicodec.pt")
    assert "CC-BY-NC-4.0 (noncommercial)" in where_to_get("codicodec.pt")
    assert "licence not stated" in where_to_get("checkpoints/vggish-10086976.pth")


def test_a_known_name_with_another_digest_is_remarked_on() -> None:
    remark = mistaken_digest(DEFAULT, "0" * 64)
    assert remark is not None
    assert "0" * 64 in remark
    assert str(known_weights()[DEFAULT].sha256) in remark


def test_nothing_is_said_of_the_right_digest_an_unknown_digest_or_an_unknown_name() -> None:
    assert mistaken_digest(DEFAULT, str(known_weights()[DEFAULT].sha256)) is None
    assert mistaken_digest("codicodec.pt", "0" * 64) is None
    assert mistaken_digest("mine.pt", "0" * 64) is None


def test_a_table_with_a_broken_digest_or_a_missing_field_is_refused() -> None:
    entry = "files: {a.pt: {model: A, place: here, licence: null, noncommercial: false, sha256: %s}}"
    with pytest.raises(ValueError, match=r"a\.pt has the sha256 'abc'"):
        parse_table(entry % "abc")
    with pytest.raises(ValueError, match="five fields"):
        parse_table("files: {a.pt: {model: A}}")
