"""Long music on the studio's page: heard in pieces without a joint, and never all of it in memory."""

from __future__ import annotations

import math

import pytest
from headless_chromium import chromium
from studio_page import RATE_HZ, drop, serving, tone, visiting

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium is installed")

SECONDS, HERTZ = 65.0, 221.27  # which no piece of ten seconds ends with a whole period of


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A long tone, taken as a stem to change."""
    with (
        serving(tmp_path_factory.mktemp("studio")) as address,
        visiting(address, tmp_path_factory.mktemp("browser")) as page,
    ):
        drop(page, "stem", tone(SECONDS, HERTZ), "tone.wav")
        page.wait("changing !== null && !changing.button.disabled")
        page.run("window.stem = changing.tracks[0]; null")
        yield page


def test_it_can_be_played_before_any_of_it_was_fetched(page):
    assert page.run("stem.clip.pieces.size") == 0 and page.run("changing.duration") == SECONDS
    assert page.run("stem.clip.peaks.length") == 2
    assert page.run("Math.max(...stem.clip.peaks[0])") == pytest.approx(0.3, abs=1e-3)


def test_one_piece_follows_another_without_a_joint(page):
    """A sine is 2 cos(w) times its last sample less the one before; a gap, a jump or a repeat is not."""
    page.run("Mixer.sound().analyser.fftSize = 32768; null")  # 0.7 s at once
    page.run(  # again, where nobody looked while the joint was among them
        "window.heard = new Float32Array(32768); window.caught = false; setInterval(() => { "
        "if (caught) return; if (!changing.run || changing.time() > 10.6) { changing.seek(9.5); changing.play(); } "
        "Mixer.sound().analyser.getFloatTimeDomainData(heard); caught = changing.time() > 10.2; }, 50); null"
    )
    page.wait("caught")
    page.run("changing.pause()")
    worst = page.run(
        f"{{ const turn = 2 * Math.cos(2 * Math.PI * {HERTZ} / {RATE_HZ}); "
        "Math.max(...heard.slice(2).map((one, at) => Math.abs(one - turn * heard[at + 1] + heard[at]))); }"
    )
    assert page.run("Math.max(...heard)") > 0.1
    assert worst < 3 / 32768


def test_only_a_piece_and_its_neighbours_are_kept(page):
    for seconds in (5, 15, 25, 35, 62):
        page.run(f"changing.seek({seconds}); changing.play(); null")
        page.wait(f"changing.sources.length > 0 && changing.time() > {seconds} + 0.05")
        kept = page.run("[...stem.clip.pieces.keys()]")
        assert math.floor(seconds / 10) in kept and len(kept) <= 3
        page.run("changing.pause()")
    page.run("changing.seek(64.5); changing.play(); null")
    page.wait("changing.run === null && changing.time() === 0")  # the end of the last piece
