// A small line of the latest values. Floats are exact enough for a line of a hundred pixels.

import { direction } from "./format.js";

const MOST_POINTS = 240;
const WIDTH = 100;
const HEIGHT = 24;
const MARGIN = 2;

/**
 * The values since the page was opened, each with its time in milliseconds. The first and the newest are kept. Those
 * between them are thinned out evenly, so that the whole time is shown however long it is.
 */
export class History {
  #points = [];
  #gap = 0;

  add(at, value) {
    const [before, newest] = [this.#points.at(-2), this.#points.at(-1)];
    if (newest?.at === at || (before && newest.at - before.at < this.#gap)) this.#points.pop();
    this.#points.push({ at, value: Number(value) });
    if (this.#points.length > MOST_POINTS) this.#thin();
  }

  #thin() {
    const newest = this.#points.pop();
    const [first, ...rest] = this.#points;
    this.#gap = Math.max(1, (2 * (newest.at - first.at)) / MOST_POINTS);
    const kept = [first];
    for (const point of rest) if (point.at - kept.at(-1).at >= this.#gap) kept.push(point);
    this.#points = [...kept, newest];
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
