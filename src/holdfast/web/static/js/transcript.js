// A conversation: messages with their calls, what the model thought, and the reward of each step.

import { ask } from "./api.js";
import { fillText, h, number, seconds } from "./dom.js";

/** All of `row.messages`; `n` is the number of the row, for what is loaded later. */
export function transcript(row) {
  return row.messages.map((message, place) => drawMessage(row, message, row.start + place));
}

function drawMessage(row, message, place) {
  const turn = message.turn === undefined ? null : row.turns?.[message.turn];
  const role = /^[a-z]{1,20}$/.test(message.role) ? message.role : "other";
  return h("article", { class: "message", "data-role": role, "data-turn": message.turn ?? null, "aria-label": `message ${place + 1}, ${role}` },
    h("header", {}, h("span", { class: "role" }, message.role.slice(0, 40)), message.name && h("span", { class: "name" }, message.name),
      turn && h("span", { class: "turn" }, turnWords(message.turn, turn)), badge(message.reward)),
    message.reasoning && h("details", { class: "reasoning" }, h("summary", {}, "reasoning"), text(row, message.reasoning)),
    message.text.text && (role === "tool" ? structured(row, message.text) : text(row, message.text)),
    (message.calls ?? []).map((call) => h("div", { class: "call" }, h("span", { class: "function" }, call.name), structured(row, call.arguments))));
}

function turnWords(number_, turn) {
  const words = [`turn ${number_ + 1}`];
  const tokens = turn.usage?.completion_tokens;
  if (typeof tokens === "number") words.push(`${number(tokens)} tokens`);
  if (typeof turn.seconds === "number") words.push(seconds(turn.seconds));
  if (typeof turn.finish === "string" && turn.finish !== "stop" && turn.finish !== "tool_calls") words.push(turn.finish.slice(0, 40));
  return words.join(" \u00b7 ");
}

/** A reward as a badge; nothing where there is none. */
export function badge(reward) {
  if (typeof reward !== "number") return null;
  const kind = reward > 0 ? "up" : reward < 0 ? "down" : "zero";
  return h("span", { class: `worth ${kind}`, title: "reward" }, `${reward > 0 ? "+" : ""}${number(reward)}`);
}

/** A text; of a long one the beginning, and a button that loads the rest. */
export function text(row, piece) {
  const block = pre(piece.text);
  return piece.at ? [block, loadFull(row, piece, block)] : block;
}

/** A text as it is, from the side where it begins. */
export function pre(content) {
  const block = h("pre", { class: "text", dir: "auto" });
  fillText(block, content);
  return block;
}

function loadFull(row, piece, block) {
  const button = h("button", { type: "button", class: "more", onclick: async () => {
    button.disabled = true;
    try {
      fillText(block, (await ask(`row/${row.n}/text`, { at: piece.at })).text);
      button.remove();
    } catch (error) {
      button.disabled = false;
      button.textContent = error.message;
    }
  } }, `Load full: ${number(piece.chars)} characters, the first ${number(piece.text.length)} are shown`);
  return button;
}

/** JSON laid out, texts in it with their lines; a button shows it as it was sent. */
function structured(row, piece) {
  const laidOut = piece.at ? null : layOut(piece.text);
  if (laidOut === null) return text(row, piece);
  const block = pre(laidOut);
  let isRaw = false;
  const button = h("button", { type: "button", class: "raw", "aria-pressed": "false", onclick: () => {
    isRaw = !isRaw;
    fillText(block, isRaw ? piece.text : laidOut);
    button.setAttribute("aria-pressed", String(isRaw));
  } }, "as sent");
  return h("div", { class: "structured" }, block, button);
}

function layOut(source) {
  if (!/^\s*[[{]/.test(source)) return null;
  try {
    return spell(JSON.parse(source), 0).replace(/^\n/, "");
  } catch {
    return null;
  }
}

/** As YAML looks: what has lines keeps them. */
export function spell(value, depth) {
  if (depth > 20) return "\u2026";
  const indent = "  ".repeat(depth);
  if (typeof value === "string") {
    return value.includes("\n") ? `\n${value.split("\n").map((line) => indent + line).join("\n")}` : value;
  }
  if (value === null || typeof value !== "object") return String(value);
  if (Array.isArray(value)) {
    if (value.every((each) => each === null || typeof each !== "object")) return JSON.stringify(value);
    return value.map((each) => `\n${indent}- ${spell(each, depth + 1).trimStart()}`).join("");
  }
  return Object.entries(value).map(([name, each]) => {
    const said = spell(each, depth + 1);
    return `\n${indent}${name}:${said.startsWith("\n") ? "" : " "}${said}`;
  }).join("");
}
