"""General MIDI in our words: what a program number plays, read from the table `general_midi.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import yaml

from data_manifests.schema import ROLES

PROGRAMS = 128


class Program(NamedTuple):
    """What people call a sound, the family it belongs to, and its role."""

    name: str
    family: str
    role: str

    @property
    def is_vocal(self) -> bool:
        return self.role == "vocal"


@dataclass(frozen=True, kw_only=True)
class GeneralMidi:
    """The 128 programs, the kits of the drum channel, and the programs that the embedded corpus' players take."""

    programs: tuple[Program, ...]
    kits: dict[int, str]
    house_instruments: dict[str, int]

    def kit(self, program: int) -> Program:
        """The drum kit of a program number; what no table names is the standard kit."""
        return Program(self.kits.get(program, self.kits[0]), "drums", "drums")


@cache
def general_midi() -> GeneralMidi:
    """The table that ships with the package."""
    return parse_table(files("data_manifests").joinpath("general_midi.yaml").read_text(encoding="utf-8"))


def parse_table(text: str) -> GeneralMidi:
    """The table written in YAML; ValueError where a program is missing, named twice or of an unknown role."""
    table = yaml.safe_load(text)
    programs = tuple(Program(*row) for row in table["programs"])
    names = {program.name for program in programs}
    if len(programs) != PROGRAMS or len(names) != PROGRAMS:
        raise ValueError(f"{len(programs)} programs of {len(names)} names; expected {PROGRAMS}, each named differently")
    unknown = sorted({program.role for program in programs} - set(ROLES))
    if unknown:
        raise ValueError(f"the General MIDI table names the roles {unknown}; expected some of {', '.join(ROLES)}")
    return GeneralMidi(programs=programs, kits=dict(table["kits"]), house_instruments=dict(table["house_instruments"]))
