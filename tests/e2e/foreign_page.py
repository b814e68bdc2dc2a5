"""A page of another origin that attacks the user of a browser in which PaperProfit is open."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: What such a page can send without the permission of the server. ``given`` is the server and a key of the attacker.
#: Form fields are sent as ``name=value``, which is JSON where the ``=`` is in a string.
ATTACK = """async ({ url, key }) => {
  const order = { symbol: "AAPL", qty: "1", side: "buy", type: "market", time_in_force: "day" };
  const ended = (target, ...names) =>
    new Promise((done) => names.forEach((name) => target.addEventListener(name, done, { once: true })));

  const frame = document.body.appendChild(Object.assign(document.createElement("iframe"), { name: "target" }));
  const form = document.body.appendChild(document.createElement("form"));
  Object.assign(form, { action: `${url}/v2/orders`, method: "POST", enctype: "text/plain", target: "target" });
  const start = JSON.stringify({ ...order, client_order_id: "" }).slice(0, -2);
  form.append(Object.assign(document.createElement("input"), { name: start, value: '"}' }));
  const submitted = ended(frame, "load");
  form.submit();
  await submitted;

  const simple = { method: "POST", mode: "no-cors", credentials: "include", headers: { "Content-Type": "text/plain" } };
  const send = (path, body) => fetch(url + path, { ...simple, body }).catch(() => {}); // the browser hides the answer
  await send("/v2/orders", JSON.stringify(order));
  await send("/api/account/reset", '{"cash": "1"}');
  await send("/api/jobs/trading_bot/trigger");
  await send("/api/session", JSON.stringify(key));

  const image = new Image();
  image.src = `${url}/v2/account`;
  await ended(image, "load", "error");
  const events = new EventSource(`${url}/api/stream`, { withCredentials: true });
  await ended(events, "open", "error");
  events.close();
}"""

#: The routes that it posts to. It posts an order twice.
ATTACKED = {"/v2/orders": 2, "/api/account/reset": 1, "/api/jobs/{name}/trigger": 1, "/api/session": 1}


class Nothing(BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><body></body>")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def foreign_page() -> Iterator[str]:
    """Serve an empty page on another port of the same host, to which a browser sends the same cookies. Its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
    thread = threading.Thread(target=server.serve_forever, name="foreign page")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
