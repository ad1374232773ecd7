"""What a change makes stale or suspect: exactly what depends on it, in a whole study of stand-in results.

Every step of the tiny study is real, with its key, its inputs and its code; only `run` is replaced, by one that writes
the step's key. So a result has other bytes exactly where its key is another.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

import pytest

from flows.blessing import bless_lines
from flows.collection import gc_lines
from flows.explanation import explain_lines, trace_lines
from flows.invalidation import Selection, invalidate_lines
from flows.request import RequestError, StudyRequest
from flows.session import Session, session
from flows.single_stage import MissingInputs, run_lines
from flows.status import Settled, inspected, settle_suspects, status_lines
from models.arms import Arm
from tasks import code_digest
from tasks.artifact import Artifact
from tasks.encode import EncodeWindows
from tasks.file_lock import locked, locked_if_free
from tasks.inspection import State
from tasks.runtime import Runtime
from tasks.step import Step
from tasks.store import RECORD, Store


def stand_in(step: Step, out: Path, runtime: Runtime) -> None:
    """Writes the step's key, in three shards where the stage has shards; the scores' one number is 1."""
    shards = [f"shard-{number:06d}.tar" for number in range(3)] if step.stage in ("windows", "encode") else []
    for name in shards or ["made"]:
        if not (out / name).exists():
            (out / name).write_text(step.key())
    if step.stage == "scores":
        told = json.loads(json.dumps(step.canonical_identity()["row"]))
        score = {"arm": told["arm"], "inputs": told["inputs"], "metric": "fad", "batch": 0, "value": 1.0}
        (out / "scores.json").write_text(json.dumps([score | {"candidates": 6}]))


def kinds(kind: type[Step] = Step) -> Iterator[type[Step]]:
    for child in kind.__subclasses__():
        yield from (child, *kinds(child))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a corpus, and a workspace in which a study of it is finished."""
    folder = tmp_path_factory.mktemp("study")
    for song in ("one", "two", "three"):
        (folder / "corpus" / song).mkdir(parents=True)
        for stem in ("bass", "drums"):
            (folder / "corpus" / song / f"{stem}.wav").write_bytes(f"{song} {stem}".encode())
    with pytest.MonkeyPatch.context() as patch:
        use_sources(tmp_path_factory.mktemp("sources"), patch)  # as they are now, whoever edits them meanwhile
        for kind in kinds():
            patch.setattr(kind, "run", stand_in)
        build_all(asked(folder))
        yield folder


