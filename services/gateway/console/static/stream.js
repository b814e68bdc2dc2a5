// The stream of server-sent events, and its state: connecting, live, stale or reconnecting.

const STALE_AFTER = 10_000;
// A connection that was lost without an error (laptop asleep, network gone) is closed after this long.
const GIVE_UP_AFTER = 20_000;
const RETRY_AFTER = 3_000;
const LOOK_EVERY = 1_000;

export class Stream {
  #path;
  #handlers;
  #onState;
  #onRefused;
  #source = null;
  #lastNews = 0;
  #state = "";
  #watch = 0;
  #retry = 0;

  /**
   * `handlers[name](data)` is called for each event of that name. `onState(state, lastNews)` gets the state and
   * the time of the last event in milliseconds, 0 before the first. `onRefused()` is called when the response is
   * not a stream, for example because the session has ended.
   */
  constructor(path, handlers, { onState, onRefused }) {
    this.#path = path;
    this.#handlers = handlers;
    this.#onState = onState;
    this.#onRefused = onRefused;
  }

  start() {
    this.stop();
    this.#lastNews = 0;
    this.#become("connecting");
    this.#connect();
    this.#watch = setInterval(() => this.#look(Date.now()), LOOK_EVERY);
  }

  stop() {
    clearInterval(this.#watch);
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
  }

  #connect() {
    this.#source?.close();
    this.#source = new EventSource(this.#path);
    this.#source.onerror = () => this.#onError();
    for (const [name, handle] of Object.entries(this.#handlers)) {
      this.#source.addEventListener(name, (event) => this.#onNews(event, handle));
    }
  }

  #onNews(event, handle) {
    this.#lastNews = Date.now();
    this.#become("live");
    handle(JSON.parse(event.data));
  }

  // The browser reconnects by itself after a lost connection, but not after a response that is not a stream.
  #onError() {
    this.#become("reconnecting");
    if (this.#source.readyState !== EventSource.CLOSED) return;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#connect(), RETRY_AFTER);
    this.#onRefused();
  }

  #look(now) {
    if (this.#state !== "live" && this.#state !== "stale") return;
    const silence = now - this.#lastNews;
    if (silence > GIVE_UP_AFTER) {
      this.#become("reconnecting");
      this.#connect();
    } else if (silence > STALE_AFTER) {
      this.#become("stale");
    }
  }

  #become(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.#onState(state, this.#lastNews);
  }
}
