// What is looked at, kept in the URL behind `#`, so that it can be sent to others and the back button works.

export const RANGES = ["reward", "steps", "tools", "tokens", "length", "seconds"];
const FILTERS = ["state", "success", "truncated", "failure", "search", "prompt"];
const KNOWN = [...FILTERS, "sort", "dir", "measure", "row", "group", ...RANGES.flatMap((name) => [`${name}_min`, `${name}_max`])];

const listeners = [];
let current = read();

function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries(KNOWN.filter((name) => given.has(name)).map((name) => [name, given.get(name)]));
}

export function get(name) {
  return current[name] ?? "";
}

/** Change some of it; `null` or "" takes a value away. With `keep`, the step before stays behind the back button. */
export function set(changes, keep = false) {
  const before = current;
  current = Object.fromEntries(Object.entries({ ...current, ...changes }).filter(([, value]) => value !== null && value !== ""));
  const hash = `#${new URLSearchParams(current)}`;
  if (hash !== location.hash) history[keep ? "pushState" : "replaceState"](null, "", hash);
  tell(before);
}

export function onChange(listener) {
  listeners.push(listener);
}

function tell(before) {
  const changed = new Set(KNOWN.filter((name) => (before[name] ?? "") !== (current[name] ?? "")));
  if (changed.size) for (const listener of listeners) listener(changed);
}

function reread() {
  const before = current;
  current = read();
  tell(before);
}

addEventListener("popstate", reread);
addEventListener("hashchange", reread);

/** The filter, as the server takes it. */
export function filter() {
  const names = [...FILTERS, ...RANGES.flatMap((name) => [`${name}_min`, `${name}_max`])];
  return Object.fromEntries(names.filter((name) => current[name]).map((name) => [name, current[name]]));
}

export function isFilter(name) {
  return !["sort", "dir", "measure", "row", "group"].includes(name);
}
