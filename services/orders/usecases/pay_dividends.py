"""Dividends are paid when they are due, each once: at the ex-date, or by a job at a later pay date."""

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

from services.orders.persistence.accounts import lock_accounts, saving_accounts
from services.orders.persistence.dividends import dividends_due, paying
from services.orders.persistence.fx_rates import NoExchangeRate, rates_of
from services.orders.persistence.ledger import saving_entries
from services.orders.usecases.account_events import AccountEvents
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import DividendPaid
from shared.exchange.corporate_actions import dividend
from shared.exchange.ledger import Entry, Kind


class Paid(NamedTuple):
    """The number of dividends that were paid, and of those that wait for an exchange rate."""

    paid: int = 0
    unrated: int = 0


def pay_dividends(uow: UnitOfWork, account_ids: Collection[UUID]) -> Paid:
    """Pay the dividends that are due to these accounts, in each account's currency.

    The latest rate counts, however old it is. A dividend without any rate stays owed.
    """
    accounts = lock_accounts(uow.connection, account_ids)
    due = dividends_due(uow.connection, accounts, uow.now)
    rates = {symbol: rates_of(uow.connection, symbol, accounts.values()) for symbol in {each.symbol for each in due}}
    events = AccountEvents(uow, accounts)
    entries, paid = [], []
    for owed in due:
        account = accounts[owed.account_id]
        try:
            rate = rates[owed.symbol].in_currency(account.currency)
        except NoExchangeRate:
            continue
        cash = dividend(owed.qty, owed.amount, rate)
        account = accounts[account.id] = replace(account, cash=account.cash + cash)
        about = (account.id, account.generation, Kind.DIVIDEND, uow.now, owed.action_id)
        entries.append(Entry(*about, cash=cash, symbol=owed.symbol, dividend=cash))
        paid.append((owed, cash))
        events.emit(
            DividendPaid,
            account.id,
            action_id=owed.action_id,
            symbol=owed.symbol,
            qty=owed.qty,
            amount=cash,
            cash=account.cash,
        )
    if paid:
        changed = [accounts[id_] for id_ in {owed.account_id for owed, _ in paid}]
        uow.run(paying(paid, uow.now), saving_entries(entries), saving_accounts(changed))
    return Paid(len(paid), len(due) - len(paid))
