"""A blind listening test as a folder: one page, its sounds, and apart from them the key."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from string import Template

from tasks.blind_key import KEY, Key, Trial
from tasks.blind_sounds import Sounds, trial_sounds, write_sounds
from tasks.whole_files import write_whole

LISTENERS = "for-listeners"
PAGE = "index.html"
ANSWERS_SCHEMA = "stemwright.blind-answers/1"


def write_test(out: Path, key: Key, sounds: Sounds) -> float:
    """Write `for-listeners/` (the page and `audio/`) and beside it `key.json`; the loudness of the sounds in LUFS.

    The key comes last: a folder without one is no test yet. Raises ValueError where the folder is in use.
    """
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; give a new folder, so that no sounds of another test lie among these")
    given = out / LISTENERS
    lufs = write_sounds(
        given / "audio", lambda: (sound for trial in key.trials for sound in trial_sounds(sounds, trial))
    )
    write_whole(given / PAGE, render_page(key.digest, key.trials).encode())
    write_whole(out / KEY, key.data())
    return lufs


def render_page(digest: str, trials: Sequence[Trial]) -> str:
    """The page as HTML. It holds trials and letters, and of the key nothing but its digest."""
    source = Path(__file__).with_name("blind_page.html").read_text(encoding="utf-8")
    plan = {
        "schema": ANSWERS_SCHEMA,
        "test": digest,
        "trials": [{"name": trial.name, "letters": sorted(trial.stimuli)} for trial in trials],
    }
    return Template(source).substitute(plan=json.dumps(plan), script_digest=_script_digest(source))


def _script_digest(source: str) -> str:
    """The digest by which the page lets this one script run and no other."""
    found = re.search(r"<script>(.*?)</script>", source, flags=re.DOTALL)
    assert found is not None, "blind_page.html has no script"
    return "sha256-" + base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
