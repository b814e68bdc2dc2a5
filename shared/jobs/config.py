"""``config/jobs.toml``: the specification's JOBS_CONFIG. A mistake is named and the service does not start."""

import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from shared.jobs.interval import parse_interval


class InvalidJobsConfig(ValueError):
    """The jobs configuration cannot be used; the message names the file, the job and the key."""


def _interval(value: object) -> timedelta:
    return parse_interval(str(value))


class JobSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    enabled: bool | None = None
    interval: Annotated[timedelta | None, BeforeValidator(_interval)] = None
    market_hours_only: bool | None = None


def load_jobs_config(path: Path) -> dict[str, dict[str, Any]]:
    """Job name → the settings that the file gives it."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidJobsConfig(f"{path}: {error}") from None
    return {name: _settings(path, name, table) for name, table in tables.items()}


def _settings(path: Path, job: str, table: object) -> dict[str, Any]:
    try:
        return JobSettings.model_validate(table).model_dump(exclude_none=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join([job, *(str(part) for part in first["loc"])])
        raise InvalidJobsConfig(f"{path}: {key}: {first['msg']}") from None
