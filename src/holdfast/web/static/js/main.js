// The page: puts its parts together, follows the collection, and listens to the keyboard.

import { ask, follow } from "./api.js";
import { Detail } from "./detail.js";
import { fill, h, number, visible } from "./dom.js";
import { Filters } from "./filters.js";
import { Histogram } from "./histogram.js";
import { List } from "./list.js";
import { load } from "./renderers.js";
import * as state from "./state.js";

const KEYS = [
  ["j, \u2193", "next rollout"], ["k, \u2191", "previous rollout"], ["Page Up, Page Down", "a screen of the list"], ["Home, End", "first, last"],
  ["Enter", "open"], ["Esc", "close"], ["g", "repeats of the prompt side by side"], ["\u2190, \u2192", "step of the board; column of a group"],
  ["/", "search"], ["t", "dark or light"], ["?", "this list"],
];
const AGAIN = 1000; // milliseconds between two refreshes of a list that grows

const title = h("h1", { dir: "auto" });
const counts = h("p", { class: "counts" });
const light = h("span", { class: "light", role: "status" });
const notice = h("p", { class: "notice", role: "status" });
const trouble = h("p", { class: "trouble", role: "alert" });
const found = h("p", { class: "found", role: "status" });
const filters = new Filters();
const histogram = new Histogram();
const list = new List({
  onOpen: (row) => state.set({ row: String(row.n), group: null }, !state.get("row")),
  onTotal: (total) => fill(found, `${number(total)} shown`),
  onError: (message) => fill(trouble, message),
});
const detail = new Detail({ onStep: (way) => list.move(way) });
const help = h("dialog", { class: "help", "aria-label": "keys" }, h("h2", {}, "Keys"),
  h("dl", {}, KEYS.map(([keys, words]) => h("div", {}, h("dt", {}, keys), h("dd", {}, words)))),
  h("form", { method: "dialog" }, h("button", {}, "Close")));

document.body.append(
  h("header", { class: "top" }, title, light, counts, h("span", { class: "spring" }), found,
    h("button", { type: "button", class: "theme", title: "dark or light (t)", "aria-label": "dark or light", onclick: turnTheme }, "\u25d0"),
    h("button", { type: "button", title: "keys (?)", "aria-label": "keys", onclick: () => help.showModal() }, "?")),
  notice, trouble,
  h("main", {}, h("aside", { "aria-label": "filters and figures" }, filters.element, histogram.element), list.element, detail.element),
  help);

function turnTheme() {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  setTheme(dark ? "light" : "dark");
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("holdfast-theme", theme);
  } catch {
    // A browser that keeps nothing shows what its owner prefers.
  }
}

async function showSummary() {
  const summary = await ask("summary");
  const totals = summary.totals;
  document.title = `${visible(summary.name)} \u00b7 rollouts`;
  title.textContent = visible(summary.name);
  const rate = totals.graded ? ` (${number((100 * totals.succeeded) / totals.graded, 3)}%)` : "";
  const words = [[totals.graded, "rewards"], [totals.failed, "failed"], [totals.prompts, "prompts"], [`${number(totals.succeeded)}${rate}`, "success"], [totals.mean === null ? "" : number(totals.mean), "mean reward"]];
  fill(counts, words.filter(([value]) => value !== "").map(([value, name]) => h("span", {}, h("b", {}, typeof value === "number" ? number(value) : value), ` ${name}`)));
  filters.showFailures(totals.failures);
  showState(summary.state);
  return summary;
}

function showState(now) {
  light.dataset.kind = now.reading && now.progress < 1 ? "reading" : "live";
  light.textContent = now.reading && now.progress < 1 ? `reading ${Math.floor(100 * now.progress)}%` : "live";
  const words = [];
  if (now.notice) words.push(now.notice);
  if (now.passed_over) words.push(`${number(now.passed_over)} lines are no rows: ${now.bad_lines.join("; ")}`);
  if (now.torn) words.push(`${number(now.torn)} bytes at the end are no whole row yet`);
  notice.textContent = visible(words.join(" \u00b7 "));
}

let version = "";
let waiting = null;

function changed(now) {
  showState(now);
  if (now.version === version || waiting) return;
  waiting = setTimeout(async () => {
    waiting = null;
    version = now.version;
    await refreshAll();
  }, version ? AGAIN : 0);
}

async function refreshAll() {
  try {
    await Promise.all([showSummary(), list.refresh(), histogram.refresh()]);
  } catch (error) {
    fill(trouble, error.message);
  }
}

state.onChange(async (names) => {
  filters.show();
  const isOther = [...names].some((name) => state.isFilter(name));
  if (isOther || names.has("sort") || names.has("dir")) await list.reset();
  if (isOther || names.has("measure")) histogram.refresh().catch((error) => fill(trouble, error.message));
  placeDetail();
  list.select(state.get("row"));
  if (names.has("row") && state.get("row")) list.reveal();
  await detail.refresh();
});

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "range";
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    else if (state.get("group") && state.get("row")) state.set({ group: null });
    else state.set({ row: null, group: null });
    return list.scroller.focus();
  }
  if (typing || (event.target.tagName === "BUTTON" && event.key === "Enter")) return undefined;
  const act = actions(event.key);
  if (!act) return undefined;
  event.preventDefault();
  return act();
}

function actions(key) {
  const screen = Math.max(1, Math.floor(list.room) - 1);
  const moves = { j: 1, k: -1, ArrowDown: 1, ArrowUp: -1, PageDown: screen, PageUp: -screen, Home: -Infinity, End: Infinity };
  if (key in moves) return () => list.move(Number.isFinite(moves[key]) ? moves[key] : moves[key] * 1e15 || 0);
  return {
    Enter: () => list.open(),
    g: () => group(),
    "/": () => filters.search.focus(),
    t: turnTheme,
    "?": () => help.showModal(),
    ArrowLeft: () => sideways(-1),
    ArrowRight: () => sideways(1),
  }[key];
}

function group() {
  const row = list.row(list.at);
  if (state.get("group")) state.set({ group: null });
  else if (row) state.set({ group: String(row.prompt), row: String(row.n) }, true);
}

function sideways(way) {
  const columns = document.querySelector(".group");
  if (columns) return columns.scrollBy({ left: way * 360, behavior: "smooth" });
  return document.querySelector(`.slider .controls button[aria-label="step ${way < 0 ? "back" : "on"}"]`)?.click();
}

function placeDetail() {
  document.body.classList.toggle("beside", Boolean(state.get("row") || state.get("group")));
  document.body.classList.toggle("together", Boolean(state.get("group")));
}

async function begin() {
  try {
    const kept = localStorage.getItem("holdfast-theme");
    if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
  } catch {
    // As above.
  }
  document.addEventListener("keydown", onKey);
  placeDetail();
  const summary = await showSummary();
  await Promise.all([list.reset(), histogram.refresh(), load(summary.renderers, summary.environment)]);
  list.select(state.get("row"));
  list.reveal();
  version = summary.state.version;
  await detail.refresh();
  follow(changed, (isLost) => {
    if (!isLost) return;
    light.dataset.kind = "lost";
    light.textContent = "not connected";
  });
  document.documentElement.dataset.ready = "yes";
  list.scroller.focus();
}

begin().catch((error) => fill(trouble, error.message));
