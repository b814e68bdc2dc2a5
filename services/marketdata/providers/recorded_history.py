"""The history of the provider ``replay``: its recorded bars, as a provider of bars to be backfilled from."""

import gzip
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from functools import cached_property

from services.marketdata.domain.bar import Bar
from services.marketdata.domain.replay import NAME
from services.marketdata.domain.splits import SPLITS
from services.marketdata.providers.provider import FoundAction, Listed, Part, Provider, Traits
from services.marketdata.providers.replay import RECORDING
from shared.bar_files import read_csv
from shared.contracts.bars import BarFields, Interval
from shared.contracts.instruments import AssetClass

_PAGE = 5000
#: The recording ended long ago, so any later time tells that its bars are whole.
_LATER = datetime(2020, 1, 1, tzinfo=UTC)


class RecordedHistory(Provider):
    """Bars that are at hand: the recorded daily prices as they were traded, or those of the replayed file."""

    def __init__(self, bars: Iterable[Bar] | None = None) -> None:
        self._given = None if bars is None else list(bars)
        parts = frozenset({Part.BARS} if bars is not None else {Part.BARS, Part.ACTIONS})
        intervals = tuple(sorted({bar.interval for bar in self._given})) if self._given else (Interval.DAY.value,)
        self.traits = Traits(  # type: ignore[misc]  # it depends on the file
            name=NAME, parts=parts, asset_classes=frozenset(AssetClass), intervals=intervals
        )

    def bars(self, instrument: Listed, interval: str, begin: datetime, end: datetime) -> Iterator[list[Bar]]:
        found = [
            bar
            for bar in self._series.get(instrument.symbol, ())
            if bar.interval == interval and begin <= bar.start < end
        ]
        for start in range(0, len(found), _PAGE):
            yield found[start : start + _PAGE]

    def actions(self, instrument: Listed, begin: date, end: date) -> list[FoundAction]:
        return [
            FoundAction(symbol=instrument.symbol, kind="split", ex_date=day, new_shares=split.ratio, old_shares=1)
            for split in SPLITS.get(instrument.symbol, ())
            if self._given is None and begin <= (day := split.first_day) <= end
        ]

    @cached_property
    def _series(self) -> dict[str, Sequence[Bar]]:
        series: dict[str, list[Bar]] = {}
        for bar in sorted(self._given or _recorded(), key=lambda each: each.start):
            series.setdefault(bar.symbol, []).append(bar)
        return dict(series)


def _recorded() -> Iterator[Bar]:
    """The recorded prices without their splits spliced."""
    with gzip.open(RECORDING, "rt", encoding="ascii", newline="") as lines:
        for _, bar in read_csv(lines, _LATER, interval=None, provider=NAME):
            if isinstance(bar, BarFields):
                yield Bar(*bar)
