"""Three of the hundred kills of `random_kills.py`, of a run that takes seconds."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = spec_from_file_location("random_kills", Path(__file__).with_name("random_kills.py"))
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_run_killed_three_times_ends_as_if_nothing_had_happened(script: ModuleType, tmp_path: Path) -> None:
    arguments = ("run", "--only", "windows", "--with-inputs", "--scale", "tiny", "--workers", "1")
    counts = script.disturb(arguments, tmp_path, kills=3, seed=1, run=script.run_alone)
    assert sum(counts[kind] for kind in ("moment", "begin", "end")) == 3


def test_a_result_that_is_not_what_its_record_says_is_found(script: ModuleType, tmp_path: Path) -> None:
    home = tmp_path / "artifacts" / "stage" / "key"
    home.mkdir(parents=True)
    with pytest.raises(script.Broken, match="no whole record"):
        script.verified(tmp_path, {})
    (home / "record.json").write_text('{"files": {"a": {"bytes": 1, "sha256": "0"}}, "digest": "d"}')
    (home / "a").write_text("x")
    with pytest.raises(script.Broken, match="a is not what its record says"):
        script.verified(tmp_path, {})
