"""``config/jobs.toml``: the specification's JOBS_CONFIG. Errors name the line of the mistake."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.jobs.settings import InvalidSetting, check_settings


class InvalidJobsConfig(ValueError):
    """The jobs configuration is not valid. The message names the file, the line, the job and the key."""


def load_jobs_config(path: Path) -> dict[str, dict[str, Any]]:
    """Read the settings of each job, by its name. Raises InvalidJobsConfig."""
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:  # an integer of 5,000 digits is no TOMLDecodeError
        raise InvalidJobsConfig(f"{path}: {error}") from None
    settings = {}
    for job, table in tables.items():
        if not isinstance(table, Mapping):
            raise InvalidJobsConfig(f"{path}:{_line_of(text, job, '')}: {job}: write a table, [{job}]")
        try:
            settings[job] = check_settings(table)
        except InvalidSetting as error:
            raise at_line(path, text, job, error) from None
    return settings


def at_line(path: Path, text: str, job: str, error: InvalidSetting) -> InvalidJobsConfig:
    """Name the line of the configuration file that a mistake is on."""
    line = _line_of(text, job, error.field)
    return InvalidJobsConfig(f"{path}:{line}: {job}.{error.field}: {error.message}")


def _line_of(text: str, job: str, field: str) -> int:
    """Find the line of the field, or else the one on which the job's table begins. The first line is 1."""
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
