"""The JSON of ``/v2``, in the shape of Alpaca's Trading API v2. Fields that are always null are omitted."""

from typing_extensions import TypedDict  # pydantic cannot read the standard one before Python 3.12

from services.gateway.http.errors import AlpacaError


class NotSimulated(TypedDict):
    """Fields of an account for rules of Alpaca that are not simulated. They never change."""

    crypto_status: str
    crypto_tier: int
    accrued_fees: str
    pending_reg_taf_fees: str
    options_buying_power: str
    options_approved_level: int
    options_trading_level: int
    pending_transfer_in: str
    pending_transfer_out: str
    last_maintenance_margin: str
    sma: str
    daytrade_count: int
    pattern_day_trader: bool
    trade_suspended_by_user: bool
    transfers_blocked: bool
    account_blocked: bool
    admin_configurations: dict[str, str]
    user_configurations: None


class Account(NotSimulated):
    """An account with its value at current prices.

    ``last_equity`` is its equity at the previous close, or the cash with which it began later than that. Today's
    deposits and withdrawals do not change it: they are ``intraday_adjustments``. ``balance_asof`` is the day of the
    previous close.
    """

    id: str
    account_number: str
    status: str
    currency: str
    cash: str
    buying_power: str
    effective_buying_power: str
    regt_buying_power: str
    daytrading_buying_power: str
    non_marginable_buying_power: str
    equity: str
    last_equity: str
    balance_asof: str | None
    intraday_adjustments: str
    portfolio_value: str
    position_market_value: str
    long_market_value: str
    short_market_value: str
    unrealized_pl: str
    initial_margin: str
    maintenance_margin: str
    multiplier: str
    shorting_enabled: bool
    trading_blocked: bool
    created_at: str | None


class Order(TypedDict):
    """An order. ``legs`` are the exits of its order class, if the request asks for them.

    Prices are in ``currency``, the instrument's. ``notional`` is in the account's currency. A working order has the
    status ``new`` while its market trades, and ``accepted`` while it waits for a session or an auction. The
    ``stop_price`` of a trailing stop follows its ``hwm``. ``source`` and ``subtag`` are always null.
    """

    id: str
    client_order_id: str
    created_at: str | None
    updated_at: str | None
    submitted_at: str | None
    filled_at: str | None
    expired_at: str | None
    expires_at: str | None
    canceled_at: str | None
    failed_at: str | None
    replaced_at: str | None
    replaced_by: str | None
    replaces: str | None
    asset_id: str | None
    symbol: str
    asset_class: str | None
    notional: str | None
    qty: str | None
    filled_qty: str
    filled_avg_price: str | None
    order_class: str
    order_type: str
    type: str
    side: str
    time_in_force: str
    limit_price: str | None
    stop_price: str | None
    status: str
    extended_hours: bool
    legs: "list[Order] | None"
    trail_percent: str | None
    trail_price: str | None
    hwm: str | None
    reject_reason: str | None
    currency: str | None
    position_intent: str | None
    do_not_reduce: bool
    source: None
    subtag: None


class Position(TypedDict):
    """A position at its current price.

    ``current_price`` and ``lastday_price`` are in ``currency``. A unit of it is worth ``swap_rate`` in the account's
    currency, in which all other amounts are. Amounts that need a missing rate are null. ``cost_basis`` is the average
    entry price times the shares. ``lastday_price`` is that of the previous close in today's shares. It is null where it
    is not known, and so are the figures that need it.
    """

    asset_id: str
    symbol: str
    exchange: str
    asset_class: str
    asset_marginable: bool
    qty: str
    qty_available: str
    side: str
    avg_entry_price: str | None
    cost_basis: str
    market_value: str | None
    unrealized_pl: str | None
    unrealized_plpc: str | None
    unrealized_intraday_pl: str | None
    unrealized_intraday_plpc: str | None
    current_price: str
    lastday_price: str | None
    change_today: str | None
    currency: str
    swap_rate: str | None


class Canceled(TypedDict):
    """The result for one order of a request that cancels many. ``status`` is an HTTP status.

    It is 200 if the order is canceled or its cancel is on the way. ``body`` is then the order, else the error.
    """

    id: str
    status: int
    body: Order | AlpacaError


class Closing(TypedDict):
    """The result for one position of a request that closes many: the closing order, or the error."""

    symbol: str
    status: int
    body: Order | AlpacaError


class TradingDay(TypedDict):
    """A trading day in the market's own time: regular hours, and the whole day with extended hours."""

    date: str
    open: str
    close: str
    session_open: str
    session_close: str
    settlement_date: str | None


class MarketClock(TypedDict):
    """The time and the state of the market."""

    timestamp: str
    is_open: bool
    next_open: str
    next_close: str


#: The name of the field is a keyword of Python.
_Class = TypedDict("_Class", {"class": str})


class Asset(_Class):
    """An instrument as Alpaca's asset. ``exchange`` is empty for one that Alpaca's clients do not know."""

    id: str
    exchange: str
    symbol: str
    name: str
    status: str
    tradable: bool
    marginable: bool
    shortable: bool
    easy_to_borrow: bool
    fractionable: bool


class ShownIndicator(TypedDict, total=False):
    """An indicator of a watchlist with all its parameters."""

    name: str
    interval: str
    period: int
    fast: int
    slow: int
    signal: int
    deviations: str
    k_period: int
    k_smoothing: int
    d_period: int


class WatchlistItem(TypedDict):
    """A watchlist without its assets."""

    id: str
    account_id: str
    created_at: str | None
    updated_at: str | None
    name: str
    indicators: list[ShownIndicator]


class Watchlist(WatchlistItem):
    """A watchlist with its assets in the order in which they were added."""

    assets: list[Asset]
