"""What a reader must know before believing a number: where it comes from, and why it is not the paper's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from metrics.protocol import Protocol


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The circumstances of one table, in words a person reads; the embedder and the sizes are the protocol's.

    `codecs` names the codec of each arm (`+DiT`: `spectral, stereo`); `code_version` is the commit, marked when the
    tree was dirty; digests are those of the artifacts. `scale` is empty where no study was run: the audio was given.
    `secondary` has the digest of the weights of each embedder that gives a secondary FAD.
    """

    name: str
    scale: str
    corpus: str
    corpus_digest: str
    codecs: dict[str, str]
    seed: int
    code_version: str
    secondary: Mapping[str, str] = field(default_factory=dict)

    @property
    def codec(self) -> str:
        """All codecs of the table in one phrase."""
        names = list(dict.fromkeys(self.codecs.values()))
        return names[0] if len(names) == 1 else "; ".join(f"{name} ({self._arms(name)})" for name in names)

    def _arms(self, codec: str) -> str:
        return ", ".join(arm for arm, name in self.codecs.items() if name == codec)


def caption_lines(provenance: Provenance, protocol: Protocol, *, spread: bool) -> tuple[str, ...]:
    """What stands above a table of scores: what it is of, the codec if there is one, the embedder, and the sizes."""
    of = f"Table 1, scale {provenance.scale}: {provenance.corpus}" if provenance.scale else provenance.corpus
    codec = (f"codec: {provenance.codec}",) if provenance.codecs else ()
    shown = "mean ± standard deviation over batches" if spread and protocol.batches > 1 else "mean over batches"
    stranger = "" if in_papers_space(protocol) else ": not the paper's, compare rows with rows and not with its values"
    others = (
        f"secondary FAD in the space of {name}, weights {digest[:12]}: no column of the paper"
        for name, digest in provenance.secondary.items()
    )
    return (of, *codec, f"embedder: {embedder_name(protocol)}{stranger}", *others, f"{sizes(protocol)}; {shown}")


def embedder_name(protocol: Protocol) -> str:
    """The judge in one phrase: `small CLAP, 128-d, weights 1f2e3d4c5b6a`."""
    digest = protocol.space.weights_sha256[:12]
    return f"{protocol.space.name}, {protocol.space.width}-d" + (f", weights {digest}" if digest else "")


def sizes(protocol: Protocol) -> str:
    """How many candidates met how many references."""
    batches = "1 batch" if protocol.batches == 1 else f"{protocol.batches} batches"
    return f"{batches} of {protocol.batch_size:,} candidates against {protocol.reference_size:,} references"


def in_papers_space(protocol: Protocol) -> bool:
    """Whether the embedder is of the paper's kind: LAION CLAP, 512-d. Which of its checkpoints, the paper omits."""
    return protocol.space.name.lower().startswith("laion") and protocol.space.width == 512


def why_not_the_papers(provenance: Provenance, protocol: Protocol) -> tuple[str, ...]:
    """Each reason why a figure of ours may not be compared with the paper's as if both measured the same thing."""
    reasons = [
        f"The corpus is {provenance.corpus}; the paper's is a proprietary one of over 20,000 recordings.",
        f"The codec is {provenance.codec}; the paper's are Music2Latent (Diff-A-Riff) and Music2Latent2 (all others) "
        "as their authors trained them.",
    ]
    if not in_papers_space(protocol):
        reasons.append(
            f"The embedder is {embedder_name(protocol)}; the paper measures in LAION CLAP, 512-d. "
            "No score of one space can be compared with a score of another, not even its order of magnitude."
        )
    if (protocol.batches, protocol.batch_size, protocol.reference_size) != _PAPERS_SIZES:
        reasons.append(
            f"Sizes are {sizes(protocol)}; the paper's are 5 batches of 1,000 against 5,000. "
            "FAD grows and coverage falls with fewer candidates."
        )
    reasons.append("The paper does not state k for coverage and density; k = 2 is inferred from the authors' code.")
    if provenance.scale != "paper":
        reasons.append(
            f"Networks and training are those of scale “{provenance.scale}”. At this size the order of the arms is "
            "not expected to be the paper's."
        )
    return tuple(reasons)


_PAPERS_SIZES = (5, 1000, 5000)  # paper §4.2
