"""An exported model plays what the pipeline played, and is refused where a byte of it is another."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_arms import WINDOW_SAMPLES, train_arm

from models.accompanist import Accompanist, Wish
from models.batch import LatentSet
from models.clap import LaionClapRecipe
from models.conditioning import ClapSource, Conditioning
from models.exported import CONFIG, ModelError
from tasks.artifact import Artifact
from tasks.audio_bytes import flac_bytes
from tasks.export_model import export_model
from tasks.export_model_card import NO_SCORES
from tasks.fit_codec import load_codec
from tasks.generate import GenerateCandidates, Player, decoded_candidate
from tasks.recipes import dump_recipe
from tasks.runtime import Runtime

ROOT = Path(__file__).parent.parent
KEYS = ["1", "2"]  # the accompanist names its variations by number
SEED = 7
FOREIGN = (
    *("prefect", "mlflow", "dask", "distributed", "webdataset", "pyarrow", "polars", "pydantic", "typer", "yaml"),
    *("soundfile", "soxr", "av", "scipy", "sklearn", "pyloudnorm", "laion_clap", "transformers"),
)


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """A trained arm and its model folder, by the arm's name."""
    torch.set_num_threads(1)

    @cache
    def made(name):
        place = tmp_path_factory.mktemp("arm")
        trained = train_arm(name, place / "workspace")
        export_model(trained, place / "model", scores=None)
        return trained, place / "model"

    return made


@pytest.fixture
def exported(export):
    return export("+CLAP_beta")


def candidates(trained, context_SN, clap_1E, text_1E, conditioning):
    """What `tasks.generate` plays to one context twice: raw latents, and the members of its shards."""
    codec = load_codec(trained.codec.location)
    raw_1CT = codec.encode(context_SN[None]).latent_BCT.numpy()
    statistics = json.loads((trained.denoiser.path / "statistics.json").read_text())
    prompts = LatentSet(
        target_NCT=raw_1CT.repeat(2, 0),
        context_NCT=raw_1CT.repeat(2, 0),
        clap_audio_NKE=clap_1E.numpy()[:, None].repeat(2, 0),
        clap_leak_NE=clap_1E.numpy().repeat(2, 0),
        **{name: np.array(statistics[name], dtype=np.float32) for name in ("mean_C", "std_C")},
    )
    nothing = Artifact(stage="windows", key=None, location="", digest="33")
    step = GenerateCandidates(
        denoiser=trained.denoiser,
        bridge=trained.bridge,
        codec=trained.codec,
        prompts=nothing,
        windows=nothing,
        conditioning=conditioning,
        sampler=trained.arm.sampler,
        guidance=trained.arm.guidance,
        pseudo_stereo=trained.arm.pseudo_stereo,
        samples=WINDOW_SAMPLES,
        count=2,
        seed=SEED,
    )
    raw_BVCT = Player(step, Runtime(workspace="")).play(prompts, text_1E.repeat(2, 1), range(2), KEYS)
    decoded = [
        decoded_candidate(codec, raw_BVCT[row].numpy(), key, WINDOW_SAMPLES, SEED) for row, key in enumerate(KEYS)
    ]
    return raw_BVCT, decoded


@pytest.mark.parametrize(
    ("arm", "clap"),
    [
        ("Diff-A-Riff", ClapSource.TEXT),
        ("+CLAP_beta", ClapSource.TEXT),
        ("+CLAP_beta", ClapSource.AUDIO),
        ("C-DiT", None),
    ],
)
def test_train_export_load_gives_the_candidates_of_the_pipeline_bit_for_bit(export, arm, clap):
    trained, folder = export(arm)
    player = Accompanist.load(folder)
    noise = torch.Generator().manual_seed(1)
    context_SN, reference_SN = 0.1 * torch.randn(2, 2, WINDOW_SAMPLES, generator=noise)
    style_of = {
        ClapSource.TEXT: lambda: player.style_of_text("warm bass", variations=2, seed=SEED),
        ClapSource.AUDIO: lambda: player.style_of_audio(reference_SN),
        None: lambda: None,
    }
    wish = Wish(controls=player.controls, style_BE=style_of[clap](), variations=2, seed=SEED)
    take = player.play(player.hear(context_SN), wish)
    raw_BVCT, decoded = candidates(
        trained,
        context_SN,
        player.style_of_audio(reference_SN),
        player.clap.embed_text(["warm bass"]),
        Conditioning(clap=clap, context=True),
    )
    assert torch.equal(take.latent_BVCL, raw_BVCT)
    for row, member in enumerate(decoded):
        gain = np.float32(json.loads(member["json"])["gain"])
        assert flac_bytes(player.stem(take, row).numpy() * gain) == member["candidate.flac"]


