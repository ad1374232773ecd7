"""The studio's server: what it keeps, what it refuses, and that nothing is ever half there."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
import threading
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import uvicorn
from fastapi.testclient import TestClient
from tiny_arms import train_arm

from models.accompanist import Accompanist
from tasks import studio_desk, studio_history
from tasks.export_model import export_model
from tasks.play import TOLD
from tasks.play_ask import Ask, Between, GoOn, Inpaint, Loop, Vary
from tasks.studio import serve, studio
from tasks.studio_history import NUMBER, History, file_name, new_number
from tasks.studio_wanted import Wanted

RATE_HZ = 48_000
HERE = "http://127.0.0.1:8321"
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def player(tmp_path_factory):
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("studio")
    export_model(train_arm("+CLAP_beta", place / "workspace"), place / "model", scores=None)
    return Accompanist.load(place / "model")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "history"


@pytest.fixture
def page(player, folder):
    """A client that asks as the studio's own page does."""
    with TestClient(studio(player, History(folder)), base_url=HERE, headers={"Origin": HERE}) as client:
        yield client


def noise(seconds=1.0):
    file = BytesIO()
    audio = 0.1 * np.random.default_rng(0).standard_normal((round(seconds * RATE_HZ), 2))
    soundfile.write(file, audio, RATE_HZ, format="WAV")
    return file.getvalue()


def drop(page, data=None, name="song.wav"):
    return page.post("/sounds", params={"name": name}, content=noise() if data is None else data)


def play(page, **wanted):
    answer = page.post("/playings", json={"variations": 1, "steps": 1} | wanted)
    assert answer.status_code == 202, answer.text
    return answer.json()["number"]


def wait(page, number, state="done", share=None):
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        told = {playing["number"]: playing for playing in page.get("/playings").json()}
        if number in told and told[number]["state"] == state and share in (None, told[number].get("share")):
            return told[number]
        time.sleep(0.02)
    raise AssertionError(f"{number} never became {state}: {told}")


def everything(folder):
    """Every file but the lock, by its path."""
    walked = os.walk(folder)  # rglob would stop at a folder that is removed while it looks
    return {os.path.relpath(Path(at, name), folder) for at, _, names in walked for name in names} - {"lock"}


@pytest.fixture
def held(monkeypatch):
    """Playings stand still after their first word of progress until the event is set."""
    go = threading.Event()

    def slow(player, ask, out, told):
        out.mkdir()
        (out / "half.wav").write_bytes(b"half")
        told("playing", 0.5)
        assert go.wait(PATIENCE_S)
        told("playing", 0.6)
        shutil.rmtree(out)
        return real(player, ask, out, told)

    real = studio_desk.play_along
    monkeypatch.setattr(studio_desk, "play_along", slow)
    yield go
    go.set()


def test_a_playing_is_kept_with_its_scores_its_files_and_what_repeats_it(page, player, folder):
    song, reference = drop(page).json(), drop(page, noise(0.7), "bass i like.wav").json()
    assert song["name"] == "song.wav" and song["seconds"] == 1.0
    asked = {"context": song["sound"], "reference": reference["sound"], "prompt": "warm bass", "seed": 7}
    told = wait(page, play(page, **asked, variations=2, guide_clap=1.5))
    assert told["asked"]["guide_clap"] == 1.5 and told["sounds"][song["sound"]]["name"] == "song.wav"
    stems = []
    for variation in told["variations"]:
        assert -1 <= variation["scores"]["prompt"] <= 1 and len(variation["scores"]["references"]) == 1
        for part in ("stem", "mix"):
            answer = page.get(f"/playings/{told['number']}/{variation[part]}")
            assert f"{told['number']}-{variation[part]}" in answer.headers["content-disposition"]
            audio, rate_hz = soundfile.read(BytesIO(answer.content))
            assert audio.shape == (RATE_HZ, 2) and rate_hz == RATE_HZ
            stems.append(answer.content)
    again = wait(page, play(page, **told["asked"]))
    for variation, number in ((variation, place) for place, variation in enumerate(again["variations"])):
        assert page.get(f"/playings/{again['number']}/{variation['stem']}").content == stems[2 * number]


