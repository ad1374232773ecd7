"""The report's players: shared clips once, heard in time with each other, and without a script too."""

from __future__ import annotations

import re
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
    answers = (answer("Diff-A-Riff", 330, inputs="CLAP_A"), answer("+DiT", 440), answer("C-DiT", 550))
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


@pytest.mark.skipif(chromium() is None, reason="no Chromium is installed")
def test_the_players_of_a_page_without_a_server_are_one_mixer_with_solo_and_mute(articles, tmp_path):
    (tmp_path / "page.html").write_text(page_of(articles), encoding="utf-8")
    with browsing(tmp_path) as page:
        page.look(width=360, height=900, dark=True)
        page.open((tmp_path / "page.html").as_uri())
        page.wait("waiting.size === 1 && [...waiting.values()].every((mixer) => !mixer.button.disabled)")
        assert page.run("document.querySelectorAll('audio').length") == 0
        assert page.run("document.documentElement.scrollWidth") <= 360
        page.run("window.mixer = [...waiting.values()][0]; mixer.button.click()")
        page.wait("mixer.time() > 0.3")
        heard = "mixer.tracks.filter((track) => mixer.heard(track)).map((track) => track.name).join('; ')"
        assert page.run(heard) == "context; Diff-A-Riff / CLAP_A, the first prompt"
        page.run("document.querySelector('[aria-label=\"Solo real stem\"]').click()")
        assert page.run(heard) == "real stem"
        page.wait("mixer.tracks.filter((track) => track.node.gain.value > 0.01).length === 1")
        loud = "{ const { analyser } = Mixer.sound(), heard = new Float32Array(analyser.fftSize); "
        assert page.run(loud + "analyser.getFloatTimeDomainData(heard); Math.max(...heard); }") > 0.05
