"""Fitting the small CLAP on stems, their contexts and their tags.

Radford et al. 2021 (CLIP) is the loss. Departure from CLIP: windows of one stem share their tags, so the targets of
the loss are shared out by tag overlap instead of naming one right answer per row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize, pad

from models.mel import mix_mels
from models.small_clap import VOCABULARY, SmallClapRecipe, TwoTowers
from models.word_tower import Bag, Tag, Vocabulary, tags_of

# Shapes: N rows, B rows of a batch, A pictures of a batch, D texts, M mel bands, T frames, E embedding width.


@dataclass(frozen=True, kw_only=True)
class ClapWindows:
    """Training rows: log-mels of stem windows, of the contexts they sounded in, and each stem's tag list.

    `stem_NMT` and `context_NMT` come from `LogMel` (float16 or float32, memory-mapped if large: only the rows of
    a batch are read). `song_ids` says which rows come from one song: a stem is never told apart from a mixture
    with its own song.
    """

    stem_NMT: NDArray[np.floating[Any]]
    context_NMT: NDArray[np.floating[Any]]
    texts: Sequence[str]
    song_ids: Sequence[str]

    def __post_init__(self) -> None:
        counts = (len(self.stem_NMT), len(self.context_NMT), len(self.texts), len(self.song_ids))
        if counts[0] < 2 or len(set(counts)) > 1:
            raise ValueError(
                "{} stem pictures, {} context pictures, {} texts and {} song ids: ".format(*counts)
                + "a small CLAP is fitted on two rows or more, with one of each per row"
            )


def fit_small_clap(
    recipe: SmallClapRecipe,
    windows: ClapWindows,
    *,
    log: Callable[[int, dict[str, float]], None],
    device: torch.device | str = "cpu",
) -> dict[str, Tensor]:
    """The fitted state (CPU tensors, vocabulary included): a pure function of recipe and windows on one machine."""
    _check(windows)
    cuda = [device] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):  # initialisation and dropout draw from torch's own generators
        torch.manual_seed(recipe.seed)
        vocabulary = Vocabulary.of(sorted(set(windows.texts)), min_count=recipe.min_word_count)
        network = _untrained(recipe, windows, vocabulary).to(device).train()
        _train(recipe, windows, vocabulary, network, log)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    return state | {VOCABULARY: vocabulary.to_bytes()}


def _train(
    recipe: SmallClapRecipe,
    windows: ClapWindows,
    vocabulary: Vocabulary,
    network: TwoTowers,
    log: Callable[[int, dict[str, float]], None],
) -> None:
    """Every step of the fit, in place."""
    device = network.log_scale.device
    generator = torch.Generator().manual_seed(recipe.seed)
    tags = [tags_of(text) for text in windows.texts]
    optimiser = _optimiser(recipe, network)
    for step, rows in enumerate(_row_batches(recipe, len(tags), generator)):
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * _warm_cosine(step, recipe)
        mel_AMT = _heard(recipe, windows, rows, generator).to(device)
        bags = [partly_read(recipe, vocabulary, tags[row], generator) for row in rows]
        overlap_BB = tag_overlap([tags[row] for row in rows]).pow(recipe.overlap_sharpness)
        scale = network.log_scale.clamp(max=math.log(recipe.max_scale)).exp()
        loss = contrastive_loss(
            normalize(network.audio(mel_AMT), dim=1),
            normalize(network.text(bags), dim=1),
            scale,
            pad(overlap_BB, (0, 0, 0, len(mel_AMT) - len(rows))).to(device),
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        log(step, {"loss": float(loss.detach()), "scale": float(scale.detach())})


def contrastive_loss(audio_AE: Tensor, text_DE: Tensor, scale: Tensor, target_AD: Tensor) -> Tensor:
    """Symmetric cross-entropy of the cosines against shared-out targets (CLIP's loss where the target is the identity).

    `target_AD` is non-negative: how much audio row A and text row D belong together. Each row is shared out over
    the texts and each column over the audio; one that belongs to nothing only competes.
    """
    logits_AD = scale * audio_AE @ text_DE.T
    return (_cross_entropy(logits_AD, target_AD) + _cross_entropy(logits_AD.T, target_AD.T)) / 2


def _cross_entropy(logits_RC: Tensor, target_RC: Tensor) -> Tensor:
    weight_R1 = target_RC.sum(dim=1, keepdim=True)
    answered_R = weight_R1[:, 0] > 0
    share_RC = target_RC / weight_R1.clamp(min=1e-12)
    return -(share_RC * logits_RC.log_softmax(dim=1)).sum(dim=1)[answered_R].mean()


def tag_overlap(tags: Sequence[tuple[Tag, ...]]) -> Tensor:
    """Jaccard overlap of the words of each two tag lists (B, B): 1 for the same words, 0 for none in common."""
    words = [{word for tag in row for word in tag} for row in tags]
    return torch.tensor([[len(a & b) / len(a | b) for b in words] for a in words])


def _check(windows: ClapWindows) -> None:
    mute = [row for row, text in enumerate(windows.texts) if not tags_of(text)]
    if mute:
        raise ValueError(
            f"rows {mute[:8]} have a text without a single word; give every training stem a tag (its role will do)"
        )


def _untrained(recipe: SmallClapRecipe, windows: ClapWindows, vocabulary: Vocabulary) -> TwoTowers:
    """New towers that know the mean and spread of each mel band of (at most 256 of) the windows."""
    network = TwoTowers(recipe, len(vocabulary.units))
    some_NMT = torch.from_numpy(windows.stem_NMT[:: -(-len(windows.stem_NMT) // 256)].astype(np.float32))
    network.audio.mean_M.copy_(some_NMT.mean(dim=(0, 2)))
    network.audio.std_M.copy_(some_NMT.std(dim=(0, 2)).clamp(min=0.1))
    return network


def _optimiser(recipe: SmallClapRecipe, network: TwoTowers) -> torch.optim.AdamW:
    """AdamW whose word table and temperature learn faster: each of a batch's words is seen once, each filter always."""
    table = {"log_scale", "text.vectors.weight", "text.importance.weight"}
    fast = [tensor for name, tensor in network.named_parameters() if name in table]
    slow = [tensor for name, tensor in network.named_parameters() if name not in table]
    rate = recipe.learning_rate
    groups = [{"params": slow, "peak": rate}, {"params": fast, "peak": rate * recipe.table_speed}]
    return torch.optim.AdamW(groups, lr=rate, weight_decay=recipe.weight_decay)


def _row_batches(recipe: SmallClapRecipe, rows: int, generator: torch.Generator) -> Iterator[NDArray[np.int64]]:
    """`steps` batches of row numbers: shuffled passes one after the other."""
    batch = min(recipe.batch_size, rows)
    waiting = np.empty(0, dtype=np.int64)
    for _ in range(recipe.steps):
        if len(waiting) < batch:
            waiting = np.concatenate([waiting, torch.randperm(rows, generator=generator).numpy()])
        yield np.sort(waiting[:batch])  # sorted: reads from a memory map go forward
        waiting = waiting[batch:]


def _heard(
    recipe: SmallClapRecipe, windows: ClapWindows, rows: NDArray[np.int64], generator: torch.Generator
) -> Tensor:
    """Pictures mel_AMT of a batch: some rows mixed with their context, then the same stems with strangers' contexts.

    The strangers come after the B rows: mixtures of a mixed row's stem with a context of another song, which must
    not answer to the row's text. Every picture is a stretch of `crop_frames`, rolled in time and changed in level.
    """
    mel_BMT = _rows(windows.stem_NMT, rows)
    mixed = np.flatnonzero(torch.rand(len(rows), generator=generator).numpy() < recipe.mixture_share)
    strange = torch.randint(len(windows.texts), (len(mixed),), generator=generator).numpy()
    foreign = np.array(
        [windows.song_ids[a] != windows.song_ids[b] for a, b in zip(rows[mixed], strange, strict=True)], dtype=bool
    )
    strangers_XMT = _mixed(recipe, windows, rows[mixed][foreign], strange[foreign], generator)
    mel_BMT[mixed] = _mixed(recipe, windows, rows[mixed], rows[mixed], generator)
    mel_AMT = torch.cat([mel_BMT, strangers_XMT])
    count, bands, frames = mel_AMT.shape
    shift_A = torch.randint(frames, (count,), generator=generator)
    frame_AT = (torch.arange(min(frames, recipe.crop_frames)) + shift_A[:, None]) % frames
    rolled_AMT = mel_AMT.gather(2, frame_AT[:, None].expand(-1, bands, -1))
    return rolled_AMT + recipe.gain_jitter * _symmetric(count, generator)[:, None, None]


def _mixed(
    recipe: SmallClapRecipe,
    windows: ClapWindows,
    stems: NDArray[np.int64],
    contexts: NDArray[np.int64],
    generator: torch.Generator,
) -> Tensor:
    balance_B = recipe.balance_jitter * _symmetric(len(stems), generator)
    return mix_mels(
        _rows(windows.stem_NMT, stems),
        _rows(windows.context_NMT, contexts),
        balance_B=balance_B,
        level_db=recipe.mixture_level_db,
        floor=recipe.mel.floor,
    )


def _rows(pictures_NMT: NDArray[np.floating[Any]], rows: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(pictures_NMT[rows].astype(np.float32))


def partly_read(
    recipe: SmallClapRecipe, vocabulary: Vocabulary, tags: Sequence[Tag], generator: torch.Generator
) -> Bag:
    """A bag of a text with some tags forgotten (never all) and some words shown by their spelling only.

    Tags are not shuffled as well: a bag knows no order.
    """
    forgetful = recipe.tag_dropout * torch.rand(1, generator=generator)
    kept_T = torch.rand(len(tags), generator=generator) >= forgetful
    kept_T[int(torch.randint(len(tags), (1,), generator=generator))] = True
    kept = [tag for tag, keep in zip(tags, kept_T.tolist(), strict=True) if keep]
    words = sorted({word for tag in kept for word in tag})
    spelled_W = torch.rand(len(words), generator=generator) < recipe.spelling_share
    spelled = frozenset(word for word, spell in zip(words, spelled_W.tolist(), strict=True) if spell)
    return vocabulary.bag(kept, spelled=spelled)


def _symmetric(count: int, generator: torch.Generator) -> Tensor:
    return 2.0 * torch.rand(count, generator=generator) - 1.0


def _warm_cosine(step: int, recipe: SmallClapRecipe) -> float:
    """Linear warm-up, then a cosine to zero."""
    warm = min(1.0, (step + 1) / max(1, recipe.warmup_steps))
    return warm * 0.5 * (1.0 + math.cos(math.pi * step / recipe.steps))