def test_what_was_played_is_there_when_the_studio_is_started_again(player, folder):
    for expected in (0, 1):
        with TestClient(studio(player, History(folder)), base_url=HERE, headers={"Origin": HERE}) as page:
            assert len(page.get("/playings").json()) == expected
            if not expected:
                number = play(page, context=drop(page).json()["sound"])
                wait(page, number)
                drop(page, noise(0.6), "never played with.wav")
            else:
                assert page.get("/playings").json()[0]["number"] == number
                assert "never played with.wav" not in str(everything(folder))


def test_a_stem_that_is_changed_is_kept_with_the_change_and_its_record_says_where_it_is_from(player, folder):
    with TestClient(studio(player, History(folder)), base_url=HERE, headers={"Origin": HERE}) as page:
        source = play(page, seconds=1.0)
        wait(page, source)
        stem = page.post(f"/playings/{source}/variation-1.wav/sound").json()
        assert stem["name"] == f"{source}-variation-1.wav" and stem["seconds"] == 1.0
        edit = {"kind": "inpaint", "stem": stem["sound"], "start_s": 0.2, "stop_s": 0.4}
        number = play(page, edit=edit)
        assert wait(page, number)["asked"]["edit"] == edit
        page.delete(f"/playings/{source}")
    with TestClient(studio(player, History(folder)), base_url=HERE, headers={"Origin": HERE}) as page:
        again = wait(page, play(page, **wait(page, number)["asked"]))
        first, second = (page.get(f"/playings/{one}/variation-1.wav").content for one in (number, again["number"]))
        assert first == second
    record = json.loads((folder / "playings" / number / TOLD).read_text())
    assert record["stem"]["file"] == stem["name"] and record["edit"]["kind"] == "Inpaint"
    assert record["changed_s"][0] <= 0.2 and record["changed_s"][1] >= 0.4


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [
        (
            {"edit": {"kind": "inpaint", "stem": "c" * 64, "start_s": 1.5, "stop_s": 2.5}},
            {"edit": Inpaint(stem=Path("c" * 64), start_s=1.5, stop_s=2.5)},
        ),
        (
            {"edit": {"kind": "vary", "stem": "c" * 64, "strength": 0.3}},
            {"edit": Vary(stem=Path("c" * 64), strength=0.3)},
        ),
        ({"edit": {"kind": "continue", "stem": "c" * 64}}, {"edit": GoOn(stem=Path("c" * 64))}),
        ({"edit": {"kind": "loop", "bars": 2, "tempo": 120}}, {"edit": Loop(period_s=4.0)}),
        (
            {"between": {"first": "a" * 64, "second": "b" * 64, "ratio": 0.3}},
            {"between": Between(first=Path("a" * 64), second=Path("b" * 64), ratio=0.3)},
        ),
    ],
    ids=["inpaint", "vary", "continue", "loop", "between"],
)
def test_what_the_page_wants_is_what_the_model_is_asked_for(wanted, asked):
    assert Wanted(**wanted).ask(Path) == Ask(**asked, variations=4)


