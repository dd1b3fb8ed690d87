// The list: draws only the rows on the screen, and asks for them in pages, so that a million are as fast as ten.

import { ask } from "./api.js";
import { brief, fill, h, number, seconds } from "./dom.js";
import * as state from "./state.js";

const HEIGHT = 30; // pixels of a row, as in app.css
const TALLEST = 8e6; // pixels that an element can have in every browser
const PAGE = 200;
const KEPT = 40;

const COLUMNS = [
  { name: "id", title: "prompt", sort: "prompt", show: (row) => brief(row.id, 80) },
  { name: "repeat", title: "repeat", sort: "repeat", show: (row) => number(row.repeat) },
  { name: "reward", title: "reward", sort: "reward", show: (row) => number(row.reward) },
  { name: "status", title: "result", sort: "success", show: statusOf },
  { name: "steps", title: "steps", sort: "steps", show: (row) => number(row.steps) },
  { name: "tools", title: "tools", sort: "tools", show: (row) => number(row.tools) },
  { name: "tokens", title: "tokens", sort: "tokens", show: (row) => number(row.tokens) },
  { name: "length", title: "length", sort: "length", show: (row) => number(row.length) },
  { name: "seconds", title: "time", sort: "seconds", show: (row) => seconds(row.seconds) },
];

function statusOf(row) {
  if (row.failure) return brief(row.failure, 24);
  const words = [row.success === null ? "" : row.success ? "success" : "no", row.truncated ? "cut" : ""];
  return words.filter(Boolean).join(", ");
}

export class List {
  constructor({ onOpen, onTotal, onError }) {
    Object.assign(this, { onOpen, onTotal, onError });
    this.total = 0;
    this.top = 0; // the first row on the screen, with its fraction
    this.at = 0; // the row that is selected, by its place in the list
    this.pages = new Map();
    this.asked = new Map(); // what was asked for, until the list is another
    this.turn = 0;
    this.elements = [];
    this.head = h("div", { class: "head", role: "row" });
    this.layer = h("div", { class: "layer", role: "rowgroup" });
    this.spacer = h("div", { class: "spacer" });
    this.scroller = h("div", { class: "scroller", tabindex: "0", role: "grid", "aria-label": "rollouts" }, this.layer, this.spacer);
    this.empty = h("p", { class: "empty", role: "status" });
    this.element = h("section", { class: "list", "aria-label": "list of rollouts" }, this.head, this.scroller, this.empty);
    this.scroller.addEventListener("scroll", () => this.scrolled());
    this.scroller.addEventListener("wheel", (event) => this.wheeled(event), { passive: false });
    this.layer.addEventListener("click", (event) => this.clicked(event));
    new ResizeObserver(() => this.draw()).observe(this.scroller);
    this.drawHead();
  }

  drawHead() {
    const sort = state.get("sort") || "file";
    const descending = state.get("dir") === "desc";
    fill(this.head, COLUMNS.map((column) => {
      const sorted = sort === column.sort;
      const label = sorted ? `${column.title} ${descending ? "\u2193" : "\u2191"}` : column.title;
      const button = h("button", { type: "button", onclick: () => this.sortBy(column.sort) }, label);
      const order = sorted ? (descending ? "descending" : "ascending") : "none";
      return h("div", { class: `cell ${column.name}`, role: "columnheader", "aria-sort": order }, button);
    }));
  }

  /** First the greatest, then the least, then as in the file; prompts begin with the first. */
  sortBy(name) {
    const first = name === "prompt" || name === "repeat" ? "asc" : "desc";
    const second = first === "asc" ? "desc" : "asc";
    if (state.get("sort") !== name) state.set({ sort: name, dir: first });
    else if (state.get("dir") === first) state.set({ sort: name, dir: second });
    else state.set({ sort: null, dir: null });
  }

  /** Another list: from its beginning. */
  reset() {
    this.turn += 1;
    this.pages.clear();
    this.asked.clear();
    this.at = 0;
    this.drawHead();
    this.scrollTo(0);
    return this.fetch(0);
  }

  /** The same list, of which there may be more. What is shown stays until it is replaced. */
  refresh() {
    this.turn += 1;
    this.asked.clear();
    const shown = new Set(this.shownPages());
    for (const page of this.pages.keys()) if (!shown.has(page)) this.pages.delete(page);
    return Promise.all([...new Set([0, ...shown])].map((page) => this.fetch(page)));
  }

  fetch(page) {
    if (!this.asked.has(page)) this.asked.set(page, this.load(page));
    return this.asked.get(page);
  }

  async load(page) {
    const turn = this.turn;
    const sort = { sort: state.get("sort"), dir: state.get("dir") };
    try {
      const found = await ask("rows", { ...state.filter(), ...sort, offset: page * PAGE, limit: PAGE });
      if (turn !== this.turn) return;
      this.pages.delete(page);
      this.pages.set(page, found.rows);
      this.forget();
      this.setTotal(found.total);
      this.onError("");
    } catch (error) {
      this.asked.delete(page);
      if (turn === this.turn) this.onError(error.message);
    }
  }

