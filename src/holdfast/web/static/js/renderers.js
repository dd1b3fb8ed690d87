// Draws the steps of an environment, where somebody wrote how. A renderer is an ES module:
//
//   export default {
//     name: "tetris",
//     environments: ["tetris"],            // names that it is for, whatever the row looks like
//     matches(row) { return true; },       // or rows that it knows by their looks
//     render(row, kit) { return element; } // null: there is nothing to draw
//   };
//
// `row` is what /api/row answers. `kit` has `h` (makes elements; text stays text), `number`, `badge`, and
// `slider(frames, draw)`, where `draw(frame)` returns an element for one step.

import { fill, h, number } from "./dom.js";
import { badge } from "./transcript.js";

const renderers = [];
let environment = "";
const kit = { h, number, badge, slider };

/** Load the renderers that the server names; one that fails is said, and the others stay. */
export async function load(paths, name) {
  environment = name;
  for (const path of paths) {
    try {
      renderers.push((await import(path)).default);
    } catch (error) {
      console.error(`${path}: ${error.message}`);
    }
  }
}

/** The drawing of a row, or null. */
export async function drawing(row) {
  const own = typeof row.rest?.environment === "string" ? row.rest.environment : environment;
  for (const renderer of renderers) {
    try {
      if (!renderer.environments?.includes(own) && !renderer.matches?.(row)) continue;
      const element = await renderer.render(row, kit);
      if (element) return h("div", { class: "drawing", "data-renderer": renderer.name }, element);
    } catch (error) {
      console.error(`${renderer.name}: ${error.message}`);
    }
  }
  return null;
}

/** Frames with a slider, buttons and playing. A frame has a `label`, and perhaps a `reward`. */
function slider(frames, draw) {
  let at = 0;
  let timer = null;
  const place = h("input", { type: "range", min: "0", max: String(frames.length - 1), value: "0", "aria-label": "step", class: "step" });
  const picture = h("div", { class: "picture" });
  const caption = h("p", { class: "caption", "aria-live": "polite" });
  const play = h("button", { type: "button", title: "play", "aria-label": "play", onclick: () => (timer ? stop() : start()) }, "\u25b6");

  function show(step) {
    at = Math.max(0, Math.min(frames.length - 1, step));
    place.value = String(at);
    place.setAttribute("aria-valuetext", `step ${at} of ${frames.length - 1}: ${frames[at].label}`);
    fill(picture, draw(frames[at]));
    fill(caption, `step ${at} of ${frames.length - 1}`, h("strong", {}, frames[at].label), badge(frames[at].reward));
  }

  function start() {
    if (at === frames.length - 1) show(0);
    timer = setInterval(() => (at < frames.length - 1 && element.isConnected ? show(at + 1) : stop()), 400);
    play.textContent = "\u23f8";
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "\u25b6";
  }

  const step = (way, sign, title) => h("button", { type: "button", title, "aria-label": title, onclick: () => show(at + way) }, sign);
  place.addEventListener("input", () => show(Number(place.value)));
  const element = h("div", { class: "slider" }, picture, h("div", { class: "controls" }, play, step(-1, "\u2039", "step back"), place, step(1, "\u203a", "step on")), caption);
  show(0);
  return element;
}
