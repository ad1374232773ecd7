"""Scales, chords and voice leading: from scale degrees to the pitches (MIDI numbers) that players use."""

from __future__ import annotations

from collections.abc import Sequence

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
"""Semitones above the tonic of the seven degrees of each mode."""

PITCH_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def scale_semitones(mode: str, scale_step: int) -> int:
    """Semitones above the tonic of a scale step, which may lie octaves above or below."""
    octave, degree = divmod(scale_step, 7)
    return 12 * octave + SCALES[mode][degree]


def chord_classes(tonic: int, mode: str, degree: int, voices: int) -> tuple[int, ...]:
    """Pitch classes of the chord of stacked thirds on `degree`: 3 voices for a triad, 4 with its seventh."""
    return tuple((tonic + scale_semitones(mode, degree + 2 * voice)) % 12 for voice in range(voices))


def nearest(pitch_class: int, centre: float) -> int:
    """The pitch of this class closest to `centre`."""
    return pitch_class + 12 * round((centre - pitch_class) / 12)


def lead_voices(classes: Sequence[int], previous: Sequence[int], centre: float) -> tuple[int, ...]:
    """The close voicing of a chord, ascending, that moves least from the previous one, near `centre`.

    An inversion is chosen by its distance to the previous chord, plus a pull towards the centre that keeps a long
    song from drifting out of its register.
    """
    inversions = []
    for lowest in range(len(classes)):
        rotated = (*classes[lowest:], *classes[:lowest])
        for octave in (-12, 0, 12):
            voicing = [nearest(rotated[0], centre - 5) + octave]
            for pitch_class in rotated[1:]:
                voicing.append(voicing[-1] + 1 + (pitch_class - voicing[-1] - 1) % 12)
            inversions.append(tuple(voicing))

    def motion(voicing: tuple[int, ...]) -> float:
        mean = sum(voicing) / len(voicing)
        moved = abs(mean - sum(previous) / len(previous)) if previous else 0.0
        return moved + 1.5 * abs(mean - centre)

    return min(inversions, key=motion)
