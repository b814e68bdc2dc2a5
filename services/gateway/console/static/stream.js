// The live stream and what can be said about it: connecting, live, stale or reconnecting.

const STALE_AFTER = 10_000;
// A connection that broke without a word (a sleeping laptop, a lost network) is given up after this long.
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
   * `handlers` are called with the data of the event of their name; `onState(state, lastNews)` with a name of
   * a state and the time of the last event in milliseconds, 0 before the first; `onRefused()` when the server
   * answered with something else than a stream, which may mean that the session has ended.
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

  // The browser reconnects by itself after a broken connection, but not after an answer that is no stream.
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
