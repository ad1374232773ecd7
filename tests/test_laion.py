import json
import logging
import os
import random
import string
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.laion import (
    PATCHES,
    LaionClap,
    audio_model_of,
    checkpoint_state,
    in_16_bits,
    load_state,
    process_untouched,
    repeat_padded,
)

FULL_RUN = """
import json, logging, os, sys, numpy, torch, transformers
from pathlib import Path
import models.laion as laion


def process():
    return [list(sys.path), dict(os.environ), list(logging.root.handlers), torch.random.get_rng_state().tolist()]


def construct(tokenizer, **how):
    return laion.LaionClap(checkpoint, tokenizer=tokenizer, weights_sha256="d", licence="CC0-1.0", **how)


# RoBERTa with one layer and few embeddings: the text path in its real structure, small enough for a test.
laion.ROBERTA_BASE = {**laion.ROBERTA_BASE, "num_hidden_layers": 1, "vocab_size": 300}
folder = Path(sys.argv[1])
checkpoint = folder / "x.pt"
before = process()
checkpoint.write_bytes(b"not read")
try:
    construct(folder / "small")
    refusal = ""
except ValueError as error:
    refusal = str(error)
after_refusal = process()
with laion.process_untouched():
    network = laion.untrained_network(laion.local_tokenizer(folder / "large"), "HTSAT-tiny")
torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in network.state_dict().items()}}, checkpoint)
clap = construct(folder / "large", batch_size=1)
after = process()
rounding, batched = construct(folder / "large", int16=True), construct(folder / "large", batch_size=2)
patched = [owner.__name__ for owner in (
    transformers.RobertaTokenizer, transformers.RobertaModel, transformers.BertTokenizer, transformers.BartTokenizer
) if "from_pretrained" in vars(owner)]

audio = torch.randn(2, 2, 491_520, generator=torch.Generator().manual_seed(0))
changed = audio[:1].clone()
changed[..., 480_000:] = 1.0
short = audio[:1, :1, :131_072]
vectors = clap.embed_audio(audio)
texts = clap.embed_text(["drums, funk", "a warm pad"])
long = clap.embed_text(["drums, " * 60, "drums, " * 60 + "a warm pad"])
try:
    clap.embed_text(["drums", " "])
    empty = ""
except ValueError as error:
    empty = str(error)

# The package's own way with a tensor: its features of a 10-s clip, its embedding.
from laion_clap.training.data import float32_to_int16, get_audio_features, int16_to_float32
theirs = []
for clip in (short[0, 0], torch.from_numpy(int16_to_float32(float32_to_int16(short[0, 0].numpy())))):
    config = clap._network.audio_cfg
    told = get_audio_features(
        {}, clip, 480_000, data_truncating="rand_trunc", data_filling="repeatpad",
        audio_cfg={name: getattr(config, name) for name in vars(config)} if not isinstance(config, dict) else config,
    )
    with torch.no_grad():
        theirs.append(clap._network.get_audio_embedding([told]))
print(json.dumps({
    "refusal": refusal,
    "restored": [before == after_refusal, before == after, patched],
    "shapes": [list(vectors.shape), list(texts.shape)],
    "norms": torch.cat([vectors, texts, clap.embed_audio(short)]).norm(dim=1).tolist(),
    "first_ten_seconds_again": bool(torch.equal(vectors[:1], clap.embed_audio(changed))),
    "texts_differ": float((texts[0] - texts[1]).abs().max()),
    "above_full_scale": float((clap.embed_audio(short.clamp(-1, 1)) - clap.embed_audio(short)).abs().max()),
    "as_the_package": [
        float((clap.embed_audio(short) - theirs[0]).abs().max()),
        float((rounding.embed_audio(short) - theirs[1]).abs().max()),
    ],
    "rounding_matters": float((rounding.embed_audio(short) - clap.embed_audio(short)).abs().max()),
    "again": all(
        bool(torch.equal(clap.embed_audio(clip), clap.embed_audio(clip))) for clip in (short, audio[:1])
    ),
    "batching": float((batched.embed_audio(audio) - vectors).abs().max()),
    "cut_at_77_tokens": bool(torch.equal(long[0], long[1])),
    "empty": empty,
    "spec": [clap.spec.width, clap.spec.name, rounding.spec.name],
}))
"""


@pytest.fixture
def tokenizer_folder(tmp_path):
    """Writes a folder with a RoBERTa-like tokenizer of the asked size: letters, and filler that no text can reach."""

    def write(name, tokens):
        folder = tmp_path / name
        folder.mkdir()
        known = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *string.ascii_lowercase, ",", "Ġ"]
        known += [f"filler{number}" for number in range(tokens - len(known))]
        (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(known)}))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        return tmp_path

    return write


