import os

import pytest

from tasks.digests import FileDigests
from tasks.walk import list_corpus_folder, walk_corpus

AWKWARD = [
    "~ beside the songs, sorted behind them.wav",
    "song & more/it's (a) test.wav",
    "song & more/PAD + BASS.wav",
    "Åse – Étude №5/クラリネット.flac",
    "quotes \" and 'such'/new\nline.wav",
    "$HOME;rm -rf/-n.wav",
    "back\\slash/tab\there.wav",
    " leading and trailing /.. dots...wav.wav",
    "emoji 🎸/%s %d {x}.wav",
]


def test_every_awkward_name_is_found_and_read(tmp_path):
    for name in AWKWARD:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = walk_corpus(tmp_path)
    assert found.files == sorted(AWKWARD) and found.unreadable == ()
    digests = FileDigests(tmp_path.with_name("digests.json")).of(tmp_path, found.files)
    assert len({digest for digest in digests.values() if isinstance(digest, str)}) == len(AWKWARD)


def test_a_name_that_is_no_text_is_reported_in_a_form_that_is(tmp_path):
    (tmp_path / "song").mkdir()
    (tmp_path / "song" / "bass.wav").write_text("x")
    with open(os.fsencode(tmp_path / "song") + b"/caf\xe9.wav", "w"):  # noqa: PTH123  # Latin-1, from an old disk
        pass
    found = walk_corpus(tmp_path)
    assert found.files == ["song/bass.wav"]
    assert found.unreadable[0].path == r"song/caf\xe9.wav" and "rename" in found.unreadable[0].reason
    assert found.unreadable[0] in list_corpus_folder(tmp_path, "plain").left_out


def test_a_link_back_up_ends_and_a_folder_linked_twice_counts_once(tmp_path):
    (tmp_path / "song").mkdir()
    (tmp_path / "song" / "bass.wav").write_text("x")
    (tmp_path / "song" / "up").symlink_to(tmp_path)
    (tmp_path / "song" / "self").symlink_to(tmp_path / "song" / "self")
    (tmp_path / "again").symlink_to(tmp_path / "song")
    names = walk_corpus(tmp_path).files
    assert [name for name in names if name.endswith("bass.wav")] == ["again/bass.wav"]


def test_what_is_no_file_to_read_is_named_with_the_reason(tmp_path):
    (tmp_path / "nowhere.wav").symlink_to(tmp_path / "gone.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    digests = FileDigests().of(tmp_path, walk_corpus(tmp_path).files)
    assert "no such file" in digests["nowhere.wav"].reason and "no regular file" in digests["pipe.wav"].reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_reported(tmp_path):
    (tmp_path / "locked").mkdir(mode=0)
    (item,) = walk_corpus(tmp_path).unreadable
    assert item.path == "locked" and "Permission denied" in item.reason


def test_an_error_of_the_disk_is_reported_for_the_folder_it_struck(tmp_path, monkeypatch):
    (tmp_path / "song").mkdir()
    true_scandir = os.scandir

    def scandir(path):
        if str(path).endswith("song"):
            raise PermissionError(13, "Permission denied", str(path))
        return true_scandir(path)

    monkeypatch.setattr(os, "scandir", scandir)
    (item,) = walk_corpus(tmp_path).unreadable
    assert item.path == "song" and "Permission denied" in item.reason


def test_digests_follow_a_file_that_changes_even_where_its_time_does_not(tmp_path):
    (tmp_path / "a.wav").write_text("one")
    digests = FileDigests(tmp_path / "store" / "digests.json")
    first = digests.of(tmp_path, ["a.wav"])
    digests.save()
    stat = (tmp_path / "a.wav").stat()
    (tmp_path / "a.wav").write_text("two")
    os.utime(tmp_path / "a.wav", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again = FileDigests(tmp_path / "store" / "digests.json")
    assert again.of(tmp_path, ["a.wav"]) != first