  forget() {
    const shown = new Set(this.shownPages());
    for (const page of this.pages.keys()) {
      if (this.pages.size <= KEPT) return;
      if (!shown.has(page)) {
        this.pages.delete(page);
        this.asked.delete(page);
      }
    }
  }

  setTotal(total) {
    this.total = total;
    this.spacer.style.height = `${Math.min(total * HEIGHT, TALLEST)}px`;
    this.scroller.setAttribute("aria-rowcount", String(total));
    this.empty.textContent = total ? "" : "Nothing is found.";
    this.onTotal(total);
    this.draw();
  }

  get room() {
    return Math.max(1, this.scroller.clientHeight / HEIGHT);
  }

  shownPages() {
    const first = Math.floor(this.top / PAGE);
    const last = Math.floor(Math.max(0, Math.min(this.total, this.top + this.room) - 1) / PAGE);
    return Array.from({ length: last - first + 1 }, (_, number) => first + number);
  }

  scrolled() {
    if (this.isMoving) {
      this.isMoving = false;
      return;
    }
    const way = this.scroller.scrollHeight - this.scroller.clientHeight;
    this.top = way > 0 ? (this.scroller.scrollTop / way) * Math.max(0, this.total - this.room) : 0;
    this.draw();
  }

  /** Where the list is taller than any element, a turn of the wheel moves by rows and not by shares of it. */
  wheeled(event) {
    if (this.total * HEIGHT <= TALLEST || event.ctrlKey) return;
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 1 : event.deltaMode === 2 ? this.room : 1 / HEIGHT;
    this.scrollTo(this.top + event.deltaY * unit);
  }

  scrollTo(top) {
    const most = Math.max(0, this.total - this.room);
    this.top = Math.max(0, Math.min(most, top));
    const way = this.scroller.scrollHeight - this.scroller.clientHeight;
    const wanted = most > 0 ? Math.round((this.top / most) * way) : 0;
    if (wanted !== Math.round(this.scroller.scrollTop)) {
      this.isMoving = true;
      this.scroller.scrollTop = wanted;
    }
    this.draw();
  }

  row(place) {
    return this.pages.get(Math.floor(place / PAGE))?.[place % PAGE];
  }

  draw() {
    const first = Math.floor(this.top);
    const count = Math.max(0, Math.min(this.total - first, Math.ceil(this.room) + 1));
    while (this.elements.length < count) this.addElement();
    this.elements.forEach((element, number) => {
      element.hidden = number >= count;
      if (number < count) this.drawRow(element, first + number);
    });
    this.layer.style.transform = `translateY(${-(this.top - first) * HEIGHT}px)`;
    for (const page of this.shownPages()) if (this.total && !this.pages.has(page)) this.fetch(page);
    const selected = this.at - first;
    if (selected >= 0 && selected < count) this.scroller.setAttribute("aria-activedescendant", `row-${selected}`);
    else this.scroller.removeAttribute("aria-activedescendant");
  }

  addElement() {
    const cells = COLUMNS.map((column) => h("span", { class: `cell ${column.name}`, role: "gridcell" }));
    const element = h("div", { class: "row", role: "row", id: `row-${this.elements.length}` }, cells);
    this.elements.push(element);
    this.layer.append(element);
  }

  drawRow(element, place) {
    const row = this.row(place);
    element.dataset.place = String(place);
    element.setAttribute("aria-rowindex", String(place + 1));
    element.setAttribute("aria-selected", String(place === this.at));
    element.classList.toggle("open", Boolean(row) && String(row.n) === state.get("row"));
    const kind = !row ? "waiting" : row.failure ? "failed" : row.success ? "good" : "plain";
    element.dataset.kind = row && row.standing ? `${kind} superseded` : kind;
    COLUMNS.forEach((column, number) => {
      const text = row ? column.show(row) : "";
      const cell = element.children[number];
      if (cell.textContent !== text) cell.textContent = text;
    });
  }

  clicked(event) {
    const element = event.target.closest(".row");
    if (!element) return;
    this.at = Number(element.dataset.place);
    this.draw();
    this.open();
  }

  open() {
    const row = this.row(this.at);
    if (row) this.onOpen(row);
  }

  /** Select the row of this number, where it is among those that are loaded. */
  select(n) {
    for (const [page, rows] of this.pages) {
      const place = rows.findIndex((row) => String(row.n) === n);
      if (place >= 0) this.at = page * PAGE + place;
    }
    this.draw();
  }

  /** Bring the selected row into view. */
  reveal() {
    if (this.at < this.top) this.scrollTo(this.at);
    else if (this.at + 1 > this.top + this.room) this.scrollTo(this.at + 1 - this.room);
    else this.draw();
  }

  /** Select another row; it comes into view, and is opened where one was open. */
  async move(distance) {
    if (!this.total) return;
    this.at = Math.max(0, Math.min(this.total - 1, this.at + distance));
    this.reveal();
    if (!state.get("row")) return;
    const at = this.at;
    await this.fetch(Math.floor(at / PAGE));
    if (at === this.at) this.open();
  }
}