def use_sources(copy: Path, patch: pytest.MonkeyPatch) -> None:
    """Take the digests of code in a copy of the sources that they have been taken in so far."""
    for room in code_digest.ROOMS:
        shutil.copytree(code_digest.ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__", "*.safe*"))
    patch.setattr(code_digest, "ROOT", copy)
    patch.setenv("XDG_CACHE_HOME", str(copy / "cache"))
    forget_digests(patch)


def forget_digests(patch: pytest.MonkeyPatch) -> None:
    """Know as little of the sources as another process."""
    for name in ("_texts", "_sources_sha256", "_source", "_meaning", "_digests"):
        patch.setattr(code_digest, name, code_digest.cache(getattr(code_digest, name).__wrapped__))


@pytest.fixture
def study(pristine: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    shutil.copytree(pristine, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "workspace" / "artifacts").glob("*/.*.lock"):
        path.unlink()
    return tmp_path


def asked(study: Path, *, arms: tuple[str, ...] = ("Diff-A-Riff", "+DiT", "+CLAP_beta"), **more: Any) -> StudyRequest:
    corpus, workspace = (str(study / "corpus"),), str(study / "workspace")
    return StudyRequest(scale="tiny", arms=arms, corpus=corpus, workspace=workspace, **more)


def build_all(request: StudyRequest) -> Artifact:
    ready = session(request)
    store = Store(ready.runtime.root / "artifacts")

    def make(step: Step) -> Artifact:
        return store.build(step, ready.runtime)

    return make(ready.report(make))


def store_of(study: Path) -> Store:
    return Store(study / "workspace" / "artifacts")


def states(ready: Session) -> dict[State, set[str]]:
    """The stages of which results were found in each state."""
    found: dict[State, set[str]] = {}
    for finding in inspected(ready).findings():
        found.setdefault(finding.state, set()).add(finding.stage)
    return found


def settled(request: StudyRequest) -> Settled:
    ready = session(request)
    return settle_suspects(ready, inspected(ready))


def first(study: Path, stage: str) -> dict[str, Any]:
    return next(store_of(study).records(stage))


def test_a_finished_study_is_all_there(study: Path) -> None:
    assert states(session(asked(study))).keys() == {State.THERE}


def change_a_byte(study: Path, ready: Session, patch: pytest.MonkeyPatch) -> Session:
    (study / "corpus" / "one" / "bass.wav").write_bytes(b"one bas!")
    return session(asked(study))


def raise_a_version(study: Path, ready: Session, patch: pytest.MonkeyPatch) -> Session:
    patch.setattr(EncodeWindows, "version", 1_000)
    return ready


def change_the_bridge(study: Path, ready: Session, patch: pytest.MonkeyPatch) -> Session:
    def changed(arm: Arm) -> Arm:
        if arm.bridge is None:
            return arm
        return replace(arm, bridge=replace(arm.bridge, training=replace(arm.bridge.training, steps=7)))

    return ready._replace(study=replace(ready.study, arms=tuple(map(changed, ready.study.arms))))


def delete_the_bridge(study: Path, ready: Session, patch: pytest.MonkeyPatch) -> Session:
    store_of(study).remove("bridge", first(study, "bridge")["key"])
    return ready


def cut_the_bridge_short(study: Path, ready: Session, patch: pytest.MonkeyPatch) -> Session:
    record = first(study, "bridge")
    (study / "workspace" / "artifacts" / "bridge" / record["key"] / "made").write_text("")
    return ready


@pytest.mark.parametrize(
    ("change", "changed", "state"),
    [
        (change_a_byte, "folder", State.STALE),
        (raise_a_version, "encode", State.STALE),
        (change_the_bridge, "bridge", State.STALE),
        (delete_the_bridge, "bridge", State.MISSING),
        (cut_the_bridge_short, "bridge", State.DAMAGED),
    ],
)
def test_a_change_makes_stale_what_depends_on_it_and_nothing_else(
    change: Callable[..., Session], changed: str, state: State, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = {record["key"] for record in store_of(study).records(changed)}
    expected = dict.fromkeys(depending_on(study, changed), State.STALE) | dict.fromkeys(roots, state)
    everything = {record["key"] for record in store_of(study).records()}
    found = {}
    for finding in inspected(change(study, session(asked(study)), monkeypatch)).findings():
        replaced = finding.record["key"] if finding.state is State.STALE and finding.record else finding.key
        found[replaced] = finding.state
    assert {key: state for key, state in found.items() if state is not State.THERE} == expected
    assert found.keys() == everything
    assert 0 < len(expected) < len(everything)


def depending_on(study: Path, stage: str) -> set[str]:
    """The keys of what was made from results of a stage, directly or through others."""
    records = list(store_of(study).records())
    found: set[str] = set()
    while True:
        more = {
            record["key"]
            for record in records
            if any(entry["stage"] == stage or entry["key"] in found for entry in record["inputs"].values())
        }
        if more == found:
            return found
        found = more


def test_only_the_rows_that_heard_the_bridge_are_stale_with_it(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = delete_the_bridge(study, session(asked(study)), monkeypatch)
    stale = [finding for finding in inspected(ready).findings() if finding.state is State.STALE]
    rows = {finding.describe for finding in stale if finding.stage == "scores"}
    assert rows and all("+CLAP_beta" in row for row in rows)


def test_what_is_stale_says_which_field_is_another(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line for line in status_lines(asked(study)) if " bridge " in line]
    assert len(lines) == 1 and lines[0].startswith("there")
    changed = inspected(change_the_bridge(study, session(asked(study)), monkeypatch)).findings()
    assert any("training.steps" in finding.why and finding.stage == "bridge" for finding in changed)


@pytest.fixture
def edited(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """Edits a copy of the sources, in which the digests are then taken."""
    sources = tmp_path / "sources"
    use_sources(sources, monkeypatch)

    def edit(module: str, old: str, new: str) -> None:
        path = sources / module
        text = path.read_text(encoding="utf-8")
        assert text.count(old) >= 1, f"{module} has no {old!r}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return edit


def test_a_changed_line_makes_suspect_what_it_had_a_part_in_and_a_comment_nothing(
    study: Path, edited: Callable[[str, str, str], None]
) -> None:
    edited("tasks/pack.py", "    def run(", "    # said anew\n    def run(")
    edited("tasks/cut.py", 'class CutWindows(Step):\n    """', 'class CutWindows(Step):\n    """Said anew. ')
    edited("tasks/judge.py", 'title="embed candidates"', 'title="embed them"')
    judged = {record["key"] for record in store_of(study).records("judged")}
    findings = inspected(session(asked(study))).findings()
    suspect = {finding.key for finding in findings if finding.state is State.SUSPECT}
    assert suspect == judged | depending_on(study, "judged")
    assert {finding.key for finding in findings if finding.own_code_changed} == judged
    assert {finding.state for finding in findings} == {State.THERE, State.SUSPECT}
    with pytest.raises(RequestError, match=r"judged .*tasks\.judge.*--refresh.*bless.*--allow-suspect"):
        settled(asked(study))
    used = settled(asked(study, allow_suspect=True))
    assert {finding.key for finding in used.used} == judged and not used.removed
    report = used.told_by(session(asked(study)).report(inspected(session(asked(study))).make))
    assert len(report.suspects) == len(judged) and all("tasks.judge" in line for line in report.suspects)
    # Blessing the results whose own code changed clears those made from them, and is kept in the record.
    blessed = list(bless_lines(study / "workspace", (), everything=True))
    assert len(blessed) == len(judged) and all("tasks.judge" in line for line in blessed)
    assert states(session(asked(study))).keys() == {State.THERE}
    assert first(study, "judged")["blessed"][0]["modules"] == ["tasks.judge"]
    with pytest.raises(ValueError, match="is what it was"):
        list(bless_lines(study / "workspace", (first(study, "judged")["key"],), everything=False))


@pytest.mark.parametrize("by_stage", [False, True])
def test_refreshing_makes_again_just_what_is_suspect_for_itself(by_stage: bool, study: Path) -> None:
    for record in list(store_of(study).records("pack")):
        store_of(study).rewrite(record | {"modules": record["modules"] | {"tasks.pack": "0" * 12}})
    with pytest.raises(RequestError, match=r"no stage 'pac'; it has .*pack"):
        settled(asked(study, refresh_stages=("pac",)))
    with pytest.raises(RequestError, match="suspect"):
        settled(asked(study, refresh_stages=("encode",)))
    removed = settled(asked(study, refresh_stages=("pack",)) if by_stage else asked(study, refresh=True)).removed
    assert {finding.stage for finding in removed} == {"pack"}
    before = {record["key"] for record in store_of(study).records()}
    build_all(asked(study))
    assert {record["stage"] for record in store_of(study).records() if record["key"] not in before} == {"pack"}
    assert states(session(asked(study))).keys() == {State.THERE}


def test_every_step_is_judged_by_its_own_code_and_that_of_what_it_calls() -> None:
    for kind in kinds():
        if not kind.__module__.startswith("tasks."):
            continue
        modules = code_digest.code_behind(code_digest.name_of_class(kind))
        assert kind.__module__ in modules, kind
        assert len(modules) > 1, f"{kind} seems to use nothing"
    assert "metrics.kernel" in code_digest.code_behind("tasks.judge.ScoreRow")
    assert "models.dit" in code_digest.code_behind("tasks.generate.GenerateCandidates")
    assert "models.dit" not in code_digest.code_behind("tasks.judge.ScoreRow")
    assert "tasks.cluster" not in code_digest.code_behind("tasks.encode.EncodeWindows")


def test_kept_digests_are_taken_anew_when_a_source_changes_and_when_their_file_is_damaged(
    edited: Callable[[str, str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once_more(work: Callable[..., Any] = code_digest._taken) -> dict[str, str]:
        """As another process would tell them, which takes digests anew by `work`."""
        forget_digests(monkeypatch)
        monkeypatch.setattr(code_digest, "_taken", work)
        return code_digest.code_behind("tasks.encode.EncodeWindows")

    def refuse(made_by: str) -> dict[str, str]:
        raise AssertionError(f"the digests of {made_by} are taken anew")

    first = once_more()
    assert once_more(refuse) == first
    for place in (tmp_path / "sources" / "cache").rglob("*.json"):
        place.write_text('{"sources": ')
    assert once_more() == first
    edited("tasks/encode.py", "class EncodeWindows(Step):", "class EncodeWindows(Step):\n    changed = 1\n")
    assert once_more()["tasks.encode"] != first["tasks.encode"]


def test_the_modules_that_do_not_count_are_there() -> None:
    assert all(
        code_digest.ROOT.joinpath(*module.split(".")).with_suffix(".py").is_file()
        for module in code_digest.HOW_AND_WHERE
    )


def forgotten(study: Path, stage: str, **options: Any) -> list[str]:
    """The stages of what a dry invalidation would forget, then what it would really do."""
    given = {name: options.pop(name, None) for name in ("arm", "codec", "split", "match")}
    told = {"shard": None, "downstream": False, "dry_run": False} | options
    return list(invalidate_lines(study / "workspace", Selection(stage=stage, **given), **told))


def test_an_invalidation_forgets_just_what_was_selected(study: Path) -> None:
    count = len(list(store_of(study).records("encode")))
    assert sum(line.startswith("would") for line in forgotten(study, "encode", split="train", dry_run=True)) == 2
    assert len(list(store_of(study).records("encode"))) == count
    mono = forgotten(study, "encode", split="train", codec="mono")
    assert sum(line.startswith("forgot") for line in mono) == 1
    with pytest.raises(ValueError, match=r"--arm 'GAN'; there are .*\+DiT"):
        forgotten(study, "candidates", arm="GAN")
    arms = {line.rsplit(" ", 2)[1] for line in forgotten(study, "scores", arm="dit") if line.startswith("forgot")}
    assert arms == {"+DiT"}
    with pytest.raises(ValueError, match=r"stage 'encod'; there are .*encode"):
        forgotten(study, "encod")


def test_an_invalidation_downstream_leaves_what_does_not_depend_on_it(study: Path) -> None:
    doomed = {record["key"] for record in store_of(study).records("bridge")} | depending_on(study, "bridge")
    before = {record["key"] for record in store_of(study).records()}
    forgotten(study, "bridge", downstream=True)
    assert {record["key"] for record in store_of(study).records()} == before - doomed


def test_one_shard_is_made_again_and_the_others_stay(study: Path) -> None:
    record = first(study, "windows")
    home = study / "workspace" / "artifacts" / "windows" / record["key"]
    kept = (home / "shard-000000.tar").stat().st_ino
    lines = forgotten(study, "windows", match=record["key"], shard=1)
    assert lines[0].endswith("shard 1 alone")
    assert store_of(study).flaw("windows", record["key"]) is None and not home.exists()
    build_all(asked(study))
    assert (home / "shard-000000.tar").stat().st_ino == kept
    assert json.loads((home / RECORD).read_text())["digest"] == record["digest"]
    with pytest.raises(ValueError, match="has 3"):
        forgotten(study, "windows", shard=9)


def test_one_stage_is_built_alone_and_says_what_it_lacks(study: Path, tmp_path: Path) -> None:
    forgotten(study, "pack")
    candidates = len(list(store_of(study).records("candidates")))
    forgotten(study, "candidates")
    with pytest.raises(MissingInputs, match=r"pack .*--with-inputs"):
        list(run_lines(asked(study), "candidates", with_inputs=False))
    assert not list(store_of(study).records("candidates"))
    assert len(list(run_lines(asked(study), "pack", with_inputs=False))) == 4
    forgotten(study, "pack")
    assert len(list(run_lines(asked(study), "candidates", with_inputs=True))) == candidates
    assert len(list(store_of(study).records("pack"))) == 4
    with pytest.raises(ValueError, match=r"no stage 'candy'; it has .*candidates"):
        list(run_lines(asked(study), "candy", with_inputs=False))


def test_a_stage_of_an_empty_workspace_is_built_with_what_it_needs_and_no_more(study: Path) -> None:
    shutil.rmtree(study / "workspace")
    list(run_lines(asked(study), "codec", with_inputs=True))
    assert {record["stage"] for record in store_of(study).records()} == {"catalogue", "plan", "windows", "codec"}


def test_garbage_is_what_neither_a_report_nor_the_study_refers_to(study: Path) -> None:
    build_all(asked(study, arms=("+DiT",), seed=1))
    lines = list(gc_lines(asked(study), older_than_days=0, delete=False))
    assert lines[-1] == "--delete removes them"
    assert not any(" clap " in line for line in lines), "both studies have the shipped CLAP"
    assert next(gc_lines(asked(study), older_than_days=1, delete=True)).startswith("0 of")
    report = next(record for record in store_of(study).records("report") if record["identity"]["seed"] == 1)
    published = study / "workspace" / "reports" / "kept"
    published.mkdir(parents=True)
    (published / RECORD).write_text(json.dumps(report))
    assert next(gc_lines(asked(study), older_than_days=0, delete=True)).startswith("0 of")
    shutil.rmtree(published)
    list(gc_lines(asked(study), older_than_days=0, delete=True))
    assert states(session(asked(study))).keys() == {State.THERE}
    assert {record["identity"]["seed"] for record in store_of(study).records("report")} == {0}


def test_what_a_killed_build_left_is_garbage_once_old_and_what_is_being_built_is_not(study: Path) -> None:
    home = study / "workspace" / "artifacts" / "pack"
    left, building = (home / f".building-{letter * 24}" for letter in "ab")
    for folder in (left, building):
        folder.mkdir()
        (folder / "state").write_bytes(b"1234")
    assert not any("nobody" in line for line in gc_lines(asked(study), older_than_days=1, delete=True))
    with locked(home / f".{'b' * 24}.lock"):
        for delete, verb in ((False, "left"), (True, "removed")):
            lines = [line for line in gc_lines(asked(study), older_than_days=0, delete=delete) if "nobody" in line]
            assert lines[0].startswith(verb) and left.name in lines[0]
            assert not any(building.name in line for line in lines)
            assert left.exists() is not delete
    assert (building / "state").read_bytes() == b"1234"
    assert states(session(asked(study))).keys() == {State.THERE}


def test_who_waited_for_a_lock_that_was_cleared_takes_the_new_one(tmp_path: Path) -> None:
    path, order = tmp_path / ".lock", list[str]()

    def waits() -> None:
        with locked(path):
            order.append("waited")

    waiting, holder = Thread(target=waits), ExitStack()
    holder.enter_context(locked(path))
    waiting.start()
    sleep(0.2)
    path.unlink()
    with locked_if_free(path) as free:  # a third one meets no file, and makes one
        assert free
        holder.close()
        sleep(0.2)
        order.append("held")
    waiting.join(10)
    assert order == ["held", "waited"]


def test_an_explanation_names_identity_inputs_users_and_the_nearest_other(study: Path) -> None:
    record = next(record for record in store_of(study).records("windows") if record["identity"]["rows"]["first"] == 12)
    text = "\n".join(explain_lines(study / "workspace", record["key"][:10]))
    for told in ("rows.split", "catalogue", "made by      tasks.cut.CutWindows", "differs from windows", "rows.first"):
        assert told in text.replace("made by   ", "made by      "), told
    assert all(len(line) <= 100 for line in text.splitlines())
    with pytest.raises(ValueError, match="give more of it"):
        list(explain_lines(study / "workspace", ""))
    with pytest.raises(ValueError, match="no result has a key"):
        list(explain_lines(study / "workspace", "zzz"))


def test_a_trace_goes_from_a_number_back_to_the_corpus(study: Path) -> None:
    lines = list(trace_lines(study / "workspace", "DiT/ctx/fad"))
    assert lines[0].startswith("DiT/ctx/fad = 1,")
    chain = [line.split()[0] for line in lines[1:] if not line.startswith(" ")]
    places = [chain.index(stage) for stage in ("scores", "judged", "candidates", "denoiser", "pack", "encode")]
    assert places == sorted(places)
    assert chain[-1] == "catalogue", "what the user brought has no record"
    assert "bridge" not in chain
    with pytest.raises(ValueError, match=r"no report has the row GAN/ctx.*\+DiT/ctx"):
        list(trace_lines(study / "workspace", "GAN/ctx/fad"))
    with pytest.raises(ValueError, match="no metric 'fid'; it has fad"):
        list(trace_lines(study / "workspace", "+DiT/ctx/fid"))


def test_status_says_all_in_lines_that_begin_alike(study: Path) -> None:
    heading, *lines, count = status_lines(asked(study))
    column = heading.index("what, and why")
    assert all(line[column - 1] == " " and line[column] != " " for line in lines)
    assert count.startswith(f"{len(lines)} results") and count.endswith(f"{len(lines)} there")
