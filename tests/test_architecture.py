"""The rule of the house: rooms open only downwards, and each side effect has one home."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("flows", "tasks", "models", "metrics", "data_manifests")
MAY_IMPORT = {
    "data_manifests": set(),
    "models": set(),
    "metrics": set(),
    "tasks": {"models", "metrics", "data_manifests"},
    "flows": {"tasks", "models", "metrics", "data_manifests"},
}
HOMES = {
    "mlflow": {"tasks/tracking.py"},
    "distributed": {"tasks/dask_workers.py"},
    "dask": {"tasks/dask_workers.py"},
    "prefect": {
        "tasks/materialise.py",
        *("flows/pipeline.py", "flows/deployments.py", "flows/lost_runs.py", "flows/prefect_run.py"),
    },
    "prefect_dask": {"flows/pipeline.py"},
    "webdataset": {"tasks/shards.py"},
    "fastapi": {"tasks/studio.py"},
    "fsspec": {"tasks/storage.py"},
    "av": {"tasks/containers.py"},
    "soundfile": {"tasks/audio.py", "tasks/audio_bytes.py"},
    "soxr": {"tasks/audio.py"},
    "starlette": {"tasks/studio.py"},
    "uvicorn": {"tasks/studio.py"},
    "laion_clap": {"models/laion.py"},
    "music2latent": {"models/pretrained_music2latent.py"},
    "codicodec": {"models/pretrained_codicodec.py"},
    "frechet_audio_distance": {"tasks/secondary_fad.py"},
    "pyloudnorm": {"metrics/mixing.py"},
    "mido": {"data_manifests/midi.py"},
}
PURE_MAY_USE = {
    "data_manifests": {"mido", "numpy", "scipy", "yaml"},
    "models": {"numpy", "scipy", "torch", "safetensors", "laion_clap", "music2latent", "codicodec", "transformers"},
    "metrics": {"numpy", "scipy", "torch", "sklearn", "pyloudnorm"},
}


def sources(*rooms: str) -> Iterator[tuple[Path, ast.Module]]:
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> Iterator[str]:
    """Top-level names that a module imports, wherever the import stands; those for the type checker do not run."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_open_only_downwards(room: str) -> None:
    for path, tree in sources(room):
        foreign = set(imported(tree)) & set(ROOMS) - {room}
        assert foreign <= MAY_IMPORT[room], f"{path.relative_to(ROOT)} imports {foreign - MAY_IMPORT[room]}"


@pytest.mark.parametrize(("library", "homes"), HOMES.items())
def test_each_side_effect_has_one_home(library: str, homes: set[str]) -> None:
    users = {path.relative_to(ROOT).as_posix() for path, tree in sources(*ROOMS) if library in set(imported(tree))}
    assert users <= homes


@pytest.mark.parametrize("room", PURE_MAY_USE)
def test_pure_rooms_use_only_what_they_may(room: str) -> None:
    allowed = PURE_MAY_USE[room] | {room} | set(sys.stdlib_module_names)
    for path, tree in sources(room):
        assert set(imported(tree)) <= allowed, f"{path.relative_to(ROOT)} imports {set(imported(tree)) - allowed}"


def test_importing_the_pure_rooms_pulls_in_no_orchestrator_and_no_pretrained_package() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path, _ in sources("models", "metrics", "data_manifests")
    ]
    forbidden = (
        "prefect mlflow dask distributed polars pyarrow laion_clap music2latent codicodec transformers matplotlib"
    )
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        f"print(*[name for name in {forbidden.split()!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_looking_at_results_imports_no_library_that_only_work_needs() -> None:
    heavy = ("dask", "matplotlib", "mlflow", "prefect", "scipy.signal", "scipy.stats", "sklearn")
    code = f"import flows.explanation, flows.status, sys\nprint(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_help_answers_without_the_heavy_libraries() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom flows.__main__ import app\n"
        "result = CliRunner().invoke(app, ['--help'])\nassert result.exit_code == 0, result.output\n"
        "print(*[name for name in ('torch', 'prefect', 'mlflow', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []
