// The account's figures, and its equity since the page was opened.

import { byId, setFigure, setSigned, setText } from "./dom.js";
import { direction, money, signedMoney, words } from "./format.js";
import { drawSparkline, History } from "./sparkline.js";

export class Account {
  #equity = new History();

  /** What orders may still spend, as a decimal string, and its currency; empty before the first news. */
  buyingPower = "";
  currency = "";

  update(account, now = Date.now()) {
    this.buyingPower = account.buying_power;
    this.currency = account.currency;
    this.#equity.add(now, account.equity);
    setText(byId("account-number"), account.account_number);
    setText(byId("currency"), account.currency);
    paintStatus(account.status);
    setFigure(byId("equity"), account.equity, money);
    setFigure(byId("cash"), account.cash, money);
    setFigure(byId("buying-power"), account.buying_power, money);
    setFigure(byId("market-value"), account.long_market_value, money);
    setSigned(byId("unrealized-pl"), account.unrealized_pl, signedMoney);
    this.#paintCurve();
  }

  #paintCurve() {
    const change = this.#equity.change.toFixed(2);
    const text = `${signedMoney(change)} since this page was opened`;
    drawSparkline(byId("equity-curve"), this.#equity);
    byId("equity-curve").setAttribute("aria-label", `Equity ${text}`);
    setText(byId("equity-change"), text);
    byId("equity-change").dataset.tone = direction(change);
  }
}

// An active account needs no badge; any other status keeps orders from being placed.
function paintStatus(status) {
  byId("account-status").hidden = status === "ACTIVE";
  setText(byId("account-status"), words(status.toLowerCase()));
}
