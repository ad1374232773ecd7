"""The deployments: what a form shows, what a schedule asks for, and that each is said once."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.testing import CliRunner

from flows.__main__ import app, reproduce
from flows.deployments import Night, deployments
from flows.options import WHOLE
from flows.pipeline import evaluate_arm, train_arm
from flows.request import StudyRequest
from flows.server_commands import deploy, serve

NIGHT = Night("30 2 * * *", "Europe/Paris")


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    request = StudyRequest(scale="tiny", workspace=str(tmp_path_factory.mktemp("workspace")))
    return {deployment.full_name: deployment for deployment in deployments(request, NIGHT)}


def test_there_is_a_deployment_for_each_flow_and_one_for_the_night(registered) -> None:
    assert [*registered] == [
        "prepare/on-demand",
        "train-arm/on-demand",
        "evaluate-arm/on-demand",
        "reproduce/on-demand",
        "reproduce/nightly",
    ]
    assert all(deployment.description and deployment.tags for deployment in registered.values())


def test_only_the_nightly_one_has_a_schedule_and_it_has_a_time_zone(registered) -> None:
    planned = {name: deployment.schedules for name, deployment in registered.items() if deployment.schedules}
    assert [*planned] == ["reproduce/nightly"]
    schedule = planned["reproduce/nightly"][0].schedule
    assert (schedule.cron, schedule.timezone) == ("30 2 * * *", "Europe/Paris")


@pytest.mark.parametrize("night", [Night("every night", "UTC"), Night("0 3 * * *", "Mars/Olympus")])
def test_a_night_that_never_comes_is_refused(night: Night) -> None:
    with pytest.raises(ValueError, match=r"every night|Mars/Olympus"):
        deployments(StudyRequest(), night)


def test_two_runs_of_one_deployment_wait_and_a_second_night_is_left_out(registered) -> None:
    assert {deployment.concurrency_limit for deployment in registered.values()} == {1}
    strategies = {
        name: deployment.concurrency_options.collision_strategy.value for name, deployment in registered.items()
    }
    assert strategies.pop("reproduce/nightly") == "CANCEL_NEW"
    assert set(strategies.values()) == {"ENQUEUE"}


def test_the_night_makes_again_what_was_made_by_code_that_has_changed(registered) -> None:
    parameters = {name: deployment.parameters["request"] for name, deployment in registered.items()}
    assert StudyRequest(**parameters["reproduce/nightly"]).refresh
    assert not StudyRequest(**parameters["reproduce/on-demand"]).refresh


def test_a_deployment_says_only_what_differs_from_the_request_that_asks_for_nothing(registered) -> None:
    assert set(registered["reproduce/on-demand"].parameters["request"]) == {"scale", "workspace"}


def test_every_field_of_the_form_is_described(registered) -> None:
    for deployment in registered.values():
        fields = deployment._parameter_openapi_schema.definitions["StudyRequest"]["properties"]
        assert set(fields) == set(StudyRequest.model_fields)
        assert [name for name, field in fields.items() if not field.get("description")] == []


@pytest.mark.parametrize("name", ["train-arm/on-demand", "evaluate-arm/on-demand"])
def test_the_form_offers_the_five_arms_and_wants_one(registered, name: str) -> None:
    schema = registered[name]._parameter_openapi_schema
    assert schema.properties["arm"]["enum"] == ["Diff-A-Riff", "+M2L2", "+DiT", "+CLAP_beta", "C-DiT"]
    assert schema.properties["arm"]["description"]
    assert "arm" in schema.required


def test_whoever_deploys_can_ask_for_all_that_a_run_can_be_asked_for() -> None:
    told = {name: () if default is None and is_list(kind) else default for name, (kind, default) in WHOLE.items()}
    assert told == StudyRequest().model_dump()
    for command in (reproduce, deploy, serve):
        assert inspect.signature(command).parameters.keys() >= WHOLE.keys()


def is_list(kind: Any) -> bool:
    return "list" in str(get_args(kind)[0])


def test_flows_are_found_by_module_whatever_the_folder_of_the_worker(registered) -> None:
    found = {deployment.entrypoint for deployment in registered.values()}
    assert found >= {f"flows.pipeline.{flow.__name__}" for flow in (train_arm, evaluate_arm)}


def test_deploying_to_nobody_is_one_line_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    alone = CliRunner().invoke(app, ["deploy", "--workspace", str(tmp_path)])
    assert (alone.exit_code, alone.stderr.count("\n")) == (2, 1)
    assert "stemwright up" in alone.stderr and "PREFECT_API_URL" in alone.stderr
    silent = {**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    for command in ("deploy", "serve"):
        line = [sys.executable, "-m", "flows", command, "--workspace", str(tmp_path)]
        done = subprocess.run(line, capture_output=True, text=True, env=silent, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "http://127.0.0.1:9/api" in done.stderr and "stemwright up" in done.stderr