@pytest.fixture
def run_apart():
    """The JSON that a script prints in a process of its own: laion_clap is imported there, not in the test run."""

    def run(script, folder):
        done = subprocess.run(
            [sys.executable, "-c", script, str(folder)],
            cwd=Path(__file__).parents[1],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_a_missing_checkpoint_is_named_with_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"no LAION-CLAP checkpoint at .*music\.pt.*give its path"):
        LaionClap(tmp_path / "music.pt", tokenizer=tmp_path, weights_sha256="", licence="CC0-1.0")


def test_a_missing_tokenizer_is_named_with_the_remedy(tmp_path):
    (tmp_path / "music.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"vocab\.json and merges\.txt missing"):
        LaionClap(tmp_path / "music.pt", tokenizer=tmp_path, weights_sha256="", licence="CC0-1.0")


def test_whatever_happens_inside_the_process_is_untouched_outside():
    def fingerprint():
        cudnn = torch.backends.cudnn
        flags = (torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic)
        return (list(sys.path), dict(os.environ), list(logging.root.handlers), logging.root.level, flags)

    before, torch_state = fingerprint(), torch.random.get_rng_state()
    numpy_state, python_state = np.random.get_state()[1].tolist(), random.getstate()
    with pytest.raises(RuntimeError, match="half-way"), process_untouched():
        assert os.environ["HF_HUB_OFFLINE"] == "1"
        sys.path.append("elsewhere")
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.deterministic = True
        logging.root.addHandler(logging.StreamHandler())
        logging.root.setLevel(logging.DEBUG)
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        raise RuntimeError("half-way")
    assert fingerprint() == before
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.random.get_state()[1].tolist() == numpy_state
    assert random.getstate() == python_state


def test_a_short_clip_is_repeated_whole_times_and_then_silent():
    padded = repeat_padded(torch.tensor([[1.0, 2.0, 3.0]]), 8)
    assert padded.tolist() == [[1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 0.0, 0.0]]
    assert torch.equal(repeat_padded(padded, 8), padded)


def test_checkpoints_with_numpy_scores_load_without_running_pickled_code(tmp_path):
    weight = torch.arange(3.0)
    scores = {"best": np.float64(0.9), "worst": np.float32(0.1)}
    state = {"module.w": weight, "module.text_branch.embeddings.position_ids": weight}
    torch.save({"epoch": 15, "scores": scores, "state_dict": state}, tmp_path / "a.pt")
    save_file({"w": weight}, tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        loaded = checkpoint_state(tmp_path / name)
        assert list(loaded) == ["w"]
        assert torch.equal(loaded["w"], weight)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.system, ("true",)

    torch.save({"state_dict": {"w": Harmful()}}, tmp_path / "harmful.pt")
    with pytest.raises(ValueError, match=r"harmful\.pt"):
        checkpoint_state(tmp_path / "harmful.pt")


def test_a_checkpoint_of_another_network_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"tiny\.safetensors does not fit this network"):
        load_state(torch.nn.Linear(1, 1), {"w": torch.zeros(1)}, tmp_path / "tiny.safetensors")


def test_a_checkpoint_says_itself_which_audio_model_it_holds(tmp_path):
    for width, name in ((128, "HTSAT-base"), (96, "HTSAT-tiny")):
        assert audio_model_of({PATCHES: torch.zeros(width, 1, 4, 4)}, tmp_path) == name
    with pytest.raises(ValueError, match=r"other\.pt is no LAION-CLAP .* found 192"):
        audio_model_of({PATCHES: torch.zeros(192, 1, 4, 4)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="found no such tensor"):
        audio_model_of({}, tmp_path / "other.pt")


def test_sixteen_bits_are_cut_towards_zero_and_clipped_at_full_scale():
    heard = in_16_bits(torch.tensor([[0.0, 1.9 / 32767, -1.9 / 32767, 1.5, -1.5]])) * 32767
    assert heard[0].tolist() == pytest.approx([0, 1, -1, 32767, -32767])


def test_the_network_runs_offline_from_local_files_alone(tokenizer_folder, run_apart):
    """Random weights, HTSAT-tiny, one text layer: shapes, determinism and restoration, not the pretrained values."""
    tokenizer_folder("small", 300)
    seen = run_apart(FULL_RUN, tokenizer_folder("large", 50_265))
    assert "has 300 tokens" in seen["refusal"]
    assert seen["restored"] == [True, True, []]
    assert seen["shapes"] == [[2, 512], [2, 512]]
    assert seen["norms"] == pytest.approx([1.0] * 5, abs=1e-5)
    assert seen["first_ten_seconds_again"]
    assert seen["texts_differ"] > 1e-3
    assert seen["above_full_scale"] > 1e-4  # 16 bits would have clipped both alike
    assert seen["spec"] == [512, "laion-htsat-tiny", "laion-htsat-tiny-int16"]
    assert seen["as_the_package"] == pytest.approx([0.0, 0.0], abs=1e-5)
    assert seen["rounding_matters"] > 1e-4
    assert seen["again"]
    assert seen["batching"] < 1e-5
    assert seen["cut_at_77_tokens"]
    assert "must not be empty" in seen["empty"]
