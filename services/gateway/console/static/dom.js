// Writing to the page. Everything is text, never markup, and what has not changed is not touched.

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

/** A signed number, in the colour of its sign. */
export function setSigned(element, value, format) {
  setFigure(element, value, format);
  element.dataset.tone = direction(value);
}

/** A number that flashes up or down when it has changed. Returns the direction of the change. */
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

/** A message beside a control; an error is marked as one. */
export function setNote(element, text, kind = "error") {
  element.dataset.kind = kind;
  setText(element, text);
}

/** Say something to screen readers that is seen elsewhere on the page. */
export const announce = (text) => setText(byId("announcements"), text);
