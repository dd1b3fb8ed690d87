// What is beside the list: one rollout, or all repeats of a prompt next to each other.

import { ask } from "./api.js";
import { brief, fill, h, number, seconds } from "./dom.js";
import { drawing } from "./renderers.js";
import * as state from "./state.js";
import { badge, pre, spell, transcript } from "./transcript.js";

export class Detail {
  constructor({ onStep }) {
    this.onStep = onStep;
    this.body = h("div", { class: "body", tabindex: "-1" });
    this.element = h("section", { class: "detail", "aria-label": "rollout", hidden: true }, this.body);
    this.turn = 0;
    this.known = "";
  }

  /** Show what the state says: a group, a row, or nothing. */
  async refresh() {
    const wanted = `${state.get("group")}/${state.get("row")}`;
    if (wanted === this.known) return;
    this.known = wanted;
    this.turn += 1;
    const turn = this.turn;
    this.element.hidden = wanted === "/";
    if (this.element.hidden) return fill(this.body);
    try {
      const content = state.get("group") ? await drawGroup(state.get("group")) : await this.drawRow(state.get("row"));
      if (turn === this.turn) fill(this.body, content);
    } catch (error) {
      if (turn === this.turn) fill(this.body, bar("Not shown"), h("p", { class: "trouble", role: "alert" }, error.message));
    }
    if (turn === this.turn) this.body.scrollTop = 0;
  }

  async drawRow(n) {
    const row = await ask(`row/${encodeURIComponent(n)}`);
    const steps = [["\u2190", "previous rollout (k)", -1], ["\u2192", "next rollout (j)", 1]];
    const buttons = steps.map(([sign, title, way]) => h("button", { type: "button", title, "aria-label": title, onclick: () => this.onStep(way) }, sign));
    return [
      bar(brief(row.id, 60), h("span", { class: "muted" }, `repeat ${number(row.repeat)}`), h("span", { class: "spring" }), buttons,
        h("button", { type: "button", class: "together", title: "all repeats of this prompt (g)", onclick: () => state.set({ group: String(row.prompt) }, true) }, "Side by side"),
        h("a", { href: `/api/row/${row.n}/raw`, download: `row-${row.n}.json`, title: "the row as it lies in the file" }, "Save")),
      facts(row),
      row.error !== null && h("div", { class: "trouble" }, h("strong", {}, brief(row.failure ?? "failed", 100)), pre(said(row.error))),
      stepsOf(row),
      await drawing(row),
      given(row),
      conversation(row),
      h("details", { class: "rest" }, h("summary", {}, "Everything else in the row"), pre(spell(row.rest, 0).trimStart())),
    ];
  }
}

function bar(title, ...more) {
  const close = h("button", { type: "button", class: "close", title: "close (esc)", "aria-label": "close", onclick: () => state.set({ row: null, group: null }) }, "\u00d7");
  return h("div", { class: "bar" }, h("h2", { dir: "auto" }, title), more, close);
}

