// What narrows the list: search, state, success, failure, and a range for every measure.

import { fill, h } from "./dom.js";
import * as state from "./state.js";

const WAIT = 150; // milliseconds after a key before the list follows

export class Filters {
  constructor() {
    this.search = h("input", { type: "search", placeholder: "part of a prompt\u2019s id", "aria-label": "search prompts", spellcheck: "false" });
    this.controls = { search: this.search };
    this.select("state", "rows", { "": "that count", graded: "with reward", failed: "failed", superseded: "made again", all: "all" });
    this.select("success", "success", { "": "either", yes: "yes", no: "no" });
    this.select("truncated", "cut off", { "": "either", yes: "yes", no: "no" });
    this.select("failure", "failure", { "": "any" });
    const ranges = state.RANGES.map((name) => this.range(name));
    this.clear = h("button", { type: "button", class: "clear", onclick: () => this.clearAll() }, "Show everything");
    this.prompt = h("p", { class: "only" });
    const labels = ["state", "success", "truncated", "failure"].map((name) => this.controls[name].parentElement);
    this.element = h("form", { class: "filters", "aria-label": "filters", onsubmit: (event) => event.preventDefault() },
      h("label", { class: "search" }, "Search", this.search), this.prompt, labels,
      h("details", { class: "ranges" }, h("summary", {}, "Ranges"), ranges), this.clear);
    this.element.addEventListener("input", (event) => this.typed(event.target));
    this.show();
  }

  select(name, title, choices) {
    const options = Object.entries(choices).map(([value, text]) => h("option", { value }, text));
    this.controls[name] = h("select", { name, "aria-label": title }, options);
    h("label", {}, title, this.controls[name]);
  }

  range(name) {
    const ends = ["min", "max"].map((end) => {
      const input = h("input", { type: "number", step: "any", "aria-label": `${name}, ${end === "min" ? "at least" : "at most"}`, placeholder: end });
      this.controls[`${name}_${end}`] = input;
      return input;
    });
    return h("div", { class: "range" }, h("span", {}, name), ends);
  }

  typed(control) {
    const name = Object.keys(this.controls).find((each) => this.controls[each] === control);
    if (!name) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => state.set({ [name]: control.value }), control.tagName === "SELECT" ? 0 : WAIT);
  }

  /** Follow the state: a bar of the histogram or a link may have set it. */
  show() {
    for (const [name, control] of Object.entries(this.controls)) {
      if (control !== document.activeElement || control.tagName === "SELECT") control.value = state.get(name);
    }
    const only = state.get("prompt");
    fill(this.prompt, only && ["one prompt only ", h("button", { type: "button", onclick: () => state.set({ prompt: null }) }, "all prompts")]);
    this.clear.disabled = !Object.keys(state.filter()).length;
  }

  showFailures(failures) {
    const chosen = state.get("failure");
    const names = [...new Set([...Object.keys(failures), chosen].filter(Boolean))];
    const options = names.map((name) => h("option", { value: name }, `${name.slice(0, 60)} (${failures[name] ?? 0})`));
    const key = JSON.stringify(failures);
    if (key === this.known) return;
    this.known = key;
    fill(this.controls.failure, h("option", { value: "" }, "any"), options);
    this.controls.failure.value = chosen;
  }

  clearAll() {
    state.set(Object.fromEntries(Object.keys(state.filter()).map((name) => [name, null])));
    for (const control of Object.values(this.controls)) control.value = "";
  }
}
