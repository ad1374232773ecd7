"""No code from outside is run, no shell is asked, nothing listens to the network unasked, and no secret is kept."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from flows.__main__ import app
from flows.request import StudyRequest
from tasks.page_tables import fact_list
from tasks.runtime import Runtime
from tasks.step import Step
from tasks.store import RECORD, Store

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("flows", "tasks", "models", "metrics", "data_manifests")
FORBIDDEN = re.compile(
    r"eval|exec|compile|__import__|os\.(system|popen|exec\w*|spawn\w*)|subprocess\.getoutput|"
    r"(pickle|cPickle|cloudpickle|dill|marshal|shelve|joblib)\.(load|loads|open|Unpickler)|yaml\.(unsafe_|full_)?load(_all)?|"
    r"tempfile\.mktemp|\w+\.extract(all)?|pandas\.read_pickle|torch\.hub\.load"
)
ALLOWED = {("data_manifests/layouts/layout.py", "yaml.load")}  # with the safe loader in C, as its next test says


@cache
def nodes() -> list[tuple[str, ast.AST]]:
    """Every node of the rooms' code with its file."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return [
        (path.relative_to(ROOT).as_posix(), node)
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call | ast.Constant)
    ]


def calls() -> Iterator[tuple[str, ast.Call]]:
    return ((path, node) for path, node in nodes() if isinstance(node, ast.Call))


def keyword(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(item.value) for item in call.keywords if item.arg == name), None)


def test_no_call_unpickles_evaluates_or_unpacks() -> None:
    found = {(path, ast.unparse(call.func)) for path, call in calls() if FORBIDDEN.fullmatch(ast.unparse(call.func))}
    assert found == ALLOWED


def test_every_array_and_checkpoint_is_read_without_its_pickle() -> None:
    read = 0
    for path, call in calls():
        name = ast.unparse(call.func)
        if name == "torch.load":
            assert keyword(call, "weights_only") == "True", path
            read += 1
        if name == "np.load":
            assert keyword(call, "allow_pickle") in (None, "False"), path
        if name == "yaml.load":
            assert "SafeLoader" in (ROOT / path).read_text(), path
    assert read >= 2


def test_no_command_goes_through_a_shell() -> None:
    started = 0
    for path, call in calls():
        assert keyword(call, "shell") in (None, "False"), path
        if ast.unparse(call.func) in ("subprocess.run", "subprocess.Popen"):
            assert isinstance(call.args[0], ast.List | ast.Name | ast.BinOp), f"{path}: a command is a list"
            started += 1
    assert started >= 3


def test_no_room_names_an_address_that_the_whole_network_reaches() -> None:
    for path, node in nodes():
        assert not isinstance(node, ast.Constant) or node.value not in ("0.0.0.0", "::", "[::]"), path


SECRET = "hunter2"


@pytest.mark.parametrize("field", ["mlflow_uri", "shard_root", "dask_scheduler"])
@pytest.mark.parametrize(
    "address", [f"https://me:{SECRET}@host/x", f"s3://{SECRET}@host/x", f"http://h/?token={SECRET}"]
)
def test_an_address_with_a_password_is_refused_and_not_repeated(field: str, address: str) -> None:
    with pytest.raises(ValidationError, match=f"{field} holds a password or token .* environment") as refused:
        StudyRequest(**{field: address})
    assert SECRET not in str(refused.value)
    option = "--" + field.replace("_", "-")
    told = CliRunner().invoke(app, ["reproduce", "--scale", "tiny", option, address])
    assert told.exit_code == 2 and "holds a password" in told.stderr and SECRET not in told.output + told.stderr


def test_addresses_without_a_secret_are_taken() -> None:
    for address in ("http://127.0.0.1:5000", "s3://bucket/a@b", "tcp://host:8786", "https://host/path?workspace=3"):
        assert StudyRequest(mlflow_uri=address).mlflow_uri == address


@dataclass(frozen=True, kw_only=True)
class Nothing(Step):
    stage: ClassVar[str] = "nothing"

    def run(self, out: Path, runtime: Runtime) -> None:
        return None


def test_no_record_holds_a_value_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "MLFLOW_TRACKING_PASSWORD", "PREFECT_API_KEY"):
        monkeypatch.setenv(name, SECRET)
    runtime = Runtime(workspace=str(tmp_path), workers=1, progress=False, mlflow_uri=f"http://{SECRET}")
    made = Store(tmp_path / "artifacts").build(Nothing(), runtime)
    assert SECRET not in (made.path / RECORD).read_text()


def test_markup_in_names_is_text_on_the_page() -> None:
    markup = "<script>alert(1)</script>"
    assert "<script" not in fact_list({markup: markup}) and "&lt;script&gt;" in fact_list({markup: markup})
