// Writing to the page. All content is text, never markup. Unchanged elements are not touched.

import { direction, fullTime, time } from "./format.js";

const FLASH_MILLISECONDS = 900;
const stillness = matchMedia("(prefers-reduced-motion: reduce)");

export const byId = (id) => document.getElementById(id);
export const part = (element, name) => element.querySelector(`[data-part="${name}"]`);

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

function flash(element, change) {
  if (stillness.matches) return;
  const frames = [{ backgroundColor: `var(--flash-${change})` }, { backgroundColor: "transparent" }];
  element.animate(frames, FLASH_MILLISECONDS);
}

/** Show a message beside a control. `kind` is "error" or "done". */
export function setNote(element, text, kind = "error") {
  element.dataset.kind = kind;
  setText(element, text);
}

/** Tell screen readers something that the page shows elsewhere. */
export const announce = (text) => setText(byId("announcements"), text);
