// The positions panel.

import { byId, onNextFrame, part, setFigure, setSigned, setText } from "./dom.js";
import { capitalized, money, price, quantity, signedMoney, signedPercent } from "./format.js";
import { LiveList } from "./list.js";

export class Positions {
  #bySymbol = new Map();
  #show = () => this.#list.show([...this.#bySymbol.values()]);
  #list = new LiveList(byId("positions"), (row) => row.symbol, paint);

  /** `onClose(symbol, qty, side)` is called to close a position with an order of that side. */
  constructor(onClose) {
    this.#list.on("close", (symbol) => {
      const row = this.#bySymbol.get(symbol);
      onClose(symbol, row.qty.replace("-", ""), closingSide(row));
    });
  }

  update(positions) {
    this.#bySymbol = new Map(positions.map((row) => [row.symbol, row]));
    onNextFrame(this.#show);
  }
}

const closingSide = (row) => (row.side === "short" ? "buy" : "sell");

/** A price in a currency other than the account's is shown with its currency. */
const own = (row) => (value) => (row.swap_rate === "1" ? price(value) : `${price(value)} ${row.currency}`);

function paint(element, row) {
  setText(part(element, "symbol"), row.symbol);
  setText(part(element, "qty"), quantity(row.qty));
  setText(part(element, "avg_entry_price"), price(row.avg_entry_price));
  setFigure(part(element, "current_price"), row.current_price, own(row));
  setText(part(element, "cost_basis"), money(row.cost_basis));
  setFigure(part(element, "market_value"), row.market_value, money);
  setSigned(part(element, "unrealized_pl"), row.unrealized_pl, signedMoney);
  setSigned(part(element, "unrealized_plpc"), row.unrealized_plpc, signedPercent);
  const side = capitalized(closingSide(row));
  setText(part(element, "close"), side);
  part(element, "close").setAttribute("aria-label", `${side} ${row.symbol} with the order ticket`);
}