def test_pieces_of_a_clip_are_the_clip_to_the_sample_and_its_waveform_its_largest_magnitudes(page):
    song = drop(page, noise(2.5)).json()["sound"]
    told = page.get(f"/sounds/{song}/waveform").json()
    pieces = [page.get(f"/sounds/{song}/piece", params={"start_s": start, "seconds": 1}) for start in (0, 1, 2)]
    whole = soundfile.read(BytesIO(noise(2.5)))[0]
    heard = np.concatenate([soundfile.read(BytesIO(one.content))[0] for one in pieces])
    np.testing.assert_allclose(heard, whole, atol=2 / 32768)
    step = -(-len(whole) // 2_000)
    peaks = [np.abs(whole[begin : begin + step]).max(axis=0) for begin in range(0, len(whole), step)]
    assert told["duration"] == 2.5
    np.testing.assert_allclose(np.transpose(told["peaks"]), peaks, atol=2e-4)
    for start, seconds in ((2.5, 1), (-1, 1), (0, 0), (0, 1e9)):
        answer = page.get(f"/sounds/{song}/piece", params={"start_s": start, "seconds": seconds})
        assert answer.status_code == 400 and "are no piece of 2.5 s" in answer.json()["detail"]


def test_numbers_of_one_second_sort_by_time_too():
    numbers = [new_number() for _ in range(200)]
    assert numbers == sorted(numbers) and all(re.fullmatch(NUMBER, number) for number in numbers)


def test_only_what_is_in_the_history_can_be_taken_up(page, folder):
    for name in ("variation-1.wav", "play.json", "..%2f..%2flock"):
        assert page.post(f"/playings/20260101-000000-abcdef/{name}/sound").status_code == 404
    assert everything(folder) == set()


def test_a_second_playing_waits_for_the_first_and_can_be_stopped(page, held, folder):
    first, second, third = (play(page, seed=seed) for seed in range(3))
    wait(page, first, "playing")
    states = [playing["state"] for playing in page.get("/playings").json()]
    assert states == ["waiting", "waiting", "playing"]
    assert page.delete(f"/playings/{second}").status_code == 204
    held.set()
    wait(page, third)
    assert {playing["number"] for playing in page.get("/playings").json()} == {first, third}


def test_too_many_that_wait_are_refused_in_words(page, held):
    wait(page, play(page), "playing")
    for _ in range(studio_desk.MOST_WAITING):
        play(page)
    answer = page.post("/playings", json={})
    assert answer.status_code == 429 and "8 playings wait already" in answer.json()["detail"]


def test_stopping_in_the_middle_leaves_nothing_behind(page, held, folder):
    number = play(page)
    wait(page, number, "playing", share=0.5)
    assert any("half.wav" in name for name in everything(folder))
    page.delete(f"/playings/{number}")
    held.set()
    until = time.monotonic() + PATIENCE_S
    while everything(folder) and time.monotonic() < until:
        time.sleep(0.02)
    assert everything(folder) == set() and page.get("/playings").json() == []


def test_a_studio_that_was_killed_in_the_middle_leaves_nothing_behind(folder):
    half = folder / "scratch" / "ab" / "made"
    half.mkdir(parents=True)
    (half / "variation-1.wav").write_bytes(b"half")
    history = History(folder)
    assert everything(folder) == set() and history.playings() == []
    with pytest.raises(ValueError, match="kept by another studio that still runs"):
        History(folder)


def test_a_full_disk_is_said_and_nothing_is_kept(page, folder, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    sound = drop(page).json()["sound"]
    before = everything(folder)
    monkeypatch.setattr("tasks.play.wav_bytes", full)
    failed = wait(page, play(page, context=sound), "failed")
    assert failed["message"] == studio_desk.FULL_DISK
    monkeypatch.setattr(studio_history, "write_flac", full)
    answer = drop(page, noise(0.9))
    assert answer.status_code == 507 and "the disk is full" in answer.json()["detail"]
    assert everything(folder) == before
    assert page.delete(f"/playings/{failed['number']}").status_code == 204
    assert page.get("/playings").json() == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"la la la " * 99, "song.wav: Format not recognised"),
        (b"", "song.wav: "),
        (noise(0.2), "song.wav: the recording lasts 0.20 s; it may last from 0.5 s"),
    ],
    ids=["text", "empty", "0.2 s"],
)
def test_an_unreadable_file_gets_a_sentence_without_our_folders(page, folder, data, message):
    answer = drop(page, data)
    assert answer.status_code == 400 and answer.json()["detail"].startswith(message)
    assert str(folder) not in answer.text and everything(folder) == set()


def test_a_failed_playing_says_why_without_our_folders(page, folder):
    silent = BytesIO()
    soundfile.write(silent, np.zeros((RATE_HZ, 2)), RATE_HZ, format="WAV")
    reference = drop(page, silent.getvalue(), "hush.wav").json()
    assert reference["notes"] == ["the recording is silent"]
    told = wait(page, play(page, reference=reference["sound"]), "failed")
    assert told["message"].startswith("hush.wav: the reference is silent") and str(folder) not in told["message"]


def test_an_upload_that_is_too_large_is_refused_as_it_comes(page, folder, monkeypatch):
    monkeypatch.setattr("tasks.studio.LARGEST_UPLOAD_BYTES", 1 << 20)
    answer = drop(page, b"0" * ((1 << 20) + 1))
    assert answer.status_code == 413 and "more than 1 MB" in answer.json()["detail"]
    assert everything(folder) == set()


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\music\\song.wav", "song.wav"),
        ("..", "recording"),
        ("", "recording"),
        (".bashrc", "bashrc"),
        ("a\0b\n<img src=x>.wav", "a_b__img src_x_.wav"),
        ("Ünïcødé 歌.flac", "Ünïcødé 歌.flac"),
        ("ä" * 300 + ".wav", "ä" * 50 + ".wav"),
    ],
)
def test_a_hostile_name_becomes_only_a_name(page, folder, name, kept):
    assert file_name(name) == kept
    assert drop(page, name=name).json()["name"] == kept
    assert all(path.startswith("sounds/") for path in everything(folder))


