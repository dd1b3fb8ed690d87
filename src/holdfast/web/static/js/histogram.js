// How a measure is spread over what the filter finds; a bar filters by its values.

import { ask } from "./api.js";
import { fill, h, number } from "./dom.js";
import * as state from "./state.js";

export class Histogram {
  constructor() {
    this.choice = h("select", { "aria-label": "measure", onchange: () => state.set({ measure: this.choice.value }) },
      state.RANGES.map((name) => h("option", { value: name }, name)));
    this.bars = h("div", { class: "bars", role: "group", "aria-label": "histogram" });
    this.axis = h("div", { class: "axis" });
    this.element = h("div", { class: "histogram" }, h("label", {}, "Spread of ", this.choice), this.bars, this.axis);
  }

  get measure() {
    return state.get("measure") || "reward";
  }

  async refresh() {
    this.choice.value = this.measure;
    const measure = this.measure;
    const own = [`${measure}_min`, `${measure}_max`];
    const others = Object.fromEntries(Object.entries(state.filter()).filter(([name]) => !own.includes(name)));
    const found = await ask("histogram", { ...others, measure, bins: 40 });
    if (measure === this.measure) this.draw(found.bars);
  }

  draw(bars) {
    const focused = this.bars.contains(document.activeElement) ? document.activeElement.dataset.low : null;
    const least = bars.length ? bars[0].low : 0;
    const greatest = bars.length ? bars[bars.length - 1].high : 0;
    const most = Math.max(...bars.map((bar) => bar.rows), 1);
    const width = widthOf(bars, greatest - least);
    fill(this.bars, bars.map((bar) => this.drawBar(bar, { least, greatest, most, width })));
    if (focused !== null) [...this.bars.children].find((bar) => bar.dataset.low === focused)?.focus();
    fill(this.axis, h("span", {}, bars.length ? number(least) : ""), h("span", {}, bars.length > 1 ? number(greatest) : ""));
  }

  drawBar(bar, { least, greatest, most, width }) {
    const range = bar.low === bar.high ? number(bar.low) : `${number(bar.low)} to ${number(bar.high)}`;
    const words = `${this.measure} ${range}: ${number(bar.rows)} rollouts`;
    const chosen = this.isChosen(bar);
    const button = h("button", { type: "button", class: "bin", title: words, "aria-label": words, "aria-pressed": String(chosen), "data-low": String(bar.low), onclick: () => this.choose(bar) }, h("span", {}));
    const share = greatest > least ? ((bar.low + bar.high) / 2 - least) / (greatest - least) : 0.5;
    button.style.left = `${share * (100 - width)}%`;
    button.style.width = `${width}%`;
    button.firstChild.style.height = `${Math.max(2, (100 * bar.rows) / most)}%`;
    return button;
  }

  isChosen(bar) {
    return state.get(`${this.measure}_min`) === String(bar.low) && state.get(`${this.measure}_max`) === String(bar.high);
  }

  choose(bar) {
    const chosen = this.isChosen(bar);
    state.set({ [`${this.measure}_min`]: chosen ? null : String(bar.low), [`${this.measure}_max`]: chosen ? null : String(bar.high) });
  }
}

/** Percent of the width that a bar has, so that neighbours just do not touch. */
function widthOf(bars, spread) {
  if (bars.length < 2 || !spread) return 12;
  const middles = bars.map((bar) => (bar.low + bar.high) / 2);
  const gaps = middles.slice(1).map((value, number) => value - middles[number]);
  return Math.max(1.4, Math.min(12, (90 * Math.min(...gaps)) / spread));
}
