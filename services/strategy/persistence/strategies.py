"""The rows of strategies, their versions, and the kinds that the running release knows."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from services.strategy.strategies.protections import Watch
from shared.contracts.strategy import StrategyState

#: The fields of a strategy whose change makes a new version.
TERMS = ("kind", "parameters", "symbols", "interval", "schedule", "sizing", "protections")


@dataclass(frozen=True, kw_only=True)
class StrategyRow:
    """A strategy. ``generation`` is that of its account when it was evaluated last, None before that."""

    id: UUID
    name: str
    account_id: UUID
    kind: str
    parameters: Mapping[str, Any]
    symbols: tuple[str, ...]
    interval: str
    schedule: str | None = None
    sizing: Mapping[str, Any] = field(default_factory=dict)
    protections: Mapping[str, Any] = field(default_factory=dict)
    note: str | None = None
    version: int = 1
    state: StrategyState = StrategyState.CREATED
    state_reason: str | None = None
    generation: int | None = None
    evaluated_at: datetime | None = None
    failures: int = 0
    #: The indicators that it reads: name and parameters of each.
    indicators: Sequence[Mapping[str, Any]] = ()
    watch: Watch = field(default_factory=Watch)

    @property
    def terms(self) -> dict[str, Any]:
        """The fields that a version has."""
        return {name: getattr(self, name) for name in TERMS} | {"symbols": list(self.symbols)}


def add(connection: Connection, strategy: StrategyRow, now: datetime) -> bool:
    """Add the strategy with its first version. False if its id, or its name on the account, is taken."""
    if connection.execute(_ADD, {**_values(strategy), "now": now}).rowcount == 0:
        return False
    _add_version(connection, strategy, now)
    return True


def lock(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, StrategyRow]:
    """Lock the strategies in the order of their ids, and return those that there are."""
    return {row.id: _row(row) for row in connection.execute(_LOCK, {"ids": list(ids)})}


def lock_running_of(connection: Connection, account_id: UUID) -> list[StrategyRow]:
    """Lock the running strategies of the account in the order of their ids, and return them."""
    return [_row(row) for row in connection.execute(_LOCK_RUNNING_OF, {"account_id": account_id})]


def save_paused(connection: Connection, paused: Sequence[StrategyRow], now: datetime) -> None:
    """Save state and reason of strategies of one account, in one statement."""
    given = {"ids": [row.id for row in paused], "reason": paused[0].state_reason, "now": now}
    connection.execute(_SAVE_PAUSED, given)


def running(connection: Connection, *, scheduled: bool | None = None) -> list[StrategyRow]:
    """The running strategies by name: all, or only those with or without a schedule of their own."""
    return [_row(row) for row in connection.execute(_RUNNING, {"scheduled": scheduled})]


def named(connection: Connection, account_id: UUID, name: str) -> UUID | None:
    """The id of the account's strategy with that name."""
    found: UUID | None = connection.execute(_NAMED, {"account_id": account_id, "name": name}).scalar_one_or_none()
    return found


def symbols_ever(connection: Connection, strategy: StrategyRow) -> tuple[str, ...]:
    """The symbols of the strategy, and those that it had in earlier versions."""
    earlier = connection.execute(_SYMBOLS_EVER, {"id": strategy.id}).scalars()
    return tuple(dict.fromkeys((*strategy.symbols, *earlier)))


def save(connection: Connection, before: StrategyRow, after: StrategyRow, now: datetime) -> StrategyRow:
    """Save all fields of the strategy, with a new version if its terms changed. Returns it with that version."""
    if before.terms != after.terms:
        after = replace(after, version=before.version + 1)
        _add_version(connection, after, now)
    connection.execute(_SAVE, {**_values(after), "now": now})
    return after


def save_evaluated(connection: Connection, evaluated: Sequence[StrategyRow], now: datetime) -> None:
    """Save what an evaluation changes, in one statement: state, generation, failures, time, watch, and indicators."""
    if not evaluated:
        return
    connection.execute(
        _SAVE_EVALUATED,
        {
            "ids": [each.id for each in evaluated],
            "states": [each.state.value for each in evaluated],
            "reasons": [each.state_reason for each in evaluated],
            "generations": [each.generation for each in evaluated],
            "failures": [each.failures for each in evaluated],
            "since": [each.watch.since for each in evaluated],
            "peaks": [each.watch.peak for each in evaluated],
            "days": [each.watch.day for each in evaluated],
            "profits": [each.watch.day_profit for each in evaluated],
            "indicators": [json.dumps(list(each.indicators)) for each in evaluated],
            "concentrations": [each.watch.concentration for each in evaluated],
            "now": now,
        },
    )


def save_kinds(connection: Connection, kinds: Iterable[tuple[str, str, str, Mapping[str, Any]]]) -> None:
    """Replace the catalog: kind, title, source, and the JSON schema of the parameters of each."""
    given = list(kinds)
    values = {
        "kinds": [kind for kind, *_ in given],
        "titles": [title for _, title, *_ in given],
        "sources": [source for _, _, source, _ in given],
        "schemas": [json.dumps(schema) for *_, schema in given],
    }
    connection.execute(_SAVE_KINDS, values)
    connection.execute(_REMOVE_KINDS, values)


def _add_version(connection: Connection, strategy: StrategyRow, now: datetime) -> None:
    values = {"id": strategy.id, "version": strategy.version, "now": now, "terms": json.dumps(strategy.terms)}
    connection.execute(_ADD_VERSION, values)


