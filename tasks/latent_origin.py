"""Which codec latents are of, followed back through the records of the results that were made from them.

Two codecs may agree in every shape: nothing but its origin tells a latent of one from a latent of the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tasks.artifact import Artifact
from tasks.store import RECORD

MADE_FROM = ("latents", "data")  # the inputs by which encoded latents are handed on: to packs, and on to networks


def codec_of(artifact: Artifact) -> str | None:
    """The digest of the codec behind encoded or packed latents, or behind a denoiser; None where no record tells."""
    if artifact.stage == "codec":
        return artifact.digest
    path = artifact.path / RECORD
    if not path.exists():  # brought along, not built
        return None
    inputs: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["inputs"]
    if "codec" in inputs:
        return str(inputs["codec"]["digest"])
    for told in (inputs[name] for name in MADE_FROM if name in inputs):
        if told["key"] is not None:
            home = artifact.path.parent.parent / told["stage"] / told["key"]
            return codec_of(Artifact(stage=told["stage"], key=told["key"], location=str(home), digest=told["digest"]))
    return None


def require_one_codec(artifacts: Mapping[str, Artifact | None]) -> None:
    """Raise ValueError naming two of the artifacts, given by what they are, that are of different codecs."""
    known = {what: digest for what, artifact in artifacts.items() if artifact and (digest := codec_of(artifact))}
    (first, expected), *others = known.items() or [("", "")]
    for what, digest in others:
        if digest != expected:
            raise ValueError(
                f"{first} and {what} are of different codecs, {expected[:12]} and {digest[:12]}: numbers of one mean "
                "nothing to the other; encode the windows with one codec, and train and decode with that one"
            )
