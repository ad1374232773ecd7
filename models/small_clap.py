"""The small CLAP: a two-tower contrastive embedder fitted on the corpus' own stems and tags.

It stands in for LAION-CLAP where no pretrained weights are at hand. The audio tower is a small convolutional net on
log-mels, the text tower a weighted bag of words; `models.small_clap_fit` fits them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from models.clap import ClapSpec, listening_window
from models.mel import LogMel, MelRecipe
from models.word_tower import Vocabulary, WordTower

# Shapes: B batch, N samples, S audio channels, M mel bands, T frames, E embedding width.

VOCABULARY = "vocabulary"
"""The entry of the state that holds the text tower's units; all others are weights."""


@dataclass(frozen=True, kw_only=True)
class SmallClapRecipe:
    """All that determines a small CLAP besides its training windows.

    Audio: training hears stretches of `crop_frames` frames (5 s; a shorter window whole) with a random gain of up
    to +-`gain_jitter` in log10 power. `mixture_share` of the rows are stem plus context under the stem's text, at
    `mixture_level_db` and within +-`balance_jitter` of equal power, so that mixtures (which APA compares) are at
    home in the space; as many more are the same stems in another song's context and answer to no text.
    Text: up to `tag_dropout` of a row's tags are forgotten, `spelling_share` of its words shown by their letters.
    Loss: `overlap_sharpness` is the power of the tag overlap that shares out a row's target; `max_scale` is the
    ceiling of the learned inverse temperature: the lower, the nearer a text and its audio come to each other.
    `table_speed` multiplies the learning rate of the word table and the temperature.
    """

    width: int = 128
    mel: MelRecipe = field(default_factory=MelRecipe)
    channels: tuple[int, ...] = (32, 64, 128, 192)
    hidden: int = 256
    unit_width: int = 128
    min_word_count: int = 4
    dropout: float = 0.2
    max_scale: float = 6.0
    steps: int = 400
    crop_frames: int = 200
    batch_size: int = 48
    learning_rate: float = 2e-3
    table_speed: float = 10.0
    weight_decay: float = 0.02
    warmup_steps: int = 20
    mixture_share: float = 0.25
    mixture_level_db: float = -20.0
    balance_jitter: float = 0.3
    gain_jitter: float = 0.6
    tag_dropout: float = 0.5
    spelling_share: float = 0.15
    overlap_sharpness: float = 3.0
    seed: int = 0


class AudioTower(nn.Module):
    """Log-mel pictures to unnormalised vectors: strided convolutions, then mean and maximum over time."""

    mean_M: Tensor
    std_M: Tensor

    def __init__(self, recipe: SmallClapRecipe) -> None:
        super().__init__()
        bands = recipe.mel.bands
        self.register_buffer("mean_M", torch.zeros(bands))
        self.register_buffer("std_M", torch.ones(bands))
        layers: list[nn.Module] = []
        before = 1
        for depth, after in enumerate(recipe.channels):
            # The first layer strides by four frames (0.1 s): it sees onsets at 40 Hz, the rest costs a quarter.
            kernel, stride = ((5, 7), (2, 4)) if depth == 0 else ((3, 3), (2, 2))
            padding = (kernel[0] // 2, kernel[1] // 2)
            layers += [nn.Conv2d(before, after, kernel, stride, padding, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            before, bands = after, -(-bands // 2)
        self.layers = nn.Sequential(*layers)
        self.project = nn.Sequential(
            nn.Dropout(recipe.dropout),
            nn.Linear(2 * before * bands, recipe.hidden),
            nn.ReLU(),
            nn.Dropout(recipe.dropout),
            nn.Linear(recipe.hidden, recipe.width),
        )

    def forward(self, mel_BMT: Tensor) -> Tensor:
        """vectors_BE of pictures of any length."""
        standard_BMT = (mel_BMT - self.mean_M[:, None]) / self.std_M[:, None]
        maps_BCMT = self.layers(standard_BMT[:, None])
        pooled_BCM = torch.cat([maps_BCMT.mean(dim=3), maps_BCMT.amax(dim=3)], dim=1)
        return self.project(pooled_BCM.flatten(1))


class TwoTowers(nn.Module):
    """Both towers and the learned temperature."""

    def __init__(self, recipe: SmallClapRecipe, units: int) -> None:
        super().__init__()
        self.audio = AudioTower(recipe)
        self.text = WordTower(units, unit_width=recipe.unit_width, hidden=recipe.hidden, width=recipe.width)
        self.log_scale = nn.Parameter(torch.tensor(math.log(recipe.max_scale / 2)))


class SmallClap:
    """A fitted small CLAP, rebuilt from its recipe and its state alone; implements `Clap`.

    Every clip and every text passes through the towers by itself, so that a vector never depends on its
    neighbours in a batch; on one CPU thread that is as fast as batching (5 ms per 10 s of audio).
    """

    def __init__(
        self,
        recipe: SmallClapRecipe,
        state: dict[str, Tensor],
        weights_sha256: str = "",
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        if VOCABULARY not in state:
            raise ValueError(
                f"this state has no {VOCABULARY!r}: expected the result of fit_small_clap, found {list(state)[:4]}"
            )
        self.spec = ClapSpec(name="small", width=recipe.width, licence="Apache-2.0", weights_sha256=weights_sha256)
        self.vocabulary = Vocabulary.from_bytes(state[VOCABULARY])
        self._mel = LogMel(recipe.mel).to(device)
        network = TwoTowers(recipe, len(self.vocabulary.units))
        network.load_state_dict({name: tensor for name, tensor in state.items() if name != VOCABULARY})
        self._towers = network.requires_grad_(False).eval().to(device)
        self._device = device

    @torch.no_grad()
    def embed_audio(self, audio_BSN: Tensor) -> Tensor:
        """Unit vectors clap_BE (float32, on the CPU's or the given device) of the first 10.0 s of each clip."""
        mono_BN = listening_window(audio_BSN, self.spec.window_samples).to(self._device)
        vectors = [self._towers.audio(self._mel(mono_1N)) for mono_1N in mono_BN.split(1)]
        return normalize(torch.cat(vectors), dim=1)

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors clap_BE of tag lists of any length: all their words share one weight, none are cut off.

        An unknown word is heard by its spelling, one of unknown letters not at all; a text that is empty or of which
        nothing is known is an error that names it.
        """
        bags = [self.vocabulary.bag_of_text(text) for text in texts]
        if not bags:
            raise ValueError("no texts to embed: give at least one")
        return normalize(torch.cat([self._towers.text([bag]) for bag in bags]), dim=1)
