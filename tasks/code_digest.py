"""The code behind a result: digests of the definitions that decide what a step makes, by module.

Followed from the step's class through the names that its source uses, so that no stage can forget to name what it
is made by. Comments, docstrings and formatting are no part of it; nor are the modules of `HOW_AND_WHERE`, which
decide how and where something runs and never what comes out. Files of data (`.yaml`, weights) are not seen.

Digests are kept in the user's cache folder for as long as no source file changes: reading all sources takes 1.5 s.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tasks.whole_files import write_whole

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("tasks", "models", "metrics", "data_manifests")
HOW_AND_WHERE = frozenset(
    f"tasks.{name}"
    for name in (
        *("artifact", "cluster", "code_digest", "dask_workers", "file_lock", "fingerprint", "interruption"),
        *("leftovers", "materialise", "peak_memory", "previews", "process_group", "progress", "runtime", "step"),
        *("storage", "store", "telemetry_file", "tracked_rows", "tracked_training", "tracking", "tracking_outage"),
        "whole_files",
    )
)
DIGITS = 12  # hexadecimal digits: 48 bits, enough to notice a change


class Definition(NamedTuple):
    """A name at the top of a module, whatever stands behind it there."""

    module: str
    name: str


def code_behind(made_by: str) -> dict[str, str]:
    """The digest of what a class, `tasks.encode.EncodeWindows`, uses of each module; none where it is no more."""
    return dict(_digests(made_by))


def changed_modules(made_by: str, recorded: dict[str, str]) -> list[str]:
    """The modules in which the code behind a result is other than its record says."""
    now = code_behind(made_by)
    return sorted(module for module in now.keys() | recorded.keys() if now.get(module) != recorded.get(module))


def name_of_class(made_by: type) -> str:
    """How a record names a class; one inside a function is named by that function."""
    return f"{made_by.__module__}.{made_by.__qualname__.split('.')[0]}"


@cache
def _digests(made_by: str) -> dict[str, str]:
    """Those that were kept for these very sources, or taken anew and kept."""
    if made_by.partition(".")[0] not in ROOMS:
        return _taken(made_by)
    place, sources = _cache_folder() / f"{made_by}.json", _sources_sha256()
    try:
        kept = json.loads(place.read_bytes())
        if kept["sources"] == sources:
            return dict(kept["modules"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none yet, or no such file as we write
    taken = _taken(made_by)
    with suppress(OSError):  # a folder that cannot be written costs time alone
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, json.dumps({"sources": sources, "modules": taken}).encode())
    return taken


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stemwright" / "code"


@cache
def _sources_sha256() -> str:
    """One digest of every source file that can be behind a result, and of the Python that spells their trees."""
    digest = hashlib.sha256(sys.version.encode())
    for path, text in _texts().items():
        digest.update(f"{path.relative_to(ROOT)}\n{hashlib.sha256(text).hexdigest()}\n".encode())
    return digest.hexdigest()


@cache
def _texts() -> dict[Path, bytes]:
    """Every source file of the rooms, read once: what is parsed is what `_sources_sha256` tells of."""
    return {path: path.read_bytes() for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))}


def _taken(made_by: str) -> dict[str, str]:
    module, _, name = made_by.rpartition(".")
    texts: dict[str, list[str]] = {}
    for definition, meaning in sorted(_reached(Definition(module, name)).items()):
        texts.setdefault(definition.module, []).append(meaning.text)
    return {module: hashlib.sha256("\n".join(told).encode()).hexdigest()[:DIGITS] for module, told in texts.items()}


def _reached(start: Definition) -> dict[Definition, _Meaning]:
    """Every definition that can be come to from one by the names in its source."""
    found: dict[Definition, _Meaning] = {}
    waiting = [start]
    while waiting:
        definition = waiting.pop()
        meaning = None if definition in found or definition.module in HOW_AND_WHERE else _meaning(definition)
        if meaning:
            found[definition] = meaning
            waiting += meaning.used
    return found


class _Meaning(NamedTuple):
    """The source of a definition in one spelling, without what is only said to the reader, and what it names."""

    text: str
    used: tuple[Definition, ...]


@cache
def _meaning(definition: Definition) -> _Meaning | None:
    source = _source(definition.module)
    statements = source.definitions.get(definition.name, ()) if source else ()
    if not source or not statements:
        return None
    nodes = [node for statement in statements for node in ast.walk(statement)]
    imports = source.imports | dict(_imports(nodes))
    named = []
    for node in nodes:
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in imports:
                named.append(_home(_submodule(imports[name]), attribute))
            case ast.Name(id=name):
                named.append(imports[name] if name in imports else Definition(definition.module, name))
    used = tuple(_home(*place) for place in dict.fromkeys(named))
    for node in nodes:
        _silence(node)
    return _Meaning("\n".join(map(ast.unparse, statements)), used)


def _silence(node: ast.AST) -> None:
    """Drop the strings that stand alone in a body: docstrings, and what is said below a field."""
    body = getattr(node, "body", None)
    if isinstance(body, list):
        body[:] = [statement for statement in body if not _is_said(statement)]


def _is_said(statement: ast.AST) -> bool:
    match statement:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
    return False


def _home(module: str, name: str) -> Definition:
    """Where a name of a module is defined, through its imports."""
    source = _source(module)
    if source and name not in source.definitions and name in source.imports:
        return _home(*source.imports[name])
    return Definition(module, name)


def _submodule(imported: Definition) -> str:
    return f"{imported.module}.{imported.name}" if imported.module else imported.name


class _Source(NamedTuple):
    """A module's statements by the names that they bind, and where its imported names come from."""

    definitions: dict[str, tuple[ast.stmt, ...]]
    imports: dict[str, Definition]


@cache
def _source(module: str) -> _Source | None:
    path = _path(module)
    if path is None:
        return None
    tree = ast.parse(_texts().get(path) or path.read_bytes())
    definitions: dict[str, tuple[ast.stmt, ...]] = {}
    imports: dict[str, Definition] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            imports |= dict(_imports([statement]))
        else:
            for name in _bound(statement):
                definitions[name] = (*definitions.get(name, ()), statement)
            if isinstance(statement, ast.If):  # if TYPE_CHECKING
                imports |= dict(_imports(ast.walk(statement)))
    return _Source(definitions, imports)


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top of a module gives a meaning."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case _:
            stored = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
            yield from dict.fromkeys(node.id for node in stored if isinstance(node.ctx, ast.Store))


def _imports(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, Definition]]:
    """The names that are imported from the rooms, and what they stand for."""
    for node in nodes:
        match node:
            case ast.ImportFrom(module=str(module), names=names, level=0) if module.split(".")[0] in ROOMS:
                yield from ((alias.asname or alias.name, Definition(module, alias.name)) for alias in names)
            case ast.Import(names=names):
                named = (alias for alias in names if alias.name.split(".")[0] in ROOMS and alias.asname)
                yield from ((str(alias.asname), Definition("", alias.name)) for alias in named)


def _path(module: str) -> Path | None:
    """The file of a module of the rooms, or of one that was imported from elsewhere (a test's own steps)."""
    if module.partition(".")[0] in ROOMS:
        place = ROOT.joinpath(*module.split("."))
        return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)
    elsewhere = getattr(sys.modules.get(module), "__file__", None)
    return Path(elsewhere) if elsewhere else None
