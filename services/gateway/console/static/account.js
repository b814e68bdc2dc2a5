// The account panel: its figures, and a curve of the equity since the page was opened.

import { byId, onNextFrame, setFigure, setSigned, setText } from "./dom.js";
import { direction, money, signedMoney, sum, words } from "./format.js";
import { drawSparkline, History } from "./sparkline.js";

export class Account {
  #equity = new History();
  #latest = null;
  #paint = () => paint(this.#latest, this.#equity);

  /** The buying power as a decimal string, and its currency. Both are empty until the account is loaded. */
  buyingPower = "";
  currency = "";

  update(account, now = Date.now()) {
    this.buyingPower = account.buying_power;
    this.currency = account.currency;
    this.#equity.add(now, account.equity);
    this.#latest = account;
    onNextFrame(this.#paint);
  }
}

function paint(account, equity) {
  setText(byId("account-number"), account.account_number);
  setText(byId("currency"), account.currency);
  paintStatus(account.status);
  setFigure(byId("equity"), account.equity, money);
  setFigure(byId("cash"), account.cash, money);
  setFigure(byId("buying-power"), account.buying_power, money);
  setFigure(byId("market-value"), sum(account.long_market_value, account.short_market_value), money);
  setFigure(byId("short-value"), account.short_market_value, money);
  byId("short").hidden = !Number(account.short_market_value);
  setSigned(byId("unrealized-pl"), account.unrealized_pl, signedMoney);
  paintCurve(equity);
}

function paintCurve(equity) {
  const change = equity.change.toFixed(2);
  const text = `${signedMoney(change)} since you opened this page`;
  drawSparkline(byId("equity-curve"), equity);
  byId("equity-curve").setAttribute("aria-label", `Equity ${text}`);
  setText(byId("equity-change"), text);
  byId("equity-change").dataset.tone = direction(change);
}

// An active account needs no badge. An account in any other status cannot place orders.
function paintStatus(status) {
  byId("account-status").hidden = status === "ACTIVE";
  setText(byId("account-status"), words(status.toLowerCase()));
}
