"""Claims about files cut into pieces and joined again."""

import hashlib
import json
from pathlib import Path

import pytest

from models.weight_pieces import join_pieces, split_file
from models.weights import WeightsError

CONTENT = bytes(range(256)) * 10


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Three pieces of at most 1,000 bytes, and what they are of."""
    whole = tmp_path / "codec.safetensors"
    whole.write_bytes(CONTENT)
    return split_file(whole, tmp_path / "pieces", piece_bytes=1000)


def test_the_manifest_names_pieces_and_whole_with_their_digests(manifest: Path) -> None:
    stated = json.loads(manifest.read_text())
    assert stated["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert [piece["bytes"] for piece in stated["pieces"]] == [1000, 1000, 560]
    for piece in stated["pieces"]:
        assert hashlib.sha256((manifest.parent / piece["name"]).read_bytes()).hexdigest() == piece["sha256"]


def test_joined_pieces_are_the_file(manifest: Path, tmp_path: Path) -> None:
    joined = join_pieces(manifest, tmp_path / "there")
    assert (joined.name, joined.read_bytes()) == ("codec.safetensors", CONTENT)


def test_a_missing_piece_is_refused(manifest: Path, tmp_path: Path) -> None:
    (manifest.parent / "codec.safetensors.001").unlink()
    with pytest.raises(WeightsError, match=r"codec\.safetensors\.001 is missing"):
        join_pieces(manifest, tmp_path / "there")
    assert not (tmp_path / "there" / "codec.safetensors").exists()


def test_a_changed_piece_is_refused(manifest: Path, tmp_path: Path) -> None:
    (manifest.parent / "codec.safetensors.002").write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"codec\.safetensors\.002 has sha256"):
        join_pieces(manifest, tmp_path / "there")


def test_a_manifest_without_one_of_its_pieces_is_refused(manifest: Path, tmp_path: Path) -> None:
    stated = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(stated | {"pieces": stated["pieces"][:2]}))
    with pytest.raises(WeightsError, match="lacks a piece"):
        join_pieces(manifest, tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", '{"name": "../x", "sha256": "", "pieces": [{"name": "a", "sha256": ""}]}'])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    manifest = tmp_path / "x.pieces.json"
    manifest.write_text(text)
    with pytest.raises(WeightsError, match=r"x\.pieces\.json"):
        join_pieces(manifest, tmp_path / "there")
