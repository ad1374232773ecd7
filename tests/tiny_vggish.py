"""A checkpoint folder of VGGish in small: a model of one layer, laid out as frechet-audio-distance wants it."""

from __future__ import annotations

from pathlib import Path

from tasks.secondary_fad import EMBEDDERS

HUBCONF = """
import numpy as np
import torch

dependencies = ["torch"]


class Tiny(torch.nn.Module):
    postprocess = True

    def __init__(self):
        super().__init__()
        self.embeddings = torch.nn.Sequential(torch.nn.Linear(4, 128, bias=False), torch.nn.ReLU())
        torch.nn.init.ones_(self.embeddings[0].weight)

    def forward(self, audio, rate):
        if not audio.any():
            raise RuntimeError("nothing to hear")
        assert rate == 16_000 and not self.postprocess
        frames = torch.from_numpy(audio[: len(audio) // 8_000 * 8_000].reshape(-1, 8_000)[:, :4].copy())
        return self.embeddings(frames)


def vggish():
    return Tiny()
"""


def write_tiny_vggish(folder: Path) -> Path:
    """The folder, with the tiny model in the checkout's place."""
    for file in EMBEDDERS["vggish"].files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HUBCONF if path.suffix == ".py" else "")
    return folder
