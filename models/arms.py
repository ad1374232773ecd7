"""The five arms of Table 1: a ladder, each one step from an earlier one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from models import dit, music2latent, music2latent2, unet
from models.batch import StyleSource
from models.bridge import BridgeRecipe
from models.codecs import CodecRecipe
from models.conditioning import ClapSource, Conditioning
from models.consistency import ConsistencyObjective
from models.dit import DiTRecipe
from models.edm import EdmObjective
from models.sampling import ConsistencySampler, Guidance, HeunSampler, Sampler
from models.training import TrainingRecipe
from models.unet import UNetRecipe


@dataclass(frozen=True, kw_only=True)
class DenoiserRecipe:
    """All that determines a checkpoint, but for the data. `start` is the recipe whose weights it is tuned from.

    Departure: the paper states neither dropout; both are ours, since all four combinations are evaluated. So are
    `weigh_channels_by_std` and `start`, of which its own arms make no use.
    """

    codec: CodecRecipe
    network: UNetRecipe | DiTRecipe
    objective: EdmObjective | ConsistencyObjective
    training: TrainingRecipe
    style: StyleSource
    context_dropout: float = 0.25
    clap_dropout: float = 0.25
    weigh_channels_by_std: bool = False
    start: DenoiserRecipe | None = None


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One block of Table 1: a denoiser, perhaps a bridge, how they are sampled, and the rows they fill.

    `pseudo_stereo` is the strength of the variation that a mono arm decodes as its second channel, or None. Codecs,
    batch sizes and five steps are the paper's (§4), guidance of 1.25 and the stereo strength of 0.4 its predecessor's
    companion page's; where the paper is silent, the recipes of network, objective, sampler and training say so.
    """

    name: str
    differs_by: str
    denoiser: DenoiserRecipe
    bridge: BridgeRecipe | None
    sampler: Sampler
    guidance: Guidance
    pseudo_stereo: float | None
    conditionings: tuple[Conditioning, ...]


def _row(clap: ClapSource | None, context: bool) -> Conditioning:
    return Conditioning(clap=clap, context=context)


SIX_ROWS = (
    _row(ClapSource.AUDIO, True),
    _row(ClapSource.TEXT, True),
    _row(None, True),
    _row(ClapSource.AUDIO, False),
    _row(ClapSource.TEXT, False),
    _row(None, False),
)
BRIDGE_ROWS = (
    _row(ClapSource.BRIDGE, True),
    _row(ClapSource.TEXT, True),
    _row(ClapSource.BRIDGE, False),
    _row(ClapSource.TEXT, False),
)

DIFF_A_RIFF = Arm(
    name="Diff-A-Riff",
    differs_by="the original: mono Music2Latent, U-Net, CLAP of the target window itself",
    denoiser=DenoiserRecipe(
        codec=music2latent.BASE,
        network=unet.PAPER,
        objective=EdmObjective(),
        training=TrainingRecipe(batch_size=256),
        style=StyleSource.TARGET_WINDOW,
    ),
    bridge=None,
    sampler=HeunSampler(),
    guidance=Guidance(context=1.25, clap=1.25),
    pseudo_stereo=0.4,
    conditionings=SIX_ROWS,
)

PLUS_M2L2 = replace(
    DIFF_A_RIFF,
    name="+M2L2",
    differs_by="stereo Music2Latent2; CLAP of a random other segment of the stem (the leak closed)",
    denoiser=replace(DIFF_A_RIFF.denoiser, codec=music2latent2.BASE, style=StyleSource.OTHER_SEGMENT),
    pseudo_stereo=None,
)

PLUS_DIT = replace(
    PLUS_M2L2,
    name="+DiT",
    differs_by="a diffusion transformer instead of the U-Net; batch 128",
    denoiser=replace(PLUS_M2L2.denoiser, network=dit.PAPER, training=TrainingRecipe(batch_size=128)),
)

PLUS_CLAP_BETA = replace(
    PLUS_DIT,
    name="+CLAP_beta",
    differs_by="the same trained denoiser, with a bridge from text to audio CLAP",
    bridge=BridgeRecipe(),
    conditionings=BRIDGE_ROWS,
)

C_DIT = replace(
    PLUS_DIT,
    name="C-DiT",
    differs_by="the transformer trained with the consistency objective; five sampling steps, batch 16",
    denoiser=replace(PLUS_DIT.denoiser, objective=ConsistencyObjective(), training=TrainingRecipe(batch_size=16)),
    sampler=ConsistencySampler(),
    guidance=Guidance(context=1.0, clap=1.0),  # ours: the paper says that it helps less and gives no scale
)

ARMS = (DIFF_A_RIFF, PLUS_M2L2, PLUS_DIT, PLUS_CLAP_BETA, C_DIT)

ONE_STEP_FROM = {
    PLUS_M2L2.name: DIFF_A_RIFF.name,
    PLUS_DIT.name: PLUS_M2L2.name,
    PLUS_CLAP_BETA.name: PLUS_DIT.name,
    C_DIT.name: PLUS_DIT.name,
}
"""The arm that each arm differs from by one step."""


def arm_named(name: str) -> Arm:
    """The paper's arm of that name, whatever its case and leading plus. Raises ValueError naming those there are."""
    for arm in ARMS:
        if _plain(arm.name) == _plain(name):
            return arm
    raise ValueError(f"there is no arm {name!r}; the arms are {', '.join(arm.name for arm in ARMS)}")


def _plain(name: str) -> str:
    return name.casefold().lstrip("+").replace("-", "").replace("_", "")
