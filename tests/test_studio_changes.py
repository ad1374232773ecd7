"""Changes of a stem on the studio's page: redone in part, varied, continued; loops; styles between sounds."""

from __future__ import annotations

from io import BytesIO
from urllib.request import urlopen

import numpy as np
import pytest
import soundfile
from headless_chromium import chromium
from studio_page import RATE_HZ, SECONDS, drop, picture, played, press, serving, tone, visiting

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium is installed")

PROMPT = "warm bass, slow"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("studio")) as address:
        yield address


@pytest.fixture(scope="module")
def page(address, tmp_path_factory):
    """The page with a song dropped and two variations on it."""
    with visiting(address, tmp_path_factory.mktemp("browser")) as page:
        drop(page, "context", tone(), "song.wav")
        page.wait("chosen.context !== null")
        played(page, 2, PROMPT)
        yield page


def stem(page, address, number=1):
    """The opened playing's stem (N, 2)."""
    return audio(address, page.run("opened"), number)


def audio(address, playing, number):
    return soundfile.read(BytesIO(urlopen(f"{address}playings/{playing}/variation-{number}.wav").read()))[0]


def history(page):
    """What the history says was done to a stem in the last playing."""
    return page.run("document.querySelector('#history li').querySelectorAll('.soft')[1].textContent")


def take_up(page, label):
    """Press what chooses a stem, and wait until it can be changed."""
    page.run("window.was = changing; null")
    press(page, label)
    page.wait("changing !== null && changing !== was && !changing.button.disabled")


@pytest.fixture(scope="module")
def changing(page):
    """The second variation taken up to be changed."""
    page.run("window.source = opened")
    take_up(page, "Change Variation 2")
    return page


def drag(page, begin, end):
    """A drag of the mouse over the stem's waveform, from one share of its width to another."""
    left, top, width = page.run(
        "{ byId('stem-player').scrollIntoView(); const { left, top, width, height } = "
        "changing.tracks.at(-1).canvas.getBoundingClientRect(); [left, top + height / 2, width]; }"
    )
    page.run(  # until the release was heard of, wavesurfer.js takes any click for the end of the drag
        "window.dragged = false; addEventListener('pointerup', () => setTimeout(() => { dragged = true; }, 50), "
        "{ once: true, capture: true })"
    )
    steps = [("mousePressed", begin), *(("mouseMoved", begin + (end - begin) * i / 9) for i in range(10))]
    for kind, share in (*steps, ("mouseReleased", end)):
        page.ask(
            "Input.dispatchMouseEvent", type=kind, x=left + share * width, y=top, button="left", buttons=1, clickCount=1
        )
    page.wait("dragged")


def test_a_variation_is_taken_up_with_all_that_it_was_played_with(changing):
    assert changing.run("chosen.context.name") == "song.wav" and changing.run("byId('prompt').value") == PROMPT
    assert changing.run("byId('stem-name').textContent").startswith("variation 2 of ")
    assert changing.run("changing.tracks.map((track) => track.name).join()") == "Your music,The stem"
    assert changing.run("document.activeElement.id") == "change-title"


def test_a_part_that_is_marked_on_the_waveform_is_redone_and_the_rest_stays(changing, address):
    before = audio(address, changing.run("source"), 2)
    drag(changing, 0.25, 0.5)
    changing.wait("Math.abs(byId('start_s').value - 0.5) < 0.05 && Math.abs(byId('stop_s').value - 1) < 0.05")
    assert changing.run("marks.getRegions().length") == 1
    drag(changing, 0.7, 0.8)  # another mark takes the place of the first
    changing.wait("Math.abs(byId('start_s').value - 1.4) < 0.05")
    changing.run(
        "byId('start_s').value = 0.5; byId('stop_s').value = 1; byId('stop_s').dispatchEvent(new Event('input'))"
    )
    assert changing.run("marks.getRegions().map(({ start, end }) => [start, end]).join()") == "0.5,1"
    played(changing, 1, PROMPT, button="do")
    after = stem(changing, address)
    same = np.isclose(before, after, atol=2 / 32768).all(axis=1)
    assert same[: round(0.4 * RATE_HZ)].all() and same[round(1.1 * RATE_HZ) :].all()
    assert same[round(0.55 * RATE_HZ) : round(0.95 * RATE_HZ)].mean() < 0.5
    assert history(changing).startswith("0:00.5 to 0:01.0 redone in variation 2 of ")


