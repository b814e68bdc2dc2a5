// One connection to the stream of server-sent events. It is opened again when it is lost or silent. The stream's worker
// has one for all tabs, and a browser without shared workers one in each tab.

// The server sends at least a ping every 5 seconds. A connection that was lost without an error (laptop asleep, network
// gone) is opened again after this long.
const GIVE_UP_AFTER = 20_000;
const RETRY_AFTER = 3_000;
const LOOK_EVERY = 1_000;

/** The events of the stream. Each has JSON as its data. */
const NAMES = ["prices", "halts", "account", "positions", "orders", "jobs", "ping"];

export class Feed {
  #path;
  #tell;
  #source = null;
  #fresh = false;
  #lastSign = 0;
  #watch = 0;
  #retry = 0;

  /**
   * `tell(message)` is called with `{ name, data }` for an event, with `{ lost: true }` when the connection is lost,
   * and with `{ refused: true }` when the server offers no stream, for example because the session has ended.
   */
  constructor(path, tell) {
    this.#path = path;
    this.#tell = tell;
  }

  /** Have the server send everything once more, to a reader that has nothing yet. */
  restart() {
    if (!this.#fresh) this.#connect();
    clearInterval(this.#watch);
    this.#watch = setInterval(() => this.#look(), LOOK_EVERY);
  }

  stop() {
    clearInterval(this.#watch);
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
    this.#fresh = false;
  }

  // A connection is fresh until its first event. A reader that joins before it misses nothing.
  #connect() {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#fresh = true;
    this.#lastSign = Date.now();
    const source = new EventSource(this.#path);
    this.#source = source;
    source.onerror = () => this.#onError(source);
    source.addEventListener("signed_out", () => this.#refuse());
    for (const name of NAMES) source.addEventListener(name, (event) => this.#onNews(name, event.data));
  }

  #onNews(name, data) {
    this.#fresh = false;
    this.#lastSign = Date.now();
    this.#tell({ name, data });
  }

  // The browser reconnects by itself after a lost connection, but not after a response that is not a stream.
  #onError(source) {
    this.#tell({ lost: true });
    if (source.readyState === EventSource.CLOSED) this.#refuse();
  }

  #refuse() {
    this.#source.close();
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#connect(), RETRY_AFTER);
    this.#tell({ refused: true });
  }

  #look() {
    if (Date.now() - this.#lastSign <= GIVE_UP_AFTER) return;
    this.#tell({ lost: true });
    this.#connect();
  }
}
