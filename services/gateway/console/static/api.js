// Requests to the server of this page. The browser adds the session cookie, which scripts cannot read.

/** The server refused a request, or did not answer (status 0). The message is meant for the user. */
export class RequestFailed extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Dispatches `ended` when the session has ended, so that the page can ask for the key again. */
export const sessionEnded = new EventTarget();

// The server decides within two seconds, or says that it has not decided yet.
const ANSWER_WITHIN = 20_000;

/**
 * Send a request. Resolves to the JSON of the response, or null without a body. Throws RequestFailed, also if there
 * is no answer in time.
 */
export async function request(method, path, body, headers = {}) {
  const { response, text } = await send(method, path, body, headers);
  const answer = parsed(text);
  if (response.ok) return answer;
  if (response.status === 401) sessionEnded.dispatchEvent(new Event("ended"));
  throw new RequestFailed(reason(answer, response), response.status);
}

async function send(method, path, body, headers) {
  const ending = new AbortController();
  const options = { method, headers: { Accept: "application/json", ...headers }, signal: ending.signal };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const timer = setTimeout(() => ending.abort(), ANSWER_WITHIN);
  try {
    const response = await fetch(path, options);
    return { response, text: await response.text() };
  } catch (error) {
    if (!ending.signal.aborted && !(error instanceof TypeError)) throw error;
    throw new RequestFailed("No answer from the server. Check that it is running, then try again.", 0);
  } finally {
    clearTimeout(timer);
  }
}

function parsed(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return null; // the error page of a proxy: the status is enough
  }
}

// The trading API has the text in `message`, all others use problem+json with `detail`.
function reason(answer, response) {
  const text = answer?.message ?? answer?.detail ?? answer?.title;
  return text ?? `The server answered ${response.status} ${response.statusText}. Try again in a moment.`;
}

// A press this soon after the end of the work is the second one of a double click.
const DOUBLE_CLICK = 800;
const doneAt = new WeakMap();

/**
 * Run `work` for a control. Until it ends, and for a moment after it, further presses of the control do nothing.
 * `refused(error)` is called if the request fails, to show the error beside the control. Then it can be pressed again.
 */
export async function once(control, work, refused) {
  if (control.ariaBusy === "true" || performance.now() - doneAt.get(control) < DOUBLE_CLICK) return;
  control.ariaBusy = "true";
  try {
    await work();
    doneAt.set(control, performance.now());
  } catch (error) {
    if (!(error instanceof RequestFailed)) throw error;
    refused(error);
  } finally {
    control.ariaBusy = null;
  }
}

/** The next press of the control is another one, however soon it comes. */
export const renew = (control) => doneAt.delete(control);
