// The prices panel: the newest price of every symbol, and its trend since the page was opened.

import { byId, onNextFrame, part, setFigure, setText, setTime } from "./dom.js";
import { price, quantity } from "./format.js";
import { LiveList } from "./list.js";
import { drawSparkline, History } from "./sparkline.js";

/** The notice of each provider whose prices are not those of a market. */
const NOTICES = {
  replay: "These prices are a replay of recorded days, not today's market.",
  simulated: "These prices are simulated: a random walk, no market's.",
};

export class Prices {
  #bySymbol = new Map();
  #histories = new Map();
  #halts = new Map();
  #show = () => this.#showAll();
  #list = new LiveList(byId("prices"), (row) => row.symbol, (element, row) => this.#paint(element, row));

  /** `onTrade(symbol)` is called when a symbol is pressed. */
  constructor(onTrade) {
    this.#list.on("trade", onTrade);
  }

  /** The newest price of a symbol, or undefined. */
  of(symbol) {
    return this.#bySymbol.get(symbol);
  }

  /** Show changed prices. After a reconnect an older price may arrive late, and is dropped. */
  update(prices) {
    for (const row of prices) {
      if (row.sequence < (this.of(row.symbol)?.sequence ?? 0)) continue;
      this.#bySymbol.set(row.symbol, { ...row, halt: this.#halts.get(row.symbol) });
      this.#history(row.symbol).add(Date.parse(row.quoted_at), row.last);
    }
    onNextFrame(this.#show);
  }

  /** Mark exactly the symbols of these halts as halted. */
  mark(halts) {
    this.#halts = new Map(halts.map((halt) => [halt.symbol, halt]));
    for (const row of this.#bySymbol.values()) {
      const halt = this.#halts.get(row.symbol);
      if (halt?.reason !== row.halt?.reason) this.#bySymbol.set(row.symbol, { ...row, halt });
    }
    onNextFrame(this.#show);
  }

  #showAll() {
    const symbols = [...this.#bySymbol.keys()].sort();
    this.#list.show(symbols.map((symbol) => this.of(symbol)));
    offerSymbols(symbols);
    showNotice([...this.#bySymbol.values()]);
  }

  #history(symbol) {
    if (!this.#histories.has(symbol)) this.#histories.set(symbol, new History());
    return this.#histories.get(symbol);
  }

  #paint(element, row) {
    const halted = part(element, "halted");
    halted.hidden = !row.halt;
    halted.title = row.halt?.reason ?? "";
    if (element.dataset.sequence === String(row.sequence)) return;
    element.dataset.sequence = row.sequence;
    setText(part(element, "symbol"), row.symbol);
    part(element, "symbol").setAttribute("aria-label", `Trade ${row.symbol}`);
    paintLast(part(element, "last"), row.last);
    setFigure(part(element, "bid"), row.bid, price);
    setFigure(part(element, "ask"), row.ask, price);
    for (const size of ["bid_size", "ask_size", "volume"]) setText(part(element, size), quantity(row[size]));
    setText(part(element, "range"), `${price(row.low)} – ${price(row.high)}`);
    setTime(part(element, "quoted_at"), row.quoted_at);
    drawSparkline(part(element, "trend"), this.#history(row.symbol));
  }
}

function paintLast(cell, last) {
  const change = setFigure(cell, last, price);
  if (change) cell.dataset.tick = change;
}

function showNotice(rows) {
  const providers = [...new Set(rows.map((row) => row.provider))].filter((provider) => provider in NOTICES).sort();
  byId("price-notice").hidden = !providers.length;
  setText(byId("price-notice"), providers.map((provider) => NOTICES[provider]).join(" "));
}

function offerSymbols(symbols) {
  const offered = byId("symbols");
  if (offered.children.length === symbols.length) return;
  offered.replaceChildren(...symbols.map((symbol) => new Option("", symbol)));
}
