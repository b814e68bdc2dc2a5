// A tab's side of the stream, and its state: connecting, live, stale or reconnecting.

import { Feed } from "./feed.js";

const STALE_AFTER = 10_000;
// The stream's worker reconnects by itself. If it says nothing for this long, it has died, and the tab starts another.
const REJOIN_AFTER = 30_000;
const LOOK_EVERY = 1_000;

export class Stream {
  #handlers;
  #onState;
  #onRefused;
  #leave = () => {};
  #lastNews = 0;
  #lastSign = 0;
  #state = "";

  /**
   * `handlers[name](data)` is called for each event of that name. `onState(state, lastNews)` gets the state and
   * the time of the last event in milliseconds, 0 before the first. `onRefused()` is called when the server offers no
   * stream, for example because the session has ended.
   */
  constructor(handlers, { onState, onRefused }) {
    this.#handlers = handlers;
    this.#onState = onState;
    this.#onRefused = onRefused;
  }

  /** Read the stream until the page is left, and again if the browser shows the page again. */
  start() {
    this.#become("connecting");
    this.#join();
    setInterval(() => this.#look(Date.now()), LOOK_EVERY);
    addEventListener("pagehide", () => this.#leave());
    addEventListener("pageshow", (event) => { if (event.persisted) this.#join(); });
  }

  #join() {
    this.#leave();
    this.#lastSign = Date.now();
    const take = (message) => this.#take(message);
    this.#leave = "SharedWorker" in window ? joinWorker(take) : joinAlone(take);
  }

  #take({ name, data, refused }) {
    this.#lastSign = Date.now();
    if (name) return this.#onNews(name, data);
    this.#become("reconnecting");
    if (refused) this.#onRefused();
  }

  #onNews(name, data) {
    this.#lastNews = Date.now();
    this.#become("live");
    this.#handlers[name](JSON.parse(data));
  }

  #look(now) {
    if (this.#state === "live" && now - this.#lastNews > STALE_AFTER) this.#become("stale");
    if (now - this.#lastSign > REJOIN_AFTER) this.#join();
  }

  #become(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.#onState(state, this.#lastNews);
  }
}

// Both return a function that leaves the stream.

function joinWorker(take) {
  const worker = new SharedWorker("/static/stream-worker.js", { type: "module", name: "stream" });
  let leave = () => worker.port.postMessage("leave");
  // A browser that has shared workers, but none made of modules, fails to load it.
  worker.onerror = () => { leave = joinAlone(take); };
  worker.port.onmessage = ({ data }) => take(data);
  worker.port.postMessage("join");
  return () => leave();
}

function joinAlone(take) {
  const feed = new Feed("/api/stream", take);
  feed.restart();
  return () => feed.stop();
}
