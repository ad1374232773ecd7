"""Weights on disk: the same bytes for the same contents, and errors that name what is wrong."""

from __future__ import annotations

import hashlib
import pickle

import pytest
import torch
from torch import nn

from models.weights import WeightsError, load_into, load_metadata, load_weights, save_weights


@pytest.fixture
def tensors():
    return {"b": torch.randn(3, 4), "a": torch.arange(5), "half": torch.randn(2).bfloat16(), "step": torch.tensor(7)}


def test_what_is_saved_comes_back_with_its_digest(tmp_path, tensors):
    digest = save_weights(tmp_path / "w.safetensors", tensors, {"recipe": "x", "codec": "y"})
    found, found_digest = load_weights(tmp_path / "w.safetensors", digest)
    assert found_digest == digest == hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype for name in tensors)
    assert load_metadata(tmp_path / "w.safetensors") == {"recipe": "x", "codec": "y"}


def test_equal_contents_give_equal_bytes_in_any_order(tmp_path, tensors):
    metadata = {str(number): "value" for number in range(20)}
    first = save_weights(tmp_path / "1", tensors, metadata)
    assert save_weights(tmp_path / "2", dict(reversed(tensors.items())), dict(reversed(metadata.items()))) == first


def test_views_and_shared_tensors_are_saved_as_their_values(tmp_path):
    shared = torch.randn(4, 4)
    save_weights(tmp_path / "w", {"all": shared, "turned": shared.T, "row": shared[1]}, {})
    found, _ = load_weights(tmp_path / "w")
    assert torch.equal(found["turned"], shared.T)
    assert torch.equal(found["row"], shared[1])


def test_nothing_but_the_file_is_left(tmp_path, tensors):
    save_weights(tmp_path / "w", tensors, {})
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_another_digest_is_an_error(tmp_path, tensors):
    save_weights(tmp_path / "w", tensors, {})
    with pytest.raises(WeightsError, match="expected 0000"):
        load_weights(tmp_path / "w", "0000")


def test_truncated_and_pickled_files_are_errors_that_name_the_file(tmp_path, tensors):
    save_weights(tmp_path / "w", tensors, {})
    (tmp_path / "cut").write_bytes((tmp_path / "w").read_bytes()[:-3])
    (tmp_path / "pickled").write_bytes(pickle.dumps({"a": 1}))
    for name in ("cut", "pickled"):
        with pytest.raises(WeightsError, match=f"{name} is not a whole safetensors file"):
            load_weights(tmp_path / name)


def test_a_mismatch_names_missing_unexpected_and_misshapen_tensors():
    module = nn.Linear(3, 2)
    with pytest.raises(WeightsError) as caught:
        load_into(module, {"weight": torch.zeros(5, 3), "scale": torch.zeros(1)}, what="the layer")
    message = str(caught.value)
    assert "do not fit the layer" in message
    assert "missing: bias" in message
    assert "unexpected: scale" in message
    assert "weight (5, 3) instead of (2, 3)" in message


def test_a_fitting_state_is_loaded():
    module, other = nn.Linear(3, 2), nn.Linear(3, 2)
    load_into(module, other.state_dict(), what="the layer")
    assert torch.equal(module.weight, other.weight)
