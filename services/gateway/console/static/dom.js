// Writing to the page. All content is text, never markup. Unchanged elements are not touched.

import { direction, fullTime, time } from "./format.js";

const FLASH_MILLISECONDS = 600;
const stillness = matchMedia("(prefers-reduced-motion: reduce)");

export const byId = (id) => document.getElementById(id);

const parts = new WeakMap();

/** The element of a row with this data-part. A row keeps its parts, so each is searched once. */
export function part(element, name) {
  if (!parts.has(element)) parts.set(element, new Map());
  const found = parts.get(element);
  if (!found.has(name)) found.set(name, element.querySelector(`[data-part="${name}"]`));
  return found.get(name);
}

const due = new Set();
let lit = [];

/** Call `paint` in the next frame, once however often it is asked for until then. A hidden page paints nothing. */
export function onNextFrame(paint) {
  if (!due.size) requestAnimationFrame(paintDue);
  due.add(paint);
}

function paintDue() {
  const paints = [...due];
  due.clear();
  for (const paint of paints) paint();
  if (lit.length) setTimeout(putOut, FLASH_MILLISECONDS, lit);
  lit = [];
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setTime(element, iso) {
  setText(element, time(iso));
  element.title = fullTime(iso);
}

/** Show a signed number in the color of its sign. */
export function setSigned(element, value, format) {
  setFigure(element, value, format);
  element.dataset.tone = direction(value);
}

/** Show a number, and flash it up or down if it has changed. Returns the direction of the change. */
export function setFigure(element, value, format) {
  const before = element.dataset.value;
  const change = before && value ? direction(Number(value) - Number(before)) : "";
  element.dataset.value = value ?? "";
  setText(element, format(value));
  if (change) flash(element, change);
  return change;
}

// A flash is switched on and off. A fading one would have the browser compute styles in every frame.
function flash(element, change) {
  if (stillness.matches) return;
  element.dataset.flash = change;
  lit.push(element);
}

function putOut(elements) {
  for (const element of elements) delete element.dataset.flash;
}

/** Show a message beside a control. `kind` is "error" or "done". */
export function setNote(element, text, kind = "error") {
  element.dataset.kind = kind;
  setText(element, text);
}

/** Tell screen readers something that the page shows elsewhere. */
export const announce = (text) => setText(byId("announcements"), text);
