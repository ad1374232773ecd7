"""Where released weights are to be had: the table `weights.yaml`, and what errors say about a file of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """One published file; `sha256` and `licence` are None where no statement of the publisher is known."""

    name: str
    model: str
    place: str
    licence: str | None
    noncommercial: bool
    sha256: str | None

    def __str__(self) -> str:
        """`codicodec.pt from https://…, licence CC-BY-NC-4.0 (noncommercial), sha256 unknown`."""
        use = " (noncommercial)" if self.noncommercial else ""
        return (
            f"{self.name} from {self.place}, licence {self.licence or 'not stated'}{use}, "
            f"sha256 {self.sha256 or 'unknown'}"
        )


@cache
def known_weights() -> dict[str, WeightsFile]:
    """The table that ships with the package, by file name."""
    return parse_table(files("data_manifests").joinpath("weights.yaml").read_text(encoding="utf-8"))


def parse_table(text: str) -> dict[str, WeightsFile]:
    """The table written in YAML; ValueError where a digest is none, or a field is missing or unknown."""
    table = yaml.safe_load(text)["files"]
    try:
        found = {name: WeightsFile(name=name, **entry) for name, entry in table.items()}
    except TypeError as error:
        raise ValueError(
            f"the table of weights does not describe its files by the same five fields: {error}"
        ) from error
    for entry in found.values():
        if entry.sha256 is not None and not _is_sha256(entry.sha256):
            raise ValueError(
                f"{entry.name} has the sha256 {entry.sha256!r}; expected 64 small hexadecimal digits or null"
            )
    return found


def where_to_get(name: str) -> str:
    """A file of the table, with its place, licence and sha256, as an error about its absence says it."""
    return str(known_weights()[name])


def mistaken_digest(name: str, sha256: str) -> str | None:
    """What to say of a file of a known name and another digest; None where nothing speaks against it.

    A remark and no refusal: no digest of the table was computed by us, a file may be a user's own under the old
    name, and every result carries the digest that was really used.
    """
    known = known_weights().get(name)
    if known is None or known.sha256 in (None, sha256):
        return None
    return (
        f"{name} has sha256 {sha256}, the published file has {known.sha256}: it is damaged or not the same weights; "
        f"the published one is at {known.place}"
    )


def _is_sha256(digits: str) -> bool:
    return len(digits) == 64 and set(digits) <= set("0123456789abcdef")
