"""``config/jobs.toml``: the specification's JOBS_CONFIG. A mistake is named by its line."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.jobs.settings import InvalidSetting, check_settings


class InvalidJobsConfig(ValueError):
    """The jobs configuration cannot be used; the message names the file, the line, the job and the key."""


def load_jobs_config(path: Path) -> dict[str, dict[str, Any]]:
    """Job name → the settings that the file gives it."""
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidJobsConfig(f"{path}: {error}") from None
    return {name: _settings(path, text, name, table) for name, table in tables.items()}


def _settings(path: Path, text: str, job: str, table: object) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise InvalidJobsConfig(f"{path}:{_line_of(text, job, '')}: {job}: write a table, [{job}]")
    try:
        return check_settings(table)
    except InvalidSetting as error:
        raise named(path, text, job, error) from None


def named(path: Path, text: str, job: str, error: InvalidSetting) -> InvalidJobsConfig:
    """The mistake with the place in the file from which it comes."""
    line = _line_of(text, job, error.field)
    return InvalidJobsConfig(f"{path}:{line}: {job}.{error.field}: {error.message}")


def _line_of(text: str, job: str, field: str) -> int:
    """The line that gives the field, else the one that begins the job's table; 1 is the first."""
    found, table = 1, ""
    outer, _, key = field.rpartition(".")
    places = {(job, field), (job, field.partition(".")[0]), (f"{job}.{outer}", key), ("", f"{job}.{field}"), ("", job)}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = header[1].replace(" ", "").replace('"', "")
            found = number if table in {job, f"{job}.{field}"} else found
        elif (given := re.match(r'\s*([\w."-]+)\s*=', line)) and (table, given[1].replace('"', "")) in places:
            return number
    return found
