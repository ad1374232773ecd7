"""The report's players: shared clips once, heard in time with each other, and without a script too."""

from __future__ import annotations

import re
import time
from pathlib import Path
from string import Template

import numpy as np
import pytest
from headless_chromium import browsing, chromium

import tasks.page_examples
from tasks.audio_bytes import mp3_bytes
from tasks.page_examples import Answer, Clip, Example, example_articles, player_script, player_style, script_digest

RATE_HZ = 48_000


def clip(hertz):
    time_N = np.arange(2 * RATE_HZ) / RATE_HZ
    return np.float32(0.2) * np.sin(2 * np.pi * hertz * time_N, dtype=np.float32)[None].repeat(2, axis=0)


def heard(hertz):
    audio_SN = clip(hertz)
    return Clip(audio_SN=audio_SN, mp3=mp3_bytes(audio_SN))


def answer(arm, hertz, *, inputs="ctx"):
    told = "CLAP cosine 0.50 (rank 3 of 60)."
    return Answer(arm=arm, inputs=inputs, place="the first prompt", told=told, clip=heard(hertz))


@pytest.fixture(scope="module")
def articles():
    answers = (answer("Diff-A-Riff", 330, inputs="CLAP_A"), answer("Diff-A-Riff", 440), answer("C-DiT", 550))
    window, context, real = "heldout-00000001", heard(220), heard(880)
    example = Example(window=window, tags="warm bass", rate_hz=RATE_HZ, context=context, real=real, answers=answers)
    return example_articles([example])


def page_of(articles):
    """The report's own page around the examples alone."""
    source = Path(tasks.page_examples.__file__).with_name("page.html").read_text(encoding="utf-8")
    script = player_script()
    return Template(source).substitute(
        title="A report",
        summary="",
        contents="",
        body=f'<section id="listen"><h2>Candidates to hear and see</h2>{articles}</section>',
        script=script,
        script_digest=script_digest(script),
        player_style=player_style(),
    )


def test_arms_that_answered_one_window_share_its_context_and_its_real_stem(articles):
    assert articles.count("<audio") == 5 and articles.count("<article>") == 1
    sources = re.findall(r'src="(data:audio[^"]+)"', articles)
    assert len(set(sources)) == len(sources) == 5


def test_every_clip_plays_where_no_script_runs(articles):
    assert all("controls" in tag and "src=" in tag for tag in re.findall("<audio[^>]*>", articles))


@pytest.fixture(scope="module")
def page(articles, tmp_path_factory):
    """A browser."""
    if chromium() is None:
        pytest.skip("no Chromium is installed")
    home = tmp_path_factory.mktemp("browser")
    (home / "page.html").write_text(page_of(articles), encoding="utf-8")
    with browsing(home) as page:
        page.home = home
        yield page


@pytest.fixture
def shown(page):
    """Shows the page at a width, with its one mixer drawn."""

    def show(*, width, dark):
        page.look(width=width, height=900, dark=dark)
        page.open("about:blank#between")
        page.open((page.home / "page.html").as_uri())
        page.wait("Mixer.current && !Mixer.current.button.disabled")
        page.run("window.mixer = Mixer.current; null")

    return show


def test_the_players_of_a_page_without_a_server_are_one_mixer_with_solo_and_mute(page, shown):
    shown(width=360, dark=True)
    assert page.run("document.querySelectorAll('audio').length") == 0
    assert page.run("document.documentElement.scrollWidth") <= 360
    page.run("mixer.button.click()")
    page.wait("mixer.time() > 0.3")
    heard = "mixer.tracks.filter((track) => mixer.heard(track)).map((track) => track.name).join('; ')"
    assert page.run(heard) == "context; real stem"
    page.run("document.querySelector('[aria-label=\"Solo real stem\"]').click()")
    assert page.run(heard) == "real stem"
    page.wait("mixer.tracks.filter((track) => track.node?.gain.value > 0.01).length === 1")
    loud = "{ const { analyser } = Mixer.sound(), heard = new Float32Array(analyser.fftSize); "
    assert page.run(loud + "analyser.getFloatTimeDomainData(heard); Math.max(...heard); }") > 0.05


def test_keys_play_seek_and_step_through_the_candidates_and_open_the_sections_they_come_to(page, shown):
    shown(width=1280, dark=False)
    drawn = "mixer.tracks.map((track) => Boolean(track.wave)).join()"
    assert page.run(drawn) == "true,true,true,true,false"  # a section that is closed costs nothing
    page.key(" ")
    assert page.run("mixer.run === null")  # nobody is at the player, and the page scrolls
    page.run("mixer.element.focus()")
    page.key(" ")
    page.wait("mixer.run !== null && mixer.time() > 0.1")
    page.key("ArrowRight")
    assert page.run("mixer.time()") >= 1.1
    for name in ("from a recording", "from the music", "from the music"):
        page.key("ArrowDown")
        assert page.run("mixer.tracks.filter((track) => mixer.heard(track)).map((track) => track.name)") == [
            "context",
            name,
        ]
    page.wait(f"{drawn} === 'true,true,true,true,true' && mixer.tracks[4].node.gain.value > 0.5")
    page.run("mixer.seek(0)")
    page.wait("mixer.sources.length === 5")
    page.key(" ")
    assert page.run("mixer.run === null")


def test_waveforms_are_as_wide_as_the_player_after_the_screen_and_the_colours_changed_at_once(page, shown):
    shown(width=1280, dark=False)
    widths = "((wave) => [wave.querySelector('canvas').clientWidth, wave.host.clientWidth])"
    for width, dark in ((1280, False), (360, True), (1280, True)):
        page.look(width=width, height=900, dark=dark)
        time.sleep(0.3)  # wavesurfer.js waits for a tenth of a second before it draws anew
        page.wait(
            f"{{ const [drawn, wide] = {widths}(mixer.tracks[0].canvas.firstChild.shadowRoot); "
            f"innerWidth === {width} && Math.abs(drawn - wide) <= 1 }}"
        )
