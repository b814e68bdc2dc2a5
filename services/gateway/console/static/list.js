// A panel whose rows follow the data. Rows are kept by key, so focus, notes and selections survive an update.

import { setText } from "./dom.js";

export class LiveList {
  #panel;
  #rows;
  #template;
  #keyOf;
  #paint;
  #elements = new Map();
  #painted = new Map();

  /**
   * `panel` holds [data-rows], a template of one row, and an .empty text. `paint(element, item)` fills a row, whenever
   * its item is another object than before.
   */
  constructor(panel, keyOf, paint) {
    this.#panel = panel;
    this.#rows = panel.querySelector("[data-rows]");
    this.#template = panel.querySelector("template").content.firstElementChild;
    this.#keyOf = keyOf;
    this.#paint = paint;
  }

  /** Show these items, in this order, and no others. */
  show(items) {
    const keys = new Set(items.map(this.#keyOf));
    for (const key of this.#elements.keys()) if (!keys.has(key)) this.#remove(key);
    items.forEach((item, index) => this.#place(this.#put(item), index));
    this.#count();
  }

  /** Call `handle(key, button, row)` when a button with this data-action is pressed. */
  on(action, handle) {
    this.#rows.addEventListener("click", (event) => {
      const button = event.target.closest(`[data-action="${action}"]`);
      const row = button?.closest("[data-key]");
      if (row) handle(row.dataset.key, button, row);
    });
  }

  #put(item) {
    const key = this.#keyOf(item);
    const element = this.#elements.get(key) ?? this.#create(key);
    if (this.#painted.get(key) !== item) this.#paint(element, item);
    this.#painted.set(key, item);
    return element;
  }

  #create(key) {
    const element = this.#template.cloneNode(true);
    element.dataset.key = key;
    this.#elements.set(key, element);
    return element;
  }

  // A moved element loses the focus, so an element in the right place is not moved.
  #place(element, index) {
    const current = this.#rows.children[index];
    if (current !== element) this.#rows.insertBefore(element, current ?? null);
  }

  #remove(key) {
    this.#elements.get(key).remove();
    this.#elements.delete(key);
    this.#painted.delete(key);
  }

  #count() {
    const size = this.#elements.size;
    const empty = this.#panel.querySelector(".empty");
    setText(empty, empty.dataset.empty);
    setText(this.#panel.querySelector(".count"), size ? String(size) : "");
    this.#panel.toggleAttribute("data-filled", size > 0);
  }
}
