"""LAION-CLAP behind the `Clap` interface: the one file that imports laion_clap, and what keeps it in quarantine.

Importing laion-clap 1.1.7 asks the Hugging Face hub for three tokenizers, building it asks for RoBERTa's weights
(which its checkpoint overwrites), it appends to sys.path, logs through the root logger and draws random numbers.
Here all of it happens inside a constructor, from local files only, and the process is afterwards as it was.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.nn.functional import pad

from models.clap import ClapSpec, listening_window

# Shapes: B batch, S audio channels, N samples, E embedding width.

AudioModel = Literal["HTSAT-base", "HTSAT-tiny"]
"""HTSAT-base in the music checkpoints (the paper's embedder), HTSAT-tiny in the 630k ones."""

PATCHES = "audio_branch.patch_embed.proj.weight"
AUDIO_MODELS: Mapping[int, AudioModel] = {128: "HTSAT-base", 96: "HTSAT-tiny"}
"""The audio model by the width of its patches: a checkpoint itself says which it holds."""

INT16_LARGEST = 32_767

WIDTH = 512
SMALLEST_TOKENIZER = 50_000  # roberta-base has 50,265 tokens; an offline transformers 5 silently builds one of 5
TEXT_TOKENS = 77  # laion_clap.hook: longer texts are cut
ROBERTA_BASE: Mapping[str, Any] = {
    "vocab_size": 50_265,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}  # roberta-base's config.json where it differs from BERT's
TOKENIZER_FILES = ("vocab.json", "merges.txt")


class LaionClap:
    """LAION-CLAP from a local checkpoint and a local RoBERTa tokenizer; implements `Clap`, never downloads.

    `tokenizer` is a folder with roberta-base's vocab.json and merges.txt. A clip is its first 10.0 s, never a
    random crop; a shorter one is repeated whole times and padded with zeros as in training (laion_clap's
    "repeatpad"). `int16` cuts the samples to 16 bits, as laion_clap's own file reading does; that is another space
    and has another name.
    """

    def __init__(
        self,
        checkpoint: Path,
        *,
        tokenizer: Path,
        weights_sha256: str,
        licence: str,
        int16: bool = False,
        device: torch.device | str = "cpu",
        batch_size: int = 8,
    ) -> None:
        _check_files(checkpoint, tokenizer)
        with process_untouched():
            self._tokenizer = local_tokenizer(tokenizer)  # before the slow import and the large file
            state = checkpoint_state(checkpoint)
            audio_model = audio_model_of(state, checkpoint)
            network = untrained_network(self._tokenizer, audio_model)
        load_state(network, state, checkpoint)
        self.spec = ClapSpec(
            name=f"laion-{audio_model.lower()}{'-int16' if int16 else ''}",
            width=WIDTH,
            licence=licence,
            weights_sha256=weights_sha256,
        )
        self._int16, self._device, self._batch_size = int16, device, batch_size
        self._network = network.requires_grad_(False).eval().to(device)

    @torch.no_grad()
    def embed_audio(self, audio_BSN: Tensor) -> Tensor:
        """Unit vectors clap_BE (E = 512, float32) of the first 10.0 s of each clip."""
        mono_BN = listening_window(audio_BSN, self.spec.window_samples)
        mono_BN = repeat_padded(in_16_bits(mono_BN) if self._int16 else mono_BN, self.spec.window_samples)
        vectors = []
        for some_BN in mono_BN.to(self._device).split(self._batch_size):
            longer_B1 = torch.zeros(len(some_BN), 1, dtype=torch.bool)
            heard = self._network.encode_audio({"waveform": some_BN, "longer": longer_B1}, device=self._device)
            vectors.append(self._network.audio_projection(heard["embedding"]))
        return torch.nn.functional.normalize(torch.cat(vectors), dim=1)

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors clap_BE of tag lists; what goes beyond 77 tokens is not heard (as in training)."""
        if not texts or not all(text.strip() for text in texts):
            raise ValueError(f"texts to embed must not be empty: got {list(texts)[:4]}")
        tokens = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=TEXT_TOKENS, return_tensors="pt"
        )
        vectors = [
            self._network.encode_text({"input_ids": ids_BL, "attention_mask": mask_BL}, device=self._device)
            for ids_BL, mask_BL in zip(
                tokens["input_ids"].split(self._batch_size),
                tokens["attention_mask"].split(self._batch_size),
                strict=True,
            )
        ]
        return torch.nn.functional.normalize(torch.cat(vectors), dim=1)


def repeat_padded(mono_BN: Tensor, window_samples: int) -> Tensor:
    """Clips of exactly `window_samples`: as many whole repeats as fit, then zeros."""
    repeats = window_samples // mono_BN.shape[1]
    repeated_BN = mono_BN.repeat(1, repeats)
    return pad(repeated_BN, (0, window_samples - repeated_BN.shape[1]))


def in_16_bits(mono_BN: Tensor) -> Tensor:
    """Samples clipped to full scale and cut towards zero to 16 bits, as laion_clap's `float32_to_int16` and back."""
    whole_BN = (mono_BN.clamp(-1.0, 1.0) * INT16_LARGEST).to(torch.int16)
    return whole_BN.float() / INT16_LARGEST


@contextlib.contextmanager
def process_untouched() -> Iterator[None]:
    """Whatever runs inside leaves sys.path, environment, torch's flags, random states and root logger as they were.

    Inside, the hub is declared offline and CPU generators are forked, so that building a network draws nothing.
    """
    path, environment, torch_flags = list(sys.path), dict(os.environ), _torch_flags()
    handlers, level = list(logging.root.handlers), logging.root.level
    numpy_state, python_state = np.random.get_state(), random.getstate()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(environment)
        _set_torch_flags(torch_flags)
        logging.root.handlers[:], logging.root.level = handlers, level
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _torch_flags() -> tuple[bool, bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic


def _set_torch_flags(flags: tuple[bool, bool, bool, bool]) -> None:
    cudnn = torch.backends.cudnn
    torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = flags


def _check_files(checkpoint: Path, tokenizer: Path) -> None:
    if not checkpoint.is_file():
        raise ValueError(
            f"no LAION-CLAP checkpoint at {checkpoint}: expected a .pt or .safetensors file on this machine; download "
            "one (for instance music_audioset_epoch_15_esc_90.14.pt) and give its path, or use the small CLAP"
        )
    missing = [name for name in TOKENIZER_FILES if not (tokenizer / name).is_file()]
    if missing:
        raise ValueError(
            f"no RoBERTa tokenizer in {tokenizer}: {' and '.join(missing)} missing; expected roberta-base's "
            f"{' and '.join(TOKENIZER_FILES)} there"
        )


def local_tokenizer(folder: Path) -> Any:
    """RoBERTa's tokenizer from its two files. Raises ValueError when its vocabulary is too small to be RoBERTa's."""
    import transformers

    tokenizer = transformers.RobertaTokenizer(*(str(folder / name) for name in TOKENIZER_FILES))
    if len(tokenizer) < SMALLEST_TOKENIZER:
        raise ValueError(
            f"the tokenizer in {folder} has {len(tokenizer)} tokens, RoBERTa's has 50,265: with so few, every text "
            "would get the same embedding; put the real vocab.json and merges.txt there"
        )
    return tokenizer


def untrained_network(tokenizer: Any, audio_model: AudioModel) -> Any:
    """The network before its checkpoint; every hub call that laion_clap would make is answered locally."""
    import transformers

    def this_tokenizer(*_: Any, **__: Any) -> Any:
        return tokenizer

    def untrained_roberta(*_: Any, **__: Any) -> Any:
        return transformers.RobertaModel(transformers.RobertaConfig(**ROBERTA_BASE))

    with contextlib.ExitStack() as stack:
        stack.enter_context(_replaced(transformers.BertTokenizer, "from_pretrained", _not_here))
        stack.enter_context(_replaced(transformers.BartTokenizer, "from_pretrained", _not_here))
        stack.enter_context(_replaced(transformers.RobertaTokenizer, "from_pretrained", this_tokenizer))
        stack.enter_context(_replaced(transformers.RobertaModel, "from_pretrained", untrained_roberta))
        import laion_clap

        return laion_clap.CLAP_Module(enable_fusion=False, device="cpu", amodel=audio_model).model


def _not_here(*_: Any, **__: Any) -> None:
    """laion_clap's BERT and BART tokenizers: loaded at import, used only by other text towers than RoBERTa."""


@contextlib.contextmanager
def _replaced(owner: type, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """A class whose inherited method `name` is `function` for a while."""
    own = owner.__dict__.get(name)
    setattr(owner, name, staticmethod(function))
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


def audio_model_of(state: Mapping[str, Tensor], checkpoint: Path) -> AudioModel:
    """Which audio model a checkpoint holds. Raises ValueError when it is neither of the two that are known."""
    width = len(state[PATCHES]) if PATCHES in state else 0
    if width not in AUDIO_MODELS:
        raise ValueError(
            f"{checkpoint} is no LAION-CLAP of {' or '.join(AUDIO_MODELS.values())}: expected {PATCHES} with "
            f"{' or '.join(map(str, AUDIO_MODELS))} rows, found {width or 'no such tensor'}; give one of its releases, "
            "for instance music_audioset_epoch_15_esc_90.14.pt"
        )
    return AUDIO_MODELS[width]


def load_state(network: torch.nn.Module, state: Mapping[str, Tensor], checkpoint: Path) -> None:
    """The checkpoint's weights into the network, all of them, none left over."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"{checkpoint} does not fit this network: expected an unfused checkpoint with RoBERTa as its text "
            f"tower (no name with -fusion-). {str(error)[:400]}"
        ) from error


def checkpoint_state(checkpoint: Path) -> dict[str, Tensor]:
    """Weights by name from a .safetensors file or a .pt file; a pickle may hold tensors and numpy scalars only.

    Names lose the `module.` of distributed training; `position_ids`, which newer transformers compute, is dropped.
    """
    read = safetensors.torch.load_file if checkpoint.suffix == ".safetensors" else _unpickled
    state = read(checkpoint)
    named = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    named.pop("text_branch.embeddings.position_ids", None)
    return named


def _unpickled(checkpoint: Path) -> dict[str, Tensor]:
    """The `state_dict` of a .pt file, read without running anything that it names."""
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            found = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{checkpoint} is no checkpoint of tensors and numpy scalars alone: {str(error)[:300]} "
            "Convert it to .safetensors on a machine where you trust it"
        ) from error
    return found.get("state_dict", found)


def _numpy_scalars() -> list[Any]:
    """What LAION's training loop pickled beside the weights (epoch scores): numpy scalars, under both module names."""
    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [*((scalar, name) for name in names), np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32))]