@pytest.mark.parametrize(
    "address",
    [
        "/playings/../lock",
        "/playings/%2e%2e/lock",
        "/playings/20260101-000000-abcdef/..%2f..%2flock",
        "/sounds/..%2f..",
        "/sounds/%2e%2e%2flock",
        "/assets/..%2fstudio.py",
        "/assets/../studio.py",
    ],
)
def test_no_address_leads_out_of_the_history(page, address):
    assert page.get(address).status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8321", "127.0.0.1.evil.example", ""])
def test_another_host_name_is_refused_whatever_is_asked(page, host):
    assert page.get("/playings", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:8321"])
def test_another_site_can_have_nothing_done(page, folder, origin):
    for method, address in (("POST", "/playings"), ("POST", "/sounds?name=a.wav"), ("DELETE", "/playings/x")):
        assert page.request(method, address, headers={"Origin": origin}, content=b"{}").status_code == 403
    assert everything(folder) == set() and page.get("/playings").json() == []


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"variations": 99}, "variations: Input should be less than or equal to 8"),
        ({"context": "0" * 64}, "not in the history, or not any more"),
        ({"context": "../../lock"}, "context: String should match pattern"),
        ({"out": "/tmp/x"}, "out: Extra inputs are not permitted"),
        ({"edit": {"kind": "vary", "stem": "/etc/passwd", "strength": 0.5}}, "stem: String should match pattern"),
        ({"edit": {"kind": "vary", "stem": "0" * 64, "strength": 0.5}}, "not in the history, or not any more"),
        ({"edit": {"kind": "loop", "bars": 0, "tempo": 120}}, "bars: Input should be greater than 0"),
        ({"edit": {"kind": "reverse"}}, "'reverse' found using 'kind'"),
        ({"between": {"first": "0" * 64, "second": "0" * 64, "ratio": 2}}, "ratio: Input should be less than"),
    ],
)
def test_what_cannot_be_asked_for_is_said(page, wanted, message):
    answer = page.post("/playings", json=wanted)
    assert answer.status_code in (404, 422) and message in answer.json()["detail"]


def test_the_page_asks_no_other_host_for_anything(page):
    answer = page.get("/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for asset in (
        "studio.css",
        "player.css",
        "player.js",
        "studio.js",
        "change.js",
        "wavesurfer.min.js",
        "wavesurfer.regions.min.js",
    ):
        assert page.get(f"/assets/{asset}").status_code == 200
        assert asset in answer.text
    assert "http://" not in answer.text and "https://" not in answer.text


def test_a_page_that_is_closed_while_it_uploads_leaves_nothing_behind(player, folder, capfd):
    server = uvicorn.Server(uvicorn.Config(studio(player, History(folder)), port=0, log_level="warning"))
    running = threading.Thread(target=server.run)
    running.start()
    while not server.started:
        time.sleep(0.02)
    address = server.servers[0].sockets[0].getsockname()
    own = f"127.0.0.1:{address[1]}"
    with socket.create_connection(address) as page:
        head = f"POST /sounds?name=a.wav HTTP/1.1\r\nHost: {own}\r\nOrigin: http://{own}\r\nContent-Length: 999\r\n\r\n"
        page.sendall(head.encode() + b"RIFF")
        until = time.monotonic() + PATIENCE_S
        while not everything(folder) and time.monotonic() < until:
            time.sleep(0.02)
        assert everything(folder)
    while everything(folder) and time.monotonic() < until:
        time.sleep(0.02)
    server.should_exit = True
    running.join()
    assert everything(folder) == set() and "Traceback" not in capfd.readouterr().err


def test_a_port_that_is_taken_is_said(player, folder):
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ValueError, match=r"cannot be had: .* give another one with --port"),
    ):
        serve(player, folder, taken.getsockname()[1], lambda address: None)
