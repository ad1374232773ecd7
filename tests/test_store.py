"""Results appear whole or not at all, are found again, and are built again when damaged."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tasks.artifact import Artifact, planned
from tasks.runtime import Runtime
from tasks.step import Step
from tasks.store import Store


@dataclass(frozen=True, kw_only=True)
class Write(Step):
    """Writes its text, and counts its runs in a file outside the store."""

    stage: ClassVar[str] = "write"

    text: str
    counter: str
    source: Artifact | None = None

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        with Path(self.counter).open("a") as handle:
            handle.write(".")
        (out / "nested").mkdir()
        (out / "nested" / "text.txt").write_text(self.text)
        if self.text == "crash":
            raise RuntimeError("in the middle")
        if self.text == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"length": len(self.text)}


@dataclass(frozen=True, kw_only=True)
class Resumed(Write):
    resumable: ClassVar[bool] = True


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(workspace=str(tmp_path))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "artifacts")


@pytest.fixture
def step(tmp_path: Path) -> Write:
    return Write(text="hello", counter=str(tmp_path / "runs"))


def runs(step: Write) -> int:
    return len(Path(step.counter).read_text())


def test_a_result_is_built_once_and_found_again(store: Store, step: Write, runtime: Runtime) -> None:
    assert store.find(step) is None
    made = store.build(step, runtime)
    assert store.build(step, runtime) == made == store.find(step)
    assert runs(step) == 1


def test_the_runtime_never_changes_a_key_or_a_digest(
    store: Store, step: Write, runtime: Runtime, tmp_path: Path
) -> None:
    made = store.build(step, runtime)
    other = Store(tmp_path / "elsewhere").build(step, replace(runtime, workers=7, torch_threads=3, device="cpu"))
    assert (made.key, made.digest) == (other.key, other.digest)


def test_a_crash_leaves_nothing_that_looks_finished(store: Store, step: Write, runtime: Runtime) -> None:
    crashing = replace(step, text="crash")
    with pytest.raises(RuntimeError):
        store.build(crashing, runtime)
    assert store.find(crashing) is None
    assert list(store.records()) == []


def test_a_killed_build_is_made_again_and_holds_no_lock(store: Store, step: Write, runtime: Runtime) -> None:
    dying = replace(step, text="die")
    process = multiprocessing.get_context("fork").Process(target=store.build, args=(dying, runtime))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert store.find(dying) is None
    assert store.build(step, runtime).digest


def test_what_a_killed_writer_left_behind_is_no_part_of_a_resumed_result(
    store: Store, step: Write, runtime: Runtime
) -> None:
    clean = store.build(replace(step, counter=step.counter + "2"), runtime)
    resumed = Resumed(text=step.text, counter=step.counter)
    scratch = store.root / "write" / f".building-{resumed.key()}"
    scratch.mkdir(parents=True)
    (scratch / ".text.txt.123.partial").write_text("hel")
    assert store.build(resumed, runtime).digest == clean.digest


def test_a_build_that_is_begun_anew_finds_nothing_of_an_interrupted_one(
    store: Store, step: Write, runtime: Runtime
) -> None:
    resumed = Resumed(text=step.text, counter=step.counter)
    scratch = store.root / "write" / f".building-{resumed.key()}"
    scratch.mkdir(parents=True)
    (scratch / "state.bin").write_bytes(b"half")
    store.begin_anew(resumed)
    assert list(store.build(resumed, runtime).path.rglob("state.bin")) == []
    store.begin_anew(resumed)
    assert store.find(resumed) is not None, "what is finished stays"


def test_a_damaged_result_is_not_a_hit_and_is_made_again(store: Store, step: Write, runtime: Runtime) -> None:
    made = store.build(step, runtime)
    (made.path / "nested" / "text.txt").write_text("shorter"[:2])
    assert store.find(step) is None
    assert store.build(step, runtime) == made
    (made.path / "nested" / "text.txt").unlink()
    assert store.build(step, runtime) == made
    assert runs(step) == 3


def test_a_record_tells_identity_inputs_files_and_code(store: Store, step: Write, runtime: Runtime) -> None:
    first = store.build(step, runtime)
    second = store.build(replace(step, text="second", source=first), runtime)
    record = store.record(second)
    assert record["inputs"]["source"]["digest"] == first.digest
    assert record["identity"]["text"] == "second"
    assert record["files"]["nested/text.txt"]["bytes"] == 6
    assert record["summary"] == {"length": 6}
    assert {"code", "packages", "seconds", "runtime", "version"} <= record.keys()
    assert str(Path.home()) not in json.dumps(record["runtime"])


def test_the_same_bytes_from_another_step_are_the_same_input(store: Store, step: Write, runtime: Runtime) -> None:
    first = store.build(step, runtime)
    again = store.build(replace(step, counter=step.counter + "2"), runtime)
    assert first.key != again.key
    assert replace(step, source=first).key() == replace(step, source=again).key()


def test_a_step_with_a_planned_input_has_no_key_and_is_not_there(store: Store, step: Write) -> None:
    waiting = replace(step, source=planned("write"))
    assert waiting.waits
    assert store.find(waiting) is None


def test_removing_a_result_removes_just_it(store: Store, step: Write, runtime: Runtime) -> None:
    kept, gone = store.build(step, runtime), store.build(replace(step, text="gone"), runtime)
    assert gone.key is not None
    store.remove("write", gone.key)
    assert [record["key"] for record in store.records()] == [kept.key]