def test_the_folder_is_what_hubs_expect_and_names_every_file_by_digest(exported):
    trained, folder = exported
    told = json.loads((folder / CONFIG).read_text())
    names = {path.name for path in folder.iterdir()}
    bridge = {"bridge.safetensors"} if trained.bridge else set()
    assert names == {"README.md", CONFIG, "denoiser.safetensors", "codec.safetensors", "clap.safetensors"} | bridge
    assert told["files"].keys() == names - {CONFIG}
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: stemwright\n") and NO_SCORES in card
    assert str(folder.parent) not in card + (folder / CONFIG).read_text()


def test_laion_clap_is_named_and_not_copied_and_what_needs_no_words_plays_without_it(exported, tmp_path):
    trained, _ = exported
    recipe = LaionClapRecipe(checkpoint_sha256="ab" * 32, tokenizer_sha256="cd" * 32)
    shutil.copytree(trained.clap.path, tmp_path / "clap")
    (tmp_path / "clap" / "recipe.json").write_text(dump_recipe(recipe))
    laion = Artifact(stage="clap", key=None, location=str(tmp_path / "clap"), digest="44")
    export_model(trained._replace(clap=laion), tmp_path / "model", scores=None)
    assert not (tmp_path / "model" / "clap.safetensors").exists()
    assert "ab" * 32 in (tmp_path / "model" / "README.md").read_text()
    player = Accompanist.load(tmp_path / "model")
    assert player.stem(player.play(player.hear_nothing(30_000), Wish(controls=player.controls)), 0).shape == (2, 30_000)
    with pytest.raises(ModelError, match="prompts and references need LAION-CLAP"):
        player.style_of_text("bass", variations=1, seed=0)


@pytest.mark.parametrize("name", ["denoiser.safetensors", "codec.safetensors", "README.md", CONFIG])
def test_a_missing_file_is_named(exported, tmp_path, name):
    shutil.copytree(exported[1], tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises(ModelError, match=rf"{name}|no model"):
        Accompanist.load(tmp_path / "model")


def test_an_altered_file_is_refused_by_its_digest(exported, tmp_path):
    shutil.copytree(exported[1], tmp_path / "model")
    path = tmp_path / "model" / "denoiser.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(bytes(damaged))
    with pytest.raises(ModelError, match=r"denoiser\.safetensors .* is not the file that was exported"):
        Accompanist.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "does not describe a Stemwright model"),
        ('{"schema": "stemwright-model", "schema_version": 99}', "has version 99 of the model format"),
    ],
)
def test_a_config_of_something_else_is_refused(tmp_path, text, message):
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(ModelError, match=message):
        Accompanist.load(tmp_path)


def test_an_export_that_fails_leaves_nothing_and_never_overwrites(exported, tmp_path):
    trained, folder = exported
    with pytest.raises(ValueError, match="is there already"):
        export_model(trained, folder, scores=None)
    with pytest.raises(FileNotFoundError, match=r"absent\.parquet"):
        export_model(trained, tmp_path / "model", scores=tmp_path / "absent.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_model_loads_and_plays_with_torch_numpy_and_safetensors_alone(exported):
    code = f"""
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {FOREIGN!r}: raise ImportError(name)
sys.meta_path.insert(0, Refused())
from pathlib import Path
from models.accompanist import Accompanist, Wish
player = Accompanist.load(Path({str(exported[1])!r}))
take = player.play(player.hear_nothing(50_000), Wish(controls=player.controls))
assert player.stem(take, 0).shape == (2, 50_000)
print(*[name for name in sys.modules if name.split(".")[0] in ("tasks", "flows", "metrics")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
