"""The bodies of the jobs of history, which ``jobs.py`` declares, and the providers that they ask."""

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import Connection, text

from services.marketdata.domain import replay
from services.marketdata.persistence.coverage import Gap
from services.marketdata.providers.provider import KeyRefused, Listed, Part, Provider, Unsupported
from services.marketdata.providers.recorded_history import RecordedHistory
from services.marketdata.providers.registry import network_provider
from services.marketdata.providers.replay import (
    Controlled,
    ReplayProvider,
    TapeProvider,
    bars_of_file,
    recording_between,
)
from services.marketdata.settings import current
from services.marketdata.usecases import roll_up
from services.marketdata.usecases.backfill import backfill
from shared.bar_files import WrongFile
from shared.clock import utc_now
from shared.contracts.bars import Interval
from shared.contracts.base import Symbol
from shared.contracts.instruments import AssetClass
from shared.contracts.written import Printable
from shared.jobs.engine.failures import Permanent
from shared.jobs.run_context import Counts, RunContext
from shared.settings import InvalidSettings

#: The symbols of one run.
MOST_SYMBOLS = 500
Symbols = Annotated[tuple[Symbol, ...], Field(min_length=1, max_length=MOST_SYMBOLS)]


class BackfillParameters(BaseModel):
    """The bars to fetch: those that start from ``from`` to before ``to``."""

    model_config = ConfigDict(extra="forbid")

    symbols: Symbols
    interval: Interval
    begin: AwareDatetime = Field(alias="from")
    end: AwareDatetime = Field(alias="to")
    provider: Annotated[Printable, Field(min_length=1, max_length=40)] | None = None


class RollUpParameters(BaseModel):
    """The minutes to roll up. Without a time, those that came since the last run."""

    model_config = ConfigDict(extra="forbid")

    symbols: Symbols | None = None
    begin: AwareDatetime | None = Field(default=None, alias="from")
    end: AwareDatetime | None = Field(default=None, alias="to")


@cache
def configured_replay() -> Controlled | None:
    """The replay, if it is the configured provider. Raises InvalidSettings for a file that cannot be replayed."""
    settings = current()
    if settings.provider != replay.NAME:
        return None
    first, last = settings.replay_from, settings.replay_to
    try:
        if settings.replay_file is None:
            return ReplayProvider(recording_between(first, last), seed=settings.seed)
        bars = bars_of_file(settings.replay_file, first, last, utc_now())
    except WrongFile as error:
        raise InvalidSettings(f"PAPERPROFIT_REPLAY_FILE: {error}") from None
    return TapeProvider(settings.replay_file.name, bars)


@cache
def history_providers() -> dict[str, Provider]:
    """The providers that have bars, by name."""
    settings = current()
    file = settings.replay_file
    bars = None if file is None else bars_of_file(file, None, None, utc_now())
    names = {name for each in AssetClass for name in settings.network_order(each)}
    found = [RecordedHistory(bars), *(network_provider(name) for name in sorted(names))]
    return {provider.traits.name: provider for provider in found if Part.BARS in provider.traits.parts}


def declare_history(connection: Connection) -> None:
    """Write the providers that have bars, so that the gateway can check a request."""
    providers = history_providers()
    given: dict[str, list[Any]] = {
        "names": list(providers),
        "intervals": [",".join(provider.traits.intervals) for provider in providers.values()],
        "preferred": [name == current().provider for name in providers],
    }
    connection.execute(_FORGET, given)
    connection.execute(_DECLARE, {**given, "keep_days": current().keep_bars_days})


def parts_of_backfill(run: RunContext) -> Sequence[dict[str, Any]]:
    """Make a part for each symbol."""
    return [{"symbols": [symbol]} for symbol in dict.fromkeys(run.parameters["symbols"])]


def backfill_bars(run: RunContext) -> Counts:
    """Backfill one symbol."""
    (symbol,) = run.parameters["symbols"]
    interval, wanted = run.parameters["interval"], Gap(run.parameters["begin"], run.parameters["end"])
    name = run.parameters["provider"] or current().provider
    provider = history_providers().get(name)
    if provider is None:
        raise Permanent(f"provider: {name} has no bars; choose of: {', '.join(history_providers())}")
    if interval not in provider.traits.intervals:
        raise Permanent(f"interval: {name} has no bars of {interval}, but of {', '.join(provider.traits.intervals)}")
    if not wanted.begin < wanted.end <= run.now:
        raise Permanent("from, to: must lie in the past and in this order")
    oldest = run.now - timedelta(days=current().keep_bars_days)
    if interval != Interval.DAY and wanted.begin < oldest - timedelta(days=1):
        raise Permanent(f"from: bars of {interval} are kept since {oldest:%Y-%m-%d}; raise PAPERPROFIT_KEEP_BARS_DAYS")
    with run.context.engine.begin() as connection:
        row = connection.execute(_INSTRUMENT, {"symbol": symbol}).first()
    if row is None:
        raise Permanent(f"symbols: unknown instrument {symbol}")
    listed = Listed(row.symbol, row.market, AssetClass(row.asset_class), row.currency)
    try:
        return backfill(run.context, provider, listed, str(interval), wanted, run.progress)
    except (Unsupported, KeyRefused) as error:
        raise Permanent(str(error)) from error


def roll_up_bars(run: RunContext) -> Counts:
    """Roll up what is new, or what the parameters name."""
    begin, end = run.parameters.get("begin"), run.parameters.get("end") or run.now
    if begin is None:
        return {"bars_written": roll_up.roll_up_new(run.context, run.progress)}
    if begin >= end:
        raise Permanent("from: must be before to")
    symbols = run.parameters.get("symbols")
    return {"bars_written": roll_up.roll_up_between(run.context, symbols, begin, end, run.progress)}


_INSTRUMENT = text("SELECT symbol, market, asset_class, currency FROM marketdata.instruments WHERE symbol = :symbol")
_FORGET = text("DELETE FROM marketdata.history_providers WHERE NOT name = ANY(:names)")
_DECLARE = text("""
INSERT INTO marketdata.history_providers AS h (name, intervals, preferred, keep_days)
SELECT given.name, string_to_array(given.intervals, ','), given.preferred, :keep_days
FROM unnest(CAST(:names AS text[]), CAST(:intervals AS text[]), CAST(:preferred AS boolean[]))
  AS given (name, intervals, preferred)
ON CONFLICT (name) DO UPDATE SET
  intervals = excluded.intervals, preferred = excluded.preferred, keep_days = excluded.keep_days
""")
