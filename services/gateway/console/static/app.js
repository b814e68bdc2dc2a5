// The wiring of the page: a session opens the stream, and the panels get the stream's events.

import { Account } from "./account.js";
import { byId, onNextFrame, setText } from "./dom.js";
import { time, timeZone } from "./format.js";
import { Jobs } from "./jobs.js";
import { Orders } from "./orders.js";
import { Positions } from "./positions.js";
import { Prices } from "./prices.js";
import { Session } from "./session.js";
import { Stream } from "./stream.js";
import { Ticket } from "./ticket.js";

const account = new Account();
const prices = new Prices((symbol) => ticket.fill({ symbol }));
const positions = new Positions((symbol, qty, side) => ticket.fill({ symbol, qty, side }));
const orders = new Orders(account);
const jobs = new Jobs();
const ticket = new Ticket(prices, account, orders);

const refreshTicket = () => ticket.refresh();

const handlers = {
  prices: (data) => { prices.update(data.prices); onNextFrame(refreshTicket); },
  halts: (data) => prices.mark(data.halts),
  account: (data) => { account.update(data); onNextFrame(refreshTicket); },
  positions: (data) => positions.update(data.positions),
  orders: (data) => { orders.update(data); ticket.follow(); },
  jobs: (data) => jobs.update(data.jobs),
  ping: () => {},
};

const session = new Session(showBoard);
const stream = new Stream(handlers, { onState: showConnection, onRefused: () => session.check() });

function showBoard({ key_id: keyId, operator }) {
  document.body.dataset.view = "board";
  document.body.toggleAttribute("data-operator", operator);
  byId("sign-out").title = `Signed in with key ${keyId}`;
  stream.start();
}

function showConnection(state, lastNews) {
  const since = lastNews ? ` since ${time(lastNews)}` : "";
  const texts = { connecting: "connecting…", live: "live", stale: `stale${since}`, reconnecting: "reconnecting…" };
  byId("connection").dataset.state = state;
  document.body.toggleAttribute("data-stale", state === "stale" || state === "reconnecting");
  setText(byId("connection"), texts[state]);
}

// The session may have changed while the browser kept this page aside.
addEventListener("pageshow", (event) => { if (event.persisted) session.check(); });
setText(byId("time-zone"), timeZone());
session.resume();
