// The panels of open orders, which can be canceled, and of recent orders that have ended.

import { once, request } from "./api.js";
import { announce, byId, onNextFrame, part, setNote, setText, setTime } from "./dom.js";
import { amount, capitalized, price, quantity, words } from "./format.js";
import { LiveList } from "./list.js";

const ENDED = new Set(["filled", "canceled", "expired", "replaced", "rejected"]);
const TIMES_IN_FORCE = { day: "day", gtc: "GTC", opg: "OPG", cls: "CLS", ioc: "IOC", fok: "FOK" };

export const hasEnded = (order) => ENDED.has(order.status);

export class Orders {
  #account;
  #byId = new Map();
  #open = new LiveList(byId("open-orders"), (row) => row.id, (element, row) => this.#paintOpen(element, row));
  #recent = new LiveList(byId("recent-orders"), (row) => row.id, (element, row) => this.#paintEnded(element, row));
  #show = () => this.#showAll();

  /** A notional order is an amount in the currency of `account`. */
  constructor(account) {
    this.#account = account;
    this.#open.on("cancel", cancel);
  }

  /** An order that is shown, or undefined. */
  of(id) {
    return this.#byId.get(id);
  }

  /** Show changed orders, and no longer those that are `gone`. With `all`, the orders are all there are. */
  update({ orders, gone, all }) {
    if (all) this.#byId.clear();
    for (const id of gone) this.#byId.delete(id);
    for (const order of orders) this.#byId.set(order.id, order);
    onNextFrame(this.#show);
  }

  /** An order in a few words: "buy 10 AAPL, limit 187.00", "buy $100.00 of AAPL, market". */
  describe(order) {
    return `${order.side} ${this.#size(order)}, ${terms(order).toLowerCase()}`;
  }

  #size(order) {
    if (order.qty) return `${quantity(order.qty)} ${order.symbol}`;
    return `${amount(order.notional, this.#account.currency)} of ${order.symbol}`;
  }

  #showAll() {
    const newestFirst = [...this.#byId.values()].sort(byTime);
    this.#open.show(newestFirst.filter((order) => !hasEnded(order)));
    this.#recent.show(newestFirst.filter(hasEnded));
  }

  #paintOpen(element, order) {
    this.#paintCommon(element, order);
    part(element, "cancel").setAttribute("aria-label", `Cancel: ${this.describe(order)}`);
  }

  #paintEnded(element, order) {
    this.#paintCommon(element, order);
    setText(part(element, "filled_avg_price"), price(order.filled_avg_price));
    part(element, "status").dataset.status = order.status;
  }

  #paintCommon(element, order) {
    const inForce = TIMES_IN_FORCE[order.time_in_force] ?? order.time_in_force;
    const text = `${terms(order)} ${inForce}`;
    setTime(part(element, "submitted_at"), order.submitted_at);
    setText(part(element, "symbol"), order.symbol);
    setText(part(element, "side"), capitalized(order.side));
    part(element, "side").dataset.side = order.side;
    setText(part(element, "terms"), order.qty ? text : `${this.#size(order)}, ${text.toLowerCase()}`);
    setText(part(element, "status"), statusText(order));
    setText(part(element, "filled"), filled(order));
  }
}

const byTime = (one, other) => Date.parse(other.submitted_at) - Date.parse(one.submitted_at);

function cancel(id, button, row) {
  const note = part(row, "note");
  const work = async () => {
    setNote(note, "");
    await request("DELETE", `/v2/orders/${encodeURIComponent(id)}`);
    announce("Cancel requested");
  };
  return once(button, work, (refused) => setNote(note, refused.message));
}

/** "Limit 187.00", "Stop 180.50", "Market", "Trailing stop 2.5%". */
function terms(order) {
  const type = capitalized(words(order.type));
  if (order.trail_percent) return `${type} ${quantity(order.trail_percent)}%`;
  const at = [order.stop_price, order.limit_price, order.trail_price].filter(Boolean).map(price);
  return [type, ...at].join(" ");
}

/** The shares that have filled, of those ordered: "3 / 10". The shares of a notional order follow from its price. */
function filled(order) {
  if (order.qty) return `${quantity(order.filled_qty)} / ${quantity(order.qty)}`;
  return order.filled_qty === "1" ? "1 share" : `${quantity(order.filled_qty)} shares`;
}

/** The status of an order, with the reason if it was rejected. */
export function statusText(order) {
  const status = capitalized(words(order.status));
  return order.reject_reason ? `${status}: ${words(order.reject_reason)}` : status;
}
