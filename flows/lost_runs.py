"""Runs whose process is gone, marked Crashed: by the server for all its workers, and by us for those of this machine.

A killed worker tells nobody, and Prefect then shows its runs as Running for good. What they have built is in the
store: the next run finds it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.states import Crashed

from tasks.servers import runs_with_a_process

SILENCE = timedelta(minutes=5)  # ten heartbeats of RUN_SETTINGS: a busy machine may miss some
UNSTARTED = timedelta(minutes=15)  # a container's image may take minutes to come
STARTING = timedelta(seconds=30)  # a worker says Pending a moment before it starts the process

_RUNNING = "prefect.flow-run.Running"
_ENDS = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Cancelled", "Crashed")}


def watch_for_lost_runs(silence: timedelta = SILENCE) -> None:
    """Have the server mark runs Crashed that fall silent, or that never start, wherever they ran."""
    signs = {_RUNNING, "prefect.flow-run.heartbeat"}
    _register(_silent("stemwright: runs gone silent", signs, signs | _ENDS, silence))
    _register(_silent("stemwright: runs never started", {"prefect.flow-run.Pending"}, {_RUNNING} | _ENDS, UNSTARTED))


def crash_lost_runs() -> list[str]:
    """Mark the deployments' runs Crashed that have no process on this machine; their names.

    Only for a server that no worker of another machine can reach.
    """
    unfinished = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING])
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=unfinished)))
        here = runs_with_a_process()
        lost = [run for run in runs if run.deployment_id and str(run.id) not in here and not _starting(run)]
        for run in lost:
            client.set_flow_run_state(run.id, Crashed(message="The process of this run is gone."), force=True)
    return [run.name for run in lost]


def _starting(run: FlowRun) -> bool:
    state = run.state
    return bool(state and state.type is StateType.PENDING and datetime.now(UTC) - state.timestamp < STARTING)


def _silent(name: str, after: set[str], expected: set[str], within: timedelta) -> AutomationCore:
    """Marks a run Crashed of which nothing expected is heard for so long after these events."""
    trigger = EventTrigger(
        after=after,
        expect=expected,
        match={"prefect.resource.id": "prefect.flow-run.*"},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=within,
    )
    told = f"Nothing was heard of this run for {within}."
    crashed = ChangeFlowRunState(name="Crashed", state=StateType.CRASHED, message=told, force=False)
    return AutomationCore(name=name, trigger=trigger, actions=[crashed])


def _register(automation: AutomationCore) -> None:
    """Take the place of the automation of this name."""
    with get_client(sync_client=True) as client:
        for known in client.read_automations_by_name(automation.name):
            client.delete_automation(known.id)
        client.create_automation(automation)
