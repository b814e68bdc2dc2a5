"""The bodies of the jobs of history, which ``jobs.py`` declares, and the providers that they ask."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import Connection, text

from services.marketdata.calendars import compute_sessions
from services.marketdata.configured import history_order, history_providers
from services.marketdata.persistence.coverage import Gap
from services.marketdata.providers.provider import Listed, Provider
from services.marketdata.settings import current
from services.marketdata.usecases import roll_up
from services.marketdata.usecases.backfill import NoBars, backfill_by_order
from services.marketdata.usecases.past_sessions import add_past_sessions
from shared.contracts.bars import Interval
from shared.contracts.base import Symbol
from shared.contracts.instruments import AssetClass
from shared.contracts.written import Printable
from shared.jobs.engine.failures import Permanent
from shared.jobs.run_context import Counts, RunContext

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


def declare_history(connection: Connection) -> None:
    """Write the providers that have bars, so that the gateway can check a request."""
    providers = history_providers()
    ordered = {each.traits.name for asset_class in AssetClass for each in history_order(asset_class)}
    given: dict[str, list[Any]] = {
        "names": list(providers),
        "intervals": [",".join(provider.traits.intervals) for provider in providers.values()],
        "preferred": [name in ordered for name in providers],
    }
    connection.execute(_FORGET, given)
    connection.execute(_DECLARE, {**given, "keep_days": current().keep_bars_days})


def parts_of_backfill(run: RunContext) -> Sequence[dict[str, Any]]:
    """Make a part for each symbol."""
    return [{"symbols": [symbol]} for symbol in dict.fromkeys(run.parameters["symbols"])]


def backfill_bars(run: RunContext) -> Counts:
    """Backfill one symbol, from the provider that is named or those of its asset class in their order."""
    (symbol,) = run.parameters["symbols"]
    interval, wanted = run.parameters["interval"], Gap(run.parameters["begin"], run.parameters["end"])
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
    providers = _providers_of(listed, run.parameters["provider"])
    add_past_sessions(run.context, compute_sessions, listed.market, wanted.begin.date(), run.id)
    try:
        return backfill_by_order(run.context, providers, listed, str(interval), wanted, run.progress)
    except NoBars as error:
        raise Permanent(str(error)) from error


def _providers_of(listed: Listed, name: str | None) -> Sequence[Provider]:
    """The provider of that name, or those of the instrument's asset class. Raises Permanent."""
    known = history_providers()
    if name is not None and name not in known:
        raise Permanent(f"provider: {name} has no bars; choose of: {', '.join(known)}")
    providers = history_order(listed.asset_class) if name is None else [known[name]]
    if not providers:
        raise Permanent(f"provider: none of {listed.asset_class} has bars; choose of: {', '.join(known)}")
    return providers


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
