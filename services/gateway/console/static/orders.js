// The panels of open orders, which can be canceled, and of recent orders that have ended.

import { once, request } from "./api.js";
import { announce, byId, part, setNote, setText, setTime } from "./dom.js";
import { capitalized, money, price, quantity, words } from "./format.js";
import { LiveList } from "./list.js";

const ENDED = new Set(["filled", "canceled", "expired", "replaced", "rejected"]);
const TIMES_IN_FORCE = { day: "day", gtc: "GTC", opg: "OPG", cls: "CLS", ioc: "IOC", fok: "FOK" };

export const hasEnded = (order) => ENDED.has(order.status);

export class Orders {
  #open = new LiveList(byId("open-orders"), (row) => row.id, paintOpen);
  #recent = new LiveList(byId("recent-orders"), (row) => row.id, paintEnded);

  /** The latest orders, newest first. */
  latest = [];

  constructor() {
    this.#open.on("cancel", cancel);
  }

  update(orders) {
    this.latest = orders;
    this.#open.show(orders.filter((order) => !hasEnded(order)));
    this.#recent.show(orders.filter(hasEnded));
  }
}

function cancel(id, button, row) {
  const note = part(row, "note");
  const work = async () => {
    setNote(note, "");
    await request("DELETE", `/v2/orders/${encodeURIComponent(id)}`);
    announce("Cancel requested");
  };
  return once(button, work, (refused) => setNote(note, refused.message));
}

function paintCommon(element, order) {
  setTime(part(element, "submitted_at"), order.submitted_at);
  setText(part(element, "symbol"), order.symbol);
  setText(part(element, "side"), capitalized(order.side));
  part(element, "side").dataset.side = order.side;
  setText(part(element, "terms"), `${terms(order)} ${TIMES_IN_FORCE[order.time_in_force] ?? order.time_in_force}`);
  setText(part(element, "status"), statusText(order));
  setText(part(element, "filled"), `${quantity(order.filled_qty)} / ${size(order)}`);
}

function paintOpen(element, order) {
  paintCommon(element, order);
  part(element, "cancel").setAttribute("aria-label", `Cancel: ${describe(order)}`);
}

function paintEnded(element, order) {
  paintCommon(element, order);
  setText(part(element, "filled_avg_price"), price(order.filled_avg_price));
  part(element, "status").dataset.status = order.status;
}

/** "Limit 187.00", "Stop 180.50", "Market", "Trailing stop 2.5%". */
function terms(order) {
  const type = capitalized(words(order.type));
  if (order.trail_percent) return `${type} ${quantity(order.trail_percent)}%`;
  const at = [order.stop_price, order.limit_price, order.trail_price].filter(Boolean).map(price);
  return [type, ...at].join(" ");
}

/** The size of an order: its shares, or its notional amount. */
const size = (order) => (order.qty ? quantity(order.qty) : money(order.notional));

/** An order in a few words: "buy 10 AAPL, limit 187.00". */
export const describe = (order) => {
  const what = order.qty ? `${size(order)} ${order.symbol}` : `${order.symbol} for ${size(order)}`;
  return `${order.side} ${what}, ${terms(order).toLowerCase()}`;
};

/** The status of an order, with the reason if it was rejected. */
export function statusText(order) {
  const status = capitalized(words(order.status));
  return order.reject_reason ? `${status}: ${words(order.reject_reason)}` : status;
}
