"""The page of a blind test in a real browser: it plays, keeps what was rated, and saves a file that is read."""

import json
import time

import numpy as np
import pytest
from headless_chromium import browsing, chromium

from tasks.blind_answers import read_answers
from tasks.blind_key import AskedWindow, Key, deal
from tasks.blind_page import write_test

SYSTEMS = ("+DiT / ctx", "C-DiT / ctx")


class Tones:
    def context(self, window):
        return np.full((2, 96_000), 0.1, np.float32) * np.sin(np.arange(96_000) / 35, dtype=np.float32)

    def stem(self, system, window):
        return np.full((2, 96_000), 0.1, np.float32) * np.sin(np.arange(96_000) / 20, dtype=np.float32)


@pytest.fixture(scope="module")
def key():
    windows = [AskedWindow(key=f"w-{number}", track=f"song_{number}", anchor="w-0") for number in range(2)]
    return Key(report="r", systems=SYSTEMS, seed=0, trials=deal(windows, SYSTEMS, seed=0))


@pytest.mark.skipif(chromium() is None, reason="no Chromium is installed")
def test_the_page_plays_keeps_its_ratings_and_saves_answers_that_are_read(key, tmp_path):
    write_test(tmp_path / "test", key, Tones())
    address = (tmp_path / "test" / "for-listeners" / "index.html").as_uri()
    with browsing(tmp_path) as page:
        page.open(address)
        page.run("byId('listener').value = 'Ada'; byId('begin').click()")
        page.run("document.querySelectorAll('#stems button')[0].click()")
        page.wait("current !== null && sounds.get(current).currentTime > 0.2")
        page.run("document.querySelectorAll('#stems button')[2].click()")
        # The other stem goes on where the first one was.
        page.wait("[...sounds.values()].filter((sound) => !sound.paused).length === 1")
        assert page.run("current.slice(-1)") == "b"
        page.wait("sounds.get(current).currentTime > 0.3")
        assert page.run("byId('next').disabled")
        rate = "[...document.querySelectorAll('#stems input')].forEach((slider, place) => "
        rate += "{ slider.value = 20 * place + 7; slider.dispatchEvent(new Event('input')); })"
        page.run(rate)
        page.run("byId('next').click()")
        page.open(address)  # as if the browser had been closed
        page.run("byId('begin').click()")
        assert page.run("byId('heading').textContent") == "Piece 2 of 2"
        page.run(rate)
        page.run("byId('next').click()")
        page.run("byId('save').click()")
        saved = tmp_path / "downloads" / "answers-Ada.json"
        until = time.monotonic() + 10
        while not saved.exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert page.run("byId('problem').textContent") == ""
    ratings = read_answers([saved], key)
    assert sorted(ratings["score"].to_list()) == [7, 7, 27, 27, 47, 47, 67, 67]
    told = json.loads(saved.read_text(encoding="utf-8"))
    assert sorted(told["order"]) == ["01", "02"]
    assert sum(rating["plays"] for rating in told["ratings"]) == 2


@pytest.mark.skipif(chromium() is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_is_no_wider_than_the_screen(key, tmp_path, width):
    write_test(tmp_path / "test", key, Tones())
    with browsing(tmp_path) as page:
        page.look(width=width, height=800, dark=True)
        page.open((tmp_path / "test" / "for-listeners" / "index.html").as_uri())
        page.run("byId('listener').value = 'Ada'; byId('begin').click()")
        assert page.run("document.documentElement.scrollWidth") <= width