function facts(row) {
  const found = [
    ["reward", badge(row.reward)], ["success", row.success === null ? null : row.success ? "yes" : "no"], ["steps", number(row.steps)],
    ["tool calls", number(row.tools)], ["tokens", number(row.tokens)], ["time", seconds(row.seconds)], ["cut off", row.truncated ? "yes" : null],
    ["row", `${number(row.n)}${row.standing === 1 ? ", made again later" : row.standing === 2 ? ", another one counts" : ""}`],
  ].filter(([, value]) => value !== null && value !== "");
  return h("dl", { class: "facts" }, found.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function said(error) {
  return typeof error === "object" && error !== null ? String(error.message ?? spell(error, 0)) : String(error);
}

/** The reward of each turn, to jump to it. */
function stepsOf(row) {
  if (row.turns.length < 2) return null;
  const most = Math.max(...row.turns.map((turn) => Math.abs(turn?.reward ?? 0)), 1e-9);
  return h("nav", { class: "ladder", "aria-label": "reward of each turn" }, row.turns.map((turn, place) => {
    const reward = typeof turn?.reward === "number" ? turn.reward : 0;
    const words = `turn ${place + 1}: reward ${number(reward)}`;
    const button = h("button", { type: "button", class: reward > 0 ? "up" : reward < 0 ? "down" : "zero", title: words, "aria-label": words, onclick: () => jump(place) }, h("span", {}));
    button.firstChild.style.height = `${Math.max(6, (100 * Math.abs(reward)) / most)}%`;
    return button;
  }));
}

function jump(turn) {
  document.querySelector(`.message[data-turn="${turn}"]`)?.scrollIntoView({ block: "start", behavior: "smooth" });
}

function given(row) {
  if (row.given === null || !Object.keys(row.given).length) return null;
  return h("details", { class: "given", open: true }, h("summary", {}, "Prompt"), pre(spell(row.given, 0).trimStart()));
}

function conversation(row) {
  const list = h("div", { class: "transcript" }, transcript(row));
  addMore(row, list, row.start + row.messages.length);
  return list;
}

function addMore(row, list, from) {
  if (from >= row.total) return;
  const button = h("button", { type: "button", class: "more", onclick: async () => {
    button.disabled = true;
    const next = await ask(`row/${row.n}`, { start: from });
    button.remove();
    list.append(...transcript(next));
    addMore(next, list, next.start + next.messages.length);
  } }, `Load more: ${number(row.total - from)} messages`);
  list.append(button);
}

async function drawGroup(prompt) {
  const group = await ask(`prompt/${encodeURIComponent(prompt)}`);
  const rewards = group.rows.map((row) => row.reward).filter((reward) => reward !== null);
  const mean = rewards.length ? rewards.reduce((sum, each) => sum + each, 0) / rewards.length : null;
  const spread = rewards.length ? `rewards ${number(Math.min(...rewards))} to ${number(Math.max(...rewards))}, mean ${number(mean)}` : "no rewards";
  const columns = group.rows.map(drawColumn);
  const watcher = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => entry.target.dispatchEvent(new Event("seen"))));
  for (const column of columns) watcher.observe(column);
  return [
    bar(brief(group.id, 60), h("span", { class: "muted" }, `${number(group.total)} repeats, ${spread}`), h("span", { class: "spring" }),
      h("button", { type: "button", onclick: () => state.set({ prompt, group: null, row: null }) }, "Only these in the list")),
    h("div", { class: "group", tabindex: "0", role: "group", "aria-label": "repeats side by side" }, columns),
  ];
}

function drawColumn(row) {
  const body = h("div", { class: "transcript" }, h("p", { class: "muted" }, "\u2026"));
  const column = h("section", { class: "column", "aria-label": `repeat ${row.repeat}` },
    h("header", {}, h("button", { type: "button", class: "link", onclick: () => state.set({ row: String(row.n), group: null }, true) }, `repeat ${number(row.repeat)}`),
      badge(row.reward), row.success ? h("span", { class: "good" }, "success") : null, row.failure ? h("span", { class: "bad" }, brief(row.failure, 30)) : null,
      h("span", { class: "muted" }, [row.steps === null ? "" : `${number(row.steps)} steps`, row.tokens === null ? "" : `${number(row.tokens)} tokens`].filter(Boolean).join(", "))), body);
  column.addEventListener("seen", async () => {
    try {
      const found = await ask(`row/${row.n}`);
      const answered = found.messages.findIndex((message) => message.role === "assistant");
      const asked = answered > 0 ? found.messages.slice(0, answered) : [];
      const said_ = { ...found, messages: found.messages.slice(asked.length), start: asked.length };
      fill(body, asked.length ? h("details", { class: "asked" }, h("summary", {}, `${asked.length} messages before`), transcript({ ...found, messages: asked })) : null,
        await drawing(found), transcript(said_));
      addMore(found, body, found.messages.length);
    } catch (error) {
      fill(body, h("p", { class: "trouble" }, error.message));
    }
  }, { once: true });
  return column;
}
