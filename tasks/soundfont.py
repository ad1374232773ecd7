"""The soundfont player: one MIDI part becomes sound by the `fluidsynth` program and a .sf2 or .sf3 file.

Nothing here is needed for the embedded corpus, which has a renderer of its own; both are brought by the user.
Legend: S channels (2), N samples at 48 kHz, F frames of a file.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import scipy
from numpy.typing import NDArray

from data_manifests.schema import RATE_HZ
from tasks.audio import UnreadableAudio, probe, read_blocks
from tasks.whole_files import file_sha256

PROGRAM = "fluidsynth"
GAIN = 0.6  # reference/datasets.md C.4: louder, and the drums of dense songs clip in 16 bits
QUIETER = (1.0, 0.25, 0.0625)
"""Shares of the gain tried in turn where a build of fluidsynth writes integers and they reach full scale."""
FULL_SCALE = 32767 / 32768
LONGEST_RENDERING_S = 900.0
"""Of wall time for one part, which takes about a hundredth of its own length."""
INAUDIBLE_HZ = 15.0
"""Below is cut off: the warm pad of FluidR3Mono is 80 % direct current, which would be taken for its loudness."""
BLOCK_FRAMES = 1 << 20
INSTALL = "install it (Debian, Ubuntu: apt-get install fluidsynth; macOS: brew install fluid-synth)"
FONTS = "apt-get install fluidr3mono-gm-soundfont puts a free one (MIT) at /usr/share/sounds/sf3/FluidR3Mono_GM.sf3"


class SoundfontError(ValueError):
    """MIDI cannot be played: fluidsynth or the soundfont is missing, or they refuse."""


def soundfont_digest(font: Path) -> str:
    """The sha256 of a soundfont, which must be one: fluidsynth itself plays on without, with a font of its own."""
    try:
        with font.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise SoundfontError(
            f"the soundfont {font} cannot be read ({error.strerror}); give a .sf2 or .sf3 file: {FONTS}"
        ) from error
    if head[:4] != b"RIFF" or head[8:12] != b"sfbk":
        raise SoundfontError(f"{font} is no soundfont: it begins with {head!r}, expected RIFF....sfbk; {FONTS}")
    return file_sha256(font)


def find_soundfont(sha256: str, local_files: Mapping[str, str]) -> Path:
    """The soundfont of this digest among what the user brought along, read once more to be sure."""
    if sha256 not in local_files:
        raise SoundfontError(f"no soundfont with sha256 {sha256[:12]}… was given; name it with --soundfont PATH")
    font = Path(local_files[sha256]).resolve()
    found = soundfont_digest(font)
    if found != sha256:
        raise SoundfontError(f"{font} has sha256 {found[:12]}…, expected {sha256[:12]}…: the file changed; run again")
    return font


def fluidsynth() -> str:
    """The path of the program."""
    found = shutil.which(PROGRAM)
    if found is None:
        raise SoundfontError(f"there is no program {PROGRAM!r} on the PATH, which a soundfont needs; {INSTALL}")
    return found


def fluidsynth_version() -> str:
    """The first line of what the program says of itself, for the record."""
    done = subprocess.run(
        [fluidsynth(), "--version"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    return (done.stdout.splitlines() or ["unknown"])[0].strip()


def play(midi: bytes, font: Path, *, name: str, scratch: Path | None = None) -> NDArray[np.float32]:
    """(2, N) float32 of one MIDI part, dry, with the tail of its last note; it may exceed 1 and is not clipped.

    It passes through files in `scratch`, else in the system's folder for them. SoundfontError names the part `name`
    where fluidsynth fails.
    """
    with tempfile.TemporaryDirectory(prefix="stemwright-midi-", dir=scratch) as folder:
        score, sound = Path(folder, "part.mid"), Path(folder, "part.wav")
        score.write_bytes(midi)
        for share in QUIETER:
            _run(score, sound, font, gain=GAIN * share, name=name)
            audio_SN = _read(sound, name)
            if not _clipped(audio_SN):
                break
        return _without_direct_current(audio_SN) / np.float32(share)


def _run(score: Path, sound: Path, font: Path, *, gain: float, name: str) -> None:
    """One run of the program. It ends with 0 whatever happened, so its complaints decide."""
    settings = score.with_name("settings")
    settings.touch()  # an empty one: the user's own would change the sound
    command = [fluidsynth(), "-ni", "-q", "-f", str(settings), "-R", "0", "-C", "0", "-r", str(RATE_HZ)]
    command += ["-o", "synth.dynamic-sample-loading=1", "-o", "audio.file.format=float", "-g", f"{gain:g}"]
    command += ["-F", str(sound), str(font), str(score)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=LONGEST_RENDERING_S,
        )
    except subprocess.TimeoutExpired as error:
        raise SoundfontError(f"{name}: {PROGRAM} did not end within {LONGEST_RENDERING_S:.0f} s; left out") from error
    complaints = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    if done.returncode or complaints or not sound.is_file():
        said = " / ".join(complaints or done.stderr.splitlines()[-2:]) or "nothing"
        raise SoundfontError(
            f"{name}: {PROGRAM} with the soundfont {font} ended with {done.returncode} and said: {said}; "
            f"try `{PROGRAM} -ni {font}` with this file by hand"
        )


def _read(sound: Path, name: str) -> NDArray[np.float32]:
    try:
        info = probe(sound)
        if info.rate_hz != RATE_HZ or info.channels != 2:
            raise SoundfontError(
                f"{name}: {PROGRAM} wrote {info.channels} channels at {info.rate_hz} Hz; expected 2 at {RATE_HZ}; "
                "update it"
            )
        blocks = [block_FS.T for block_FS in read_blocks(sound, BLOCK_FRAMES)]
    except UnreadableAudio as error:
        raise SoundfontError(f"{name}: {PROGRAM} wrote no whole WAV ({error}); is the disk full?") from error
    return np.concatenate(blocks, axis=1) if blocks else np.zeros((2, 0), np.float32)


def _without_direct_current(audio_SN: NDArray[np.float32]) -> NDArray[np.float32]:
    """The audio above `INAUDIBLE_HZ`; a 40 Hz bass loses a tenth of a decibel."""
    sections = scipy.signal.butter(2, INAUDIBLE_HZ, "highpass", fs=RATE_HZ, output="sos")
    channels = [scipy.signal.sosfilt(sections, channel_N).astype(np.float32) for channel_N in audio_SN]
    return np.stack(channels)


def _clipped(audio_SN: NDArray[np.float32]) -> bool:
    """Whether it looks cut off at full scale, as integers are; floats go on beyond it."""
    peak = float(np.abs(audio_SN).max(initial=0.0))
    return FULL_SCALE <= peak <= 1.0
