// The shared worker of all tabs. Browsers allow six connections to a server, so the tabs share one stream.

import { Feed } from "./feed.js";

const ports = new Set();
const feed = new Feed("/api/stream", (message) => {
  for (const port of ports) port.postMessage(message);
});

self.onconnect = ({ ports: [port] }) => {
  port.onmessage = ({ data }) => (data === "join" ? join(port) : leave(port));
};

function join(port) {
  ports.add(port);
  feed.restart();
}

function leave(port) {
  ports.delete(port);
  if (!ports.size) feed.stop();
}
