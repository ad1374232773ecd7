"""The studio's page in a real browser: music is dropped, variations appear and are heard, solo and mute work."""

from __future__ import annotations

import time
from urllib.request import urlopen

import pytest
import soundfile
from headless_chromium import PATIENCE_S, chromium
from studio_page import RATE_HZ, SECONDS, drop, picture, played, press, serving, tone, visiting

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("studio")) as address:
        yield address


@pytest.fixture(scope="module")
def page(address, tmp_path_factory):
    home = tmp_path_factory.mktemp("browser")
    with visiting(address, home) as page:
        page.home = home
        yield page


AT_WORK = "(mixer.run !== null || mixer.toggle())"  # once more, where the clip ended before somebody looked
LOUDNESS = (  # at this moment, by the page's analyser
    "((heard) => { Mixer.sound().analyser.getFloatTimeDomainData(heard); return Math.max(...heard.map(Math.abs)); })"
    "(new Float32Array(Mixer.sound().analyser.fftSize))"
)


@pytest.fixture(scope="module")
def heard(page):
    """The page with a song dropped and three variations on it."""
    drop(page, "context", tone(), "my <i>song.wav")
    page.wait("chosen.context !== null")
    played(page, 3)
    return page


def test_a_dropped_context_gets_variations_with_waveforms_scores_and_no_markup_of_its_own(heard):
    assert heard.run("byId('problem').textContent") == ""
    assert heard.run("mixer.tracks.map((track) => track.name).join()") == (
        "Your music,Variation 1,Variation 2,Variation 3"
    )
    assert heard.run("byId('title').textContent") == "“warm <b>bass</b>, slow” to my _i_song.wav"
    assert heard.run("document.querySelectorAll('.told span')[0].textContent").startswith("like the prompt ")
    drawn = "(one) => one.shadowRoot.querySelector('canvas').width > 100"
    assert heard.run(f"[...document.querySelectorAll('.wave > div')].filter({drawn}).length") == 4
    assert heard.run("document.querySelectorAll('b, i').length") == 0


def test_it_plays_and_solo_mute_level_and_seek_work_on_all_tracks_at_one_time(heard):
    heard.run("mixer.toggle()")
    heard.wait(f"{AT_WORK} && mixer.time() > 0.2 && {LOUDNESS} > 0.05")
    assert heard.run("new Set(mixer.tracks.map((track) => mixer.heard(track))).size") == 2  # one variation at a time
    quiet = "mixer.tracks.map((track) => track.node.gain.value < 1e-3).join()"
    press(heard, "Solo Variation 2")
    heard.wait(f"{quiet} === 'true,true,false,true'")
    press(heard, "Solo Variation 2")
    heard.run("document.querySelectorAll('button.name')[2].click()")  # variation 3 with the music
    heard.wait(f"{quiet} === 'false,true,true,false'")
    press(heard, "Mute Your music")
    press(heard, "Mute Variation 3")
    heard.wait(f"{quiet} === 'true,true,true,true'")
    heard.wait(f"{AT_WORK} && mixer.time() > 0.2 && {LOUDNESS} < 1e-3")
    press(heard, "Mute Your music")
    heard.run(
        "{ const level = document.querySelector('[aria-label=\"Level of Your music\"]'); level.value = -20; "
        "level.dispatchEvent(new Event('input')); }"
    )
    heard.wait("Math.abs(mixer.tracks[0].node.gain.value - 0.1) < 0.01")
    heard.wait("mixer.sources.length === 0 && mixer.time() === 0")  # at the end it goes back
    assert heard.run("mixer.button.textContent") == "Play"


def test_all_clips_start_at_one_time_of_one_clock(heard):
    heard.run(
        "window.starts = []; window.source = AudioBufferSourceNode.prototype; window.start = source.start; "
        "source.start = function (...when) { starts.push(when.join()); start.apply(this, when); }; "
        "mixer.seek(0.5); mixer.toggle()"
    )
    heard.wait("starts.length === 4")
    heard.run("mixer.pause(); source.start = start")
    assert heard.run("starts.length") == 4 and heard.run("new Set(starts).size") == 1


def test_stem_and_mix_are_saved_as_48_khz_stereo_as_long_as_the_music(heard):
    heard.run("[...document.querySelectorAll('.told a')].slice(0, 2).forEach((link) => link.click())")
    number, until = heard.run("opened"), time.monotonic() + PATIENCE_S
    for name in ("variation-1.wav", "mix-1.wav"):
        saved = heard.home / "downloads" / f"{number}-{name}"
        while not saved.exists() and time.monotonic() < until:
            time.sleep(0.05)
        info = soundfile.info(saved)
        assert (info.samplerate, info.channels, info.frames) == (RATE_HZ, 2, round(SECONDS * RATE_HZ))


def test_an_unreadable_file_gets_a_readable_message(heard):
    drop(heard, "reference", b"la la la " * 20, "song.wav")
    heard.wait("byId('problem').textContent !== ''")
    assert heard.run("byId('problem').textContent").startswith("song.wav: Format not recognised")
    picture(heard, "message", 1280, False)
    heard.look(width=1280, height=900, dark=False)
    assert heard.run("chosen.reference") is None and not heard.run("byId('go').disabled")


def test_progress_goes_on_from_listening_to_writing(heard):
    bars = heard.run(
        "['listening', 'playing', 'writing'].flatMap((stage) => [0.1, 0.9].map((share) => { "
        "showJobs([{ number: 'x', state: 'playing', stage, share, message: '', asked: {} }]); "
        "return document.querySelector('#jobs progress').value; }))"
    )
    heard.run("showJobs([])")
    assert bars == sorted(set(bars)) and len(bars) == 6 and bars[0] > 0 and bars[-1] < 1


def test_a_reload_shows_the_history_and_use_again_plays_the_same(heard, address):
    first = heard.run("opened")
    heard.open(address)
    heard.wait("document.querySelectorAll('#history li').length === 1")
    heard.run(
        "[...document.querySelectorAll('#history button')].find((one) => one.textContent === 'Use again').click()"
    )
    assert heard.run("byId('prompt').value") == "warm <b>bass</b>, slow"
    assert heard.run("chosen.context.name").startswith("my ")
    heard.run("byId('go').click()")
    heard.wait("opened !== null && mixer && !mixer.button.disabled")
    second = heard.run("opened")
    assert second != first
    stems = [urlopen(f"{address}playings/{number}/variation-1.wav").read() for number in (first, second)]
    assert stems[0] == stems[1]


def test_closing_the_page_in_the_middle_loses_nothing(heard, address):
    count = heard.run("document.querySelectorAll('#history li').length")
    heard.run("byId('go').click()")
    heard.wait("awaited !== null || opened")
    heard.open("about:blank#closed")
    heard.open(address)
    heard.wait(f"document.querySelectorAll('#history li').length === {count + 1}")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_is_no_wider_than_the_screen_and_every_control_has_a_name(heard, width, dark):
    heard.look(width=width, height=800, dark=dark)
    if heard.run("opened === null"):
        press(heard, "Open: ", "^=")
        heard.wait("mixer && !mixer.button.disabled")
    heard.run("choose('context', { sound: 'x', name: 'song.wav', seconds: 2, notes: ['the recording is clipped'] })")
    picture(heard, f"{'dark' if dark else 'light'}-{width}", width, dark)
    assert heard.run("document.documentElement.scrollWidth") <= width
    nameless = "(one) => !(one.ariaLabel || one.labels?.length || one.textContent.trim())"
    assert heard.run(f"[...document.querySelectorAll('button, input, textarea')].filter({nameless}).length") == 0