def test_what_was_changed_can_be_repeated_when_its_source_is_gone(changing, address):
    first = changing.run("opened")
    changing.run("remove(source)")
    changing.wait("document.querySelectorAll('#history li').length === 1")
    press(changing, "Use again: ", "^=")
    assert changing.run("kindOfChange()") == "inpaint" and changing.run("byId('stop_s').value") == "1"
    played(changing, 1, PROMPT, button="do")
    np.testing.assert_array_equal(audio(address, first, 1), stem(changing, address))


def test_a_stem_is_varied_as_much_as_the_slider_says(changing, address):
    """Not at all, and no prompt has a say in it; altogether, and it has."""
    take_up(changing, "Change Variation 1")
    changing.run("document.querySelector('input[value=vary]').click()")
    assert changing.run("marks.getRegions().length") == 0 and changing.run("byId('start_s').disabled")
    for strength, alike in ((0, True), (1, False)):
        changing.run(f"byId('strength').value = {strength}; byId('strength').dispatchEvent(new Event('input'))")
        stems = []
        for prompt in (PROMPT, "bright lead"):
            played(changing, 1, prompt, button="do")
            stems.append(stem(changing, address))
        assert np.array_equal(*stems) is alike
    assert history(changing).endswith(" varied by 100 %")


def test_a_dropped_stem_is_continued_to_the_end_of_the_music(changing, address):
    drop(changing, "stem", tone(1.0), "my bass.wav")
    changing.wait("chosen.stem?.name === 'my bass.wav'")
    changing.run("document.querySelector('input[value=continue]').click()")
    played(changing, 1, PROMPT, button="do")
    assert len(stem(changing, address)) == round(SECONDS * RATE_HZ)
    assert history(changing) == "my bass.wav continued"


def test_a_stem_that_cannot_be_continued_is_refused_in_words(changing):
    drop(changing, "stem", tone(3.0), "long.wav")
    changing.wait("chosen.stem?.name === 'long.wav'")
    changing.run("byId('do').click()")
    changing.wait("document.querySelector('#jobs .problem')?.textContent")
    said = changing.run("document.querySelector('#jobs .problem').textContent")
    assert said.startswith(
        "the stem lasts 3.00 s and the music 2.00 s; a stem can be continued where the music goes on"
    )
    changing.run("document.querySelector('#jobs button').click()")
    changing.wait("document.querySelectorAll('#jobs li').length === 0")


def test_a_loop_repeats_exactly(changing, address):
    changing.run("byId('leave').click(); byId('bars').value = 1; byId('tempo').value = 360")  # two thirds of a second
    played(changing, 1, PROMPT)
    period = round(RATE_HZ * 4 * 60 / 360)
    made = stem(changing, address)
    np.testing.assert_array_equal(made[:period], made[period : 2 * period])
    assert history(changing) == "a loop of 1 bar at 360 beats a minute"
    changing.run("byId('bars').value = ''")


def test_a_style_lies_between_two_sounds_and_has_no_words(changing):
    for part in ("reference", "second"):
        drop(changing, part, tone(1.0), f"{part}.wav")
        changing.wait(f"chosen.{part} !== null")
    assert changing.run("byId('prompt').disabled")
    changing.run("byId('ratio').value = 0.25")
    played(changing, 1)
    assert changing.run("byId('title').textContent") == "a part between your two recordings to song.wav"
    press(changing, "Use again: ", "^=")
    assert changing.run("byId('ratio').value") == "0.25" and changing.run("chosen.second.name") == "second.wav"
    changing.run("choose('second', null)")
    assert not changing.run("byId('prompt').disabled")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_change_fits_the_screen_and_every_control_has_a_name(changing, width, dark):
    changing.look(width=width, height=800, dark=dark)
    take_up(changing, "Change Variation 1")
    changing.run("useChange({ kind: 'inpaint', start_s: 0.4, stop_s: 1.1 })")
    picture(changing, f"change-{'dark' if dark else 'light'}-{width}", width, dark)
    assert changing.run("document.documentElement.scrollWidth") <= width
    nameless = "(one) => !(one.ariaLabel || one.labels?.length || one.textContent.trim())"
    assert changing.run(f"[...document.querySelectorAll('button, input, textarea')].filter({nameless}).length") == 0
