"""A trained arm in a musician's hands: parts that fit what is heard, from a folder of `stemwright export`.

    player = Accompanist.load(Path("model"))
    heard = player.hear(context_SN)
    style_BE = player.style_of_text("warm fretless bass, slow", variations=4, seed=7)
    take = player.play(heard, Wish(controls=player.controls, style_BE=style_BE, variations=4, seed=7))
    stem_SN = player.stem(take, 0)

Audio is float32 at 48 kHz, mono or stereo. A variation is seeded by the seed and its number alone, however many were
asked for; one window to a context of one window is the candidate of `tasks.generate`, bit for bit.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from models.accompanist_audio import closed_loop, decode_long, encode_long, with_kept
from models.accompanist_terms import Controls, Heard, Take, Told, Wish, untold
from models.batch import restore, standardise
from models.clap import Clap
from models.codec import RATE_HZ
from models.conditioning import Conditions
from models.editing import fill, interpolate_clap, loop
from models.exported import Brought, ExportedModel, ModelError, load_model

__all__ = ["Accompanist", "Brought", "Controls", "Heard", "ModelError", "Take", "Wish"]

# Shapes: B variations, S audio channels, N samples, C latent width, L latent frames, E CLAP width.

OVERLAP = 1 / 3  # of a window: ours, 3.4 s of the window before are known to the next


class Accompanist:
    """An arm that plays along. What it plays is as long as what it hears, to the sample.

    A time in a given stem is met by a grain of the codec: a frame of 85 ms, or a chunk of 0.68 s where the frames of
    a chunk have no order.
    """

    def __init__(self, model: ExportedModel, device: str = "cpu") -> None:
        self.model = model
        self._device = torch.device(device)
        spec, arm = model.codec.spec, model.arm
        self.controls = Controls(sampler=arm.sampler, guidance=arm.guidance, stereo_width=arm.pseudo_stereo)
        self._chunk_frames = spec.tokens_per_chunk
        self._frame_samples = spec.chunk_samples // spec.tokens_per_chunk
        self._grain_frames = 1 if spec.ordering == "time" else spec.tokens_per_chunk
        self.window_frames = spec.latent_frames(model.window_samples)
        overlap_chunks = max(round(OVERLAP * self.window_frames / self._chunk_frames), 1)
        self.overlap_frames = overlap_chunks * self._chunk_frames

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", brought: Brought | None = None) -> Self:
        """The arm in a model folder. Raises ModelError where a file is missing or not the one that was exported."""
        return cls(load_model(folder, device, brought or Brought()), device)

    @property
    def clap(self) -> Clap:
        """The embedder that the arm was trained with. Raises ModelError where it was neither exported nor brought."""
        if self.model.clap is None:
            raise ModelError(
                "prompts and references need LAION-CLAP, which this model names and does not hold (see its README.md); "
                "bring its checkpoint and tokenizer, or play without prompt and reference"
            )
        return self.model.clap

    @property
    def loop_bounds_samples(self) -> tuple[int, int]:
        """The shortest and the longest loop: a window must hold its joint and a chunk on either side."""
        spec = self.model.codec.spec
        return self._grain_frames * self._frame_samples, self.model.window_samples - 2 * spec.chunk_samples

    def hear(self, context_SN: Tensor, told: Told = untold) -> Heard:
        """A context (1 or 2, N), encoded once, however many variations are then played to it."""
        samples = context_SN.shape[1]
        return Heard(self._encoded(context_SN, samples, "the context", told), samples, given=True)

    def hear_nothing(self, samples: int) -> Heard:
        """No context, and so many samples to fill."""
        if samples < 1:
            raise ValueError(f"{samples} samples cannot be filled; ask for at least one")
        spec = self.model.codec.spec
        return Heard(torch.zeros(1, spec.latent_width, self._frames(samples), device=self._device), samples, False)

    def style_of_text(self, prompt: str, *, variations: int, seed: int) -> Tensor:
        """CLAP embeddings (B, E) of a prompt: through the bridge another one for each variation, else one for all."""
        text_BE = self.clap.embed_text([prompt]).to(self._device).expand(variations, -1)
        if self.model.bridge is None:
            return text_BE
        return self.model.bridge.sample(text_BE, _generators(seed, variations, "bridge"))

    def style_of_audio(self, reference_SN: Tensor) -> Tensor:
        """The CLAP embedding (1, E) of the first 10 s of a reference (1 or 2, N)."""
        return self.clap.embed_audio(reference_SN[None]).to(self._device)

    @staticmethod
    def interpolate(first_BE: Tensor, second_BE: Tensor, ratio: float) -> Tensor:
        """Embeddings (B, E) between two styles: the first at ratio 0, the second at 1; one broadcasts to many."""
        first_BE, second_BE = torch.broadcast_tensors(first_BE, second_BE)
        return interpolate_clap(first_BE, second_BE, ratio)

    def play(self, heard: Heard, wish: Wish) -> Take:
        """Parts to what is heard."""
        nothing_L = torch.zeros(heard.latent_1CL.shape[-1], dtype=torch.bool, device=self._device)
        return self._take(torch.zeros_like(heard.latent_1CL), nothing_L, heard, wish)

    def vary(self, stem_SN: Tensor, heard: Heard, wish: Wish, *, strength: float) -> Take:
        """A stem (1 or 2, N) played a little differently (s_Var): 0 gives it back through the codec, 1 keeps nothing.

        A stem that ends before the music is silent from there on.
        """
        given_1CL = self._encoded_stem(stem_SN, heard)
        nothing_L = torch.zeros(given_1CL.shape[-1], dtype=torch.bool, device=self._device)
        return self._take(given_1CL, nothing_L, heard, wish, strength=strength)

    def inpaint(self, stem_SN: Tensor, heard: Heard, wish: Wish, *, start_samples: int, stop_samples: int) -> Take:
        """A stem (1 or 2, N) of which a part is made anew, its ends moved outwards to whole grains; the rest stays.

        What stays is the given audio, sample for sample, but for 10 ms at each joint.
        """
        if not 0 <= start_samples < stop_samples <= heard.samples:
            raise ValueError(
                f"the part to be made anew goes from {_seconds(start_samples)} to {_seconds(stop_samples)}, and the "
                f"music from 0 to {_seconds(heard.samples)}; give a part inside the music that ends after it begins"
            )
        given_1CL = self._encoded_stem(stem_SN, heard)
        grain_samples = self._grain_frames * self._frame_samples
        frame_L = torch.arange(given_1CL.shape[-1], device=self._device)
        begin, end = start_samples // grain_samples, -(-stop_samples // grain_samples)
        kept_L = (frame_L < begin * self._grain_frames) | (frame_L >= end * self._grain_frames)
        return self._keeping(stem_SN, kept_L, self._take(given_1CL, kept_L, heard, wish))

    def go_on(self, stem_SN: Tensor, heard: Heard, wish: Wish) -> Take:
        """A stem (1 or 2, N) that ends before the music does, continued to its end from its last whole grain on."""
        if stem_SN.shape[1] >= heard.samples:
            raise ValueError(
                f"the stem lasts {_seconds(stem_SN.shape[1])} and the music {_seconds(heard.samples)}; a stem can be "
                "continued where the music goes on after it"
            )
        given_1CL = self._encoded_stem(stem_SN, heard)
        done = stem_SN.shape[1] // (self._grain_frames * self._frame_samples) * self._grain_frames
        kept_L = torch.arange(given_1CL.shape[-1], device=self._device) < done
        return self._keeping(stem_SN, kept_L, self._take(given_1CL, kept_L, heard, wish))

    def loop(self, heard: Heard, wish: Wish, *, period_samples: int, strength: float = 1.0) -> Take:
        """Loops of exactly `period_samples`, repeated over the music; of a context the first window is heard.

        `strength` is Diff-A-Riff's s_Loop. Ours: a mono arm plays the same loop left and right, for a variation of it
        would not repeat.
        """
        shortest, longest = self.loop_bounds_samples
        if not shortest <= period_samples <= longest:
            raise ValueError(
                f"a loop of {_seconds(period_samples)} was asked for, and this model makes loops of "
                f"{_seconds(shortest)} to {_seconds(longest)}; ask for another number of bars"
            )
        grain = self._grain_frames
        period_frames = -(-period_samples // (grain * self._frame_samples)) * grain
        begin_frames = (self.window_frames - period_frames) // 2 // grain * grain
        first = Heard(heard.latent_1CL[..., : self.window_frames], self.model.window_samples, heard.given)
        made_BCL = loop(
            self.model.denoiser,
            self._conditions(first, wish),
            period_frames=period_frames,
            strength=strength,
            sampler=wish.controls.sampler,
            guidance=wish.controls.guidance,
            generators=_generators(wish.seed, wish.variations, "noise"),
        )
        wish.told(1.0)

        def repeated(audio_SN: Tensor) -> Tensor:
            loop_SN = closed_loop(audio_SN, begin=begin_frames * self._frame_samples, period=period_samples)
            return loop_SN.repeat(1, -(-heard.samples // period_samples))[:, : heard.samples]

        return Take(self._raw(made_BCL)[:, None], first.samples, wish.seed, repeated, None)

    def stem(self, take: Take, variation: int, told: Told = untold) -> Tensor:
        """Audio (2, N) of one variation, counted from 0, within full scale."""
        latent_VCL = take.latent_BVCL[variation]
        variants = [f"{variation + 1}/{index}" for index in range(len(latent_VCL))]
        with torch.inference_mode():
            audio_SN = decode_long(
                self.model.codec,
                latent_VCL,
                samples=take.samples,
                window_samples=self.model.window_samples,
                generators=[_generator(f"{take.seed}/decode/{variant}") for variant in variants],
                told=told,
            )
            return take.finished(audio_SN)

    def _take(self, given_1CL: Tensor, kept_L: Tensor, heard: Heard, wish: Wish, *, strength: float = 1.0) -> Take:
        """All frames but the kept ones made anew, and for a mono arm once more, varied, as the right channel."""
        conditions = self._conditions(heard, wish)
        width = wish.controls.stereo_width
        if width is not None and self.model.codec.spec.audio_channels == 2:
            raise ValueError(f"a stereo width of {width} was asked for, and this model plays stereo; leave it out")

        def made(latent_BCL: Tensor, purpose: str, strength: float, done: float, share: float) -> Tensor:
            return fill(
                self.model.denoiser,
                latent_BCL,
                kept_L,
                conditions,
                window_frames=self.window_frames,
                overlap_frames=self.overlap_frames,
                grain_frames=self._chunk_frames,
                sampler=wish.controls.sampler,
                guidance=wish.controls.guidance,
                generators=_generators(wish.seed, wish.variations, purpose),
                strength=strength,
                told=lambda known: wish.told(done + share * known),
            )

        share = 0.5 if width else 1.0
        variants = [made(given_1CL.expand(wish.variations, -1, -1), "noise", strength, 0.0, share)]
        if width:
            variants.append(made(variants[0], "variation", width, share, share))
        raw_BVCL = torch.stack([self._raw(latent_BCL) for latent_BCL in variants], dim=1)
        return Take(raw_BVCL, heard.samples, wish.seed, lambda audio_SN: audio_SN, None)

    def _keeping(self, stem_SN: Tensor, kept_L: Tensor, take: Take) -> Take:
        """The take with the given audio where its latents were kept."""
        kept_N = kept_L.cpu().repeat_interleave(self._frame_samples)[: take.samples]
        new = torch.nonzero(~kept_N).flatten()
        changed_s = (int(new[0]) / RATE_HZ, (int(new[-1]) + 1) / RATE_HZ)
        given_SN = stem_SN.expand(2, -1)
        return take._replace(finished=lambda made_SN: with_kept(made_SN, given_SN, kept_N), changed_s=changed_s)

    def _conditions(self, heard: Heard, wish: Wish) -> Conditions:
        """What every variation is told; the values of what is absent are never read."""
        count, width = wish.variations, self.model.denoiser.clap_width
        style_BE = torch.zeros(1, width, device=self._device) if wish.style_BE is None else wish.style_BE
        return Conditions(
            heard.latent_1CL.expand(count, -1, -1),
            style_BE.to(self._device).expand(count, -1),
            torch.full((count,), heard.given, device=self._device),
            torch.full((count,), wish.style_BE is not None, device=self._device),
        )

    def _encoded_stem(self, stem_SN: Tensor, heard: Heard) -> Tensor:
        if stem_SN.shape[1] > heard.samples:
            raise ValueError(
                f"the stem lasts {_seconds(stem_SN.shape[1])} and the music only {_seconds(heard.samples)}; "
                "cut the stem, or give a context as long as it"
            )
        return self._encoded(stem_SN, heard.samples, "the stem")

    def _encoded(self, audio_SN: Tensor, samples: int, what: str, told: Told = untold) -> Tensor:
        """Standardised latents (1, C, L) of audio that silence follows up to `samples` and to a whole window."""
        if audio_SN.ndim != 2 or audio_SN.shape[0] not in (1, 2) or not audio_SN.shape[1]:
            raise ValueError(f"{what} has shape {tuple(audio_SN.shape)}; expected (1 or 2 channels, samples > 0)")
        whole = max(samples, self.model.window_samples)
        padded_SN = functional.pad(audio_SN.float(), (0, whole - audio_SN.shape[1]))
        raw_1CL = encode_long(self.model.codec, padded_SN, window_samples=self.model.window_samples, told=told)
        return standardise(raw_1CL, *self.model.statistics).to(self._device)

    def _raw(self, latent_BCL: Tensor) -> Tensor:
        return restore(latent_BCL, *self.model.statistics).float().cpu()

    def _frames(self, samples: int) -> int:
        return self.model.codec.spec.latent_frames(max(samples, self.model.window_samples))


def _generators(seed: int, variations: int, purpose: str) -> list[torch.Generator]:
    """One generator a variation, which is named by its number from 1 on; as `tasks.generate` seeds its candidates."""
    return [_generator(f"{seed}/{purpose}/{number}") for number in range(1, variations + 1)]


def _generator(identity: str) -> torch.Generator:
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(identity.encode()).digest()[:7]))


def _seconds(samples: int) -> str:
    return f"{samples / RATE_HZ:.2f} s"
