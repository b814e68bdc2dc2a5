// The order ticket. It estimates the cost of the order, places it, and follows it until it has ended.

import { once, renew, request } from "./api.js";
import { byId, setNote, setText } from "./dom.js";
import { capitalized, money, price, quantity } from "./format.js";
import { hasEnded, statusText } from "./orders.js";

const WANTED = {
  symbol: "Enter a symbol, such as one of the prices table.",
  qty: "Enter a number of shares above zero, with at most nine decimals.",
  limit_price: "Enter a limit price above zero, with at most four decimals.",
  stop_price: "Enter a stop price above zero, with at most four decimals.",
};

export class Ticket {
  #form = byId("ticket");
  #note = byId("ticket-note");
  #prices;
  #account;
  #orders;
  #attempt = newOrderId();
  #placed = null;

  /** The estimate uses `prices` and `account`. `orders` has the state of the placed order. */
  constructor(prices, account, orders) {
    this.#prices = prices;
    this.#account = account;
    this.#orders = orders;
    this.#form.addEventListener("input", () => this.#edited());
    this.#form.addEventListener("submit", (event) => this.#submit(event));
    this.#showFields();
  }

  /** Fill in the ticket, and put the cursor into the quantity. */
  fill({ symbol, side, qty }) {
    this.#form.reset();
    this.#field("symbol").value = symbol;
    if (side) this.#field("side").value = side;
    if (qty) this.#field("qty").value = qty;
    this.#edited();
    this.#field("qty").focus();
    this.#field("qty").select();
  }

  /** Show the outcome of the order that was placed here, once it has ended. */
  follow() {
    const order = this.#orders.of(this.#placed);
    if (!order || !hasEnded(order)) return;
    this.#placed = null;
    this.#show(this.#outcome(order), order.status === "rejected" ? "error" : "done");
  }

  /** Prices or buying power have changed. */
  refresh() {
    setText(byId("ticket-estimate"), this.#estimate());
  }

  #field(name) {
    return this.#form.elements.namedItem(name);
  }

  // An edited ticket is a new order, so it gets a new id.
  #edited() {
    this.#attempt = newOrderId();
    this.#placed = null;
    renew(byId("ticket-submit"));
    this.#show("");
    this.#showFields();
    this.refresh();
  }

  #showFields() {
    const type = this.#field("type").value;
    for (const field of this.#form.querySelectorAll("[data-for]")) {
      field.hidden = field.dataset.for !== type;
      field.querySelector("input").disabled = field.hidden;
    }
    this.#form.dataset.side = this.#field("side").value;
    setText(byId("ticket-submit"), this.#label());
  }

  #order() {
    const order = Object.fromEntries(new FormData(this.#form));
    for (const name of Object.keys(order)) order[name] = order[name].trim();
    return { ...order, symbol: order.symbol.toUpperCase() };
  }

  #label() {
    const { side, symbol, qty } = this.#order();
    const amount = this.#field("qty").checkValidity() ? quantity(qty) : "";
    return [capitalized(side), amount, symbol].filter(Boolean).join(" ");
  }

  // Floats are exact enough for an estimate. The server computes the real cost.
  #estimate() {
    const { side, symbol, qty, limit_price: limit, stop_price: stop } = this.#order();
    const quote = this.#prices.of(symbol);
    const at = limit || stop || quote?.[side === "buy" ? "ask" : "bid"] || quote?.last;
    if (!(Number(at) * Number(qty) > 0)) return this.#hint(quote);
    const text = `About ${money(Number(at) * Number(qty))} ${this.#account.currency} at ${price(at)}`;
    return side === "buy" ? `${text}. Buying power: ${money(this.#account.buyingPower)}.` : `${text}.`;
  }

  #hint(quote) {
    if (!quote) return "Choose a symbol and a quantity to see an estimate.";
    return `${quote.symbol}: bid ${price(quote.bid)}, ask ${price(quote.ask)}, last ${price(quote.last)}.`;
  }

  async #submit(event) {
    event.preventDefault();
    const wrong = this.#firstWrong();
    if (wrong) return this.#blame(wrong, WANTED[wrong.name]);
    await once(byId("ticket-submit"), () => this.#place(), (refused) => this.#refused(refused));
  }

  #firstWrong() {
    const fields = [...this.#form.elements].filter((field) => field.name in WANTED && !field.disabled);
    return fields.find((field) => !field.checkValidity() || (field.name !== "symbol" && !(Number(field.value) > 0)));
  }

  // The key makes a repeated request safe: the server answers with the order that was already placed.
  async #place() {
    this.#show("Sending…", "done");
    const body = { ...this.#order(), client_order_id: this.#attempt };
    const order = await request("POST", "/v2/orders", body, { "Idempotency-Key": this.#attempt });
    this.#attempt = newOrderId();
    this.#placed = order.id;
    this.#show(hasEnded(order) ? this.#outcome(order) : `Placed: ${this.#orders.describe(order)}.`, "done");
    this.follow(); // the stream may have been faster than the answer
  }

  /** "Filled: bought 10 AAPL at 187.32." or how else the order ended. */
  #outcome(order) {
    if (order.status !== "filled") return `${statusText(order)} (${this.#orders.describe(order)}).`;
    const done = order.side === "buy" ? "bought" : "sold";
    return `Filled: ${done} ${quantity(order.filled_qty)} ${order.symbol} at ${price(order.filled_avg_price)}.`;
  }

  #refused(error) {
    if (error.status === 0) {
      const doubt = "No answer, so the order may have been placed. Send it again unchanged: it cannot be placed twice.";
      return this.#show(doubt);
    }
    if (error.status < 500) this.#attempt = newOrderId(); // refused for good, so the next press is another order
    // An error about one field starts with the field's name: "qty: must be greater than 0".
    const [, name, text] = /^(\w+): (.+)/s.exec(error.message) ?? [];
    if (name in WANTED) return this.#blame(this.#field(name), capitalized(text));
    this.#show(capitalized(error.message));
  }

  #blame(field, text) {
    this.#show(text);
    field.ariaInvalid = "true";
    field.focus();
  }

  #show(text, kind = "error") {
    for (const field of this.#form.elements) field.ariaInvalid = null;
    setNote(this.#note, text, kind);
  }
}

// Browsers offer crypto.randomUUID only with TLS or on localhost, so a page in a home network lacks it.
function newOrderId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `page-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
