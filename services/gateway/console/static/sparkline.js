// A small line of the latest values. Floats are exact enough for a line of a hundred pixels.

import { direction } from "./format.js";

const LIMIT = 240;
const WIDTH = 100;
const HEIGHT = 24;
const MARGIN = 2;

/** The latest values since the page was opened, each with its time in milliseconds. */
export class History {
  #points = [];

  add(at, value) {
    if (this.#points.at(-1)?.at === at) this.#points.pop();
    this.#points.push({ at, value: Number(value) });
    if (this.#points.length > LIMIT) this.#points.shift();
  }

  get points() {
    return this.#points;
  }

  get change() {
    return this.#points.length < 2 ? 0 : this.#points.at(-1).value - this.#points[0].value;
  }
}

/** Draw the history into an svg element, in the color of its change. A single point is not drawn. */
export function drawSparkline(svg, history) {
  const line = svg.firstElementChild ?? addLine(svg);
  svg.dataset.tone = direction(history.change);
  line.setAttribute("points", history.points.length < 2 ? "" : coordinates(history.points));
}

function addLine(svg) {
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("vector-effect", "non-scaling-stroke");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.append(line);
  return line;
}

function coordinates(points) {
  const values = points.map((point) => point.value);
  const x = scale(points[0].at, points.at(-1).at, 0, WIDTH);
  const y = scale(Math.min(...values), Math.max(...values), HEIGHT - MARGIN, MARGIN);
  return points.map((point) => `${x(point.at).toFixed(1)},${y(point.value).toFixed(1)}`).join(" ");
}

function scale(low, high, from, to) {
  if (low === high) return () => (from + to) / 2;
  return (value) => from + ((value - low) / (high - low)) * (to - from);
}