def _values(strategy: StrategyRow) -> dict[str, Any]:
    watch = strategy.watch
    return {
        **{name: value for name, value in vars(strategy).items() if name != "watch"},
        "symbols": list(strategy.symbols),
        "indicators": json.dumps(list(strategy.indicators)),
        "parameters": json.dumps(dict(strategy.parameters)),
        "sizing": json.dumps(dict(strategy.sizing)),
        "protections": json.dumps(dict(strategy.protections)),
        "since": watch.since,
        "peak": watch.peak,
        "day": watch.day,
        "day_profit": watch.day_profit,
        "concentration": watch.concentration,
    }


def _row(row: Row[Any]) -> StrategyRow:
    watch = Watch(
        since=row.watched_since,
        peak=row.peak_profit,
        day=row.day,
        day_profit=row.day_profit,
        concentration=row.concentration_mark,
    )
    given = {name: getattr(row, name) for name in _NAMES}
    given |= {"symbols": tuple(row.symbols), "state": StrategyState(row.state), "watch": watch}
    given["indicators"] = tuple(row.indicators)
    return StrategyRow(**given)


_NAMES = tuple(name for name in StrategyRow.__dataclass_fields__ if name != "watch")
_COLUMNS = f"{', '.join(_NAMES)}, watched_since, peak_profit, day, day_profit, concentration_mark"
_ADD = text("""
INSERT INTO strategy.strategies
  (id, name, account_id, kind, parameters, symbols, interval, schedule, sizing, protections, note, version, state,
   created_at, updated_at, watched_since, indicators)
VALUES (:id, :name, :account_id, :kind, CAST(:parameters AS jsonb), :symbols, :interval, :schedule,
        CAST(:sizing AS jsonb), CAST(:protections AS jsonb), :note, :version, :state, :now, :now, :since,
        CAST(:indicators AS jsonb))
ON CONFLICT DO NOTHING
""")
_ADD_VERSION = text("""
INSERT INTO strategy.versions (strategy_id, version, at, terms) VALUES (:id, :version, :now, CAST(:terms AS jsonb))
""")
_LOCK = text(f"SELECT {_COLUMNS} FROM strategy.strategies WHERE id = ANY(:ids) ORDER BY id FOR UPDATE")
_LOCK_RUNNING_OF = text(f"""
SELECT {_COLUMNS} FROM strategy.strategies
WHERE account_id = :account_id AND state = 'running' ORDER BY id FOR UPDATE
""")
_SAVE_PAUSED = text("""
UPDATE strategy.strategies SET state = 'paused', state_reason = :reason, updated_at = :now WHERE id = ANY(:ids)
""")
_RUNNING = text(f"""
SELECT {_COLUMNS} FROM strategy.strategies
WHERE state = 'running' AND (CAST(:scheduled AS boolean) IS NULL OR (schedule IS NOT NULL) = :scheduled)
ORDER BY name, id
""")
_NAMED = text("SELECT id FROM strategy.strategies WHERE account_id = :account_id AND name = :name")
_SYMBOLS_EVER = text("""
SELECT DISTINCT s.symbol FROM strategy.versions v
CROSS JOIN LATERAL jsonb_array_elements_text(v.terms -> 'symbols') AS s (symbol)
WHERE v.strategy_id = :id ORDER BY s.symbol
""")
_SAVE = text("""
UPDATE strategy.strategies SET
  name = :name, parameters = CAST(:parameters AS jsonb), version = :version, symbols = :symbols, interval = :interval,
  schedule = :schedule, sizing = CAST(:sizing AS jsonb), protections = CAST(:protections AS jsonb), note = :note,
  state = :state, state_reason = :state_reason, generation = :generation, evaluated_at = :evaluated_at,
  failures = :failures, watched_since = :since, peak_profit = :peak, day = :day, day_profit = :day_profit,
  indicators = CAST(:indicators AS jsonb), concentration_mark = :concentration, updated_at = :now
WHERE id = :id
""")
_SAVE_EVALUATED = text("""
UPDATE strategy.strategies s SET
  state = v.state, state_reason = v.reason, generation = v.generation, failures = v.failures,
  watched_since = v.since, peak_profit = v.peak, day = v.day, day_profit = v.day_profit,
  concentration_mark = v.concentration, indicators = CAST(v.indicators AS jsonb), evaluated_at = :now
FROM unnest(CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:reasons AS text[]), CAST(:generations AS bigint[]),
            CAST(:failures AS integer[]), CAST(:since AS timestamptz[]), CAST(:peaks AS numeric[]),
            CAST(:days AS date[]), CAST(:profits AS numeric[]), CAST(:indicators AS text[]),
            CAST(:concentrations AS numeric[]))
  AS v (id, state, reason, generation, failures, since, peak, day, day_profit, indicators, concentration)
WHERE s.id = v.id
""")
_SAVE_KINDS = text("""
INSERT INTO strategy.kinds (kind, title, source, schema)
SELECT k.kind, k.title, k.source, CAST(k.schema AS jsonb)
FROM unnest(CAST(:kinds AS text[]), CAST(:titles AS text[]), CAST(:sources AS text[]), CAST(:schemas AS text[]))
  AS k (kind, title, source, schema)
ON CONFLICT (kind) DO UPDATE SET title = excluded.title, source = excluded.source, schema = excluded.schema
""")
_REMOVE_KINDS = text("DELETE FROM strategy.kinds WHERE kind <> ALL(CAST(:kinds AS text[]))")
