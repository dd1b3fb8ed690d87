// Makes elements. Text only ever arrives as text, with what is invisible in it spelled out: nothing here, or anywhere
// else, parses HTML.

/** An element: `h("button", {class: "x", onclick: f}, "text", child)`. Attributes that are null or false are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, name === "title" || name === "aria-label" ? visible(value) : String(value));
  }
  append(element, children);
  return element;
}

export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(visible(child)));
  }
}

/** Replace what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2028\u2029\u2060\u2066-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** Text with what would be invisible, or would reorder what surrounds it, spelled out. */
export function visible(text) {
  return String(text).replace(HIDDEN, (each) => {
    const code = each.charCodeAt(0);
    if (code < 32) return String.fromCharCode(0x2400 + code);
    return `\u27e8U+${code.toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
  });
}

const BLOCK = 8192;

/** Fill an element with a text of any length: in blocks, of which the browser lays out only those that are seen. */
export function fillText(element, text) {
  const shown = visible(text);
  if (shown.length <= BLOCK) return fill(element, shown);
  const blocks = [];
  for (let at = 0; at < shown.length; ) {
    const line = shown.lastIndexOf("\n", at + BLOCK) + 1;
    let end = line > at ? line : at + BLOCK;
    if (line <= at && /[\ud800-\udbff]/.test(shown[end - 1] ?? "")) end -= 1;
    blocks.push(h("div", { class: "block" }, shown.slice(at, end)));
    at = end;
  }
  return fill(element, blocks);
}

/** Visible text on one line, of at most so many characters. */
export function brief(text, most = 200) {
  const line = visible(String(text).slice(0, most + 1)).replace(/\s+/g, " ");
  return line.length > most ? `${line.slice(0, most)}\u2026` : line;
}

const GROUPED = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** A number for people: no more digits than say something. */
export function number(value, digits = 4) {
  if (value === null || value === undefined) return "";
  if (Number.isInteger(value)) return Math.abs(value) < 10000 ? String(value) : GROUPED.format(value);
  return String(Number(value.toPrecision(digits)));
}

export function seconds(value) {
  if (value === null || value === undefined) return "";
  return value < 60 ? `${number(value, 3)} s` : `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}
