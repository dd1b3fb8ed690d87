// The board of GRL Tetris: `_` empty, `#` settled, `X` the piece. Ours says it in the `info` of each turn, with every
// move; elsewhere it is found in what the model was shown.

const BOARD = /(?:^|\n)((?:[_#X]{2,64}(?:\n|$)){2,64})/g;
const MOST = 2000;

function lines(board) {
  const found = Array.isArray(board) ? board : typeof board === "string" ? board.split("\n") : [];
  const sound = found.length > 1 && found.length <= 64 && found.every((line) => typeof line === "string" && /^[_#X]{1,64}$/.test(line));
  return sound ? found : null;
}

function* framesOfTurns(turns) {
  for (const [number, turn] of turns.entries()) {
    const info = turn?.info ?? {};
    if (number === 0 && lines(info.before)) yield { lines: lines(info.before), label: "start" };
    const steps = Array.isArray(info.steps) ? info.steps.filter((step) => lines(step?.board)) : [];
    for (const step of steps) yield { lines: lines(step.board), label: String(step.action ?? "").slice(0, 20), reward: step.reward };
    if (!steps.length && lines(info.board)) yield { lines: lines(info.board), label: `turn ${number + 1}`, reward: turn.reward };
  }
}

function* framesOfText(messages) {
  for (const message of messages) {
    if (message.role === "assistant") continue;
    const text = message.text.text.replaceAll("\\n", "\n").replaceAll('"', "\n");
    for (const match of text.matchAll(BOARD)) {
      const found = lines(match[1].trim());
      if (found && found.every((line) => line.length === found[0].length)) yield { lines: found, label: message.role, reward: message.reward };
    }
  }
}

function frames(row) {
  const found = [...framesOfTurns(row.turns)].slice(0, MOST);
  return found.length ? found : [...framesOfText(row.messages)].slice(0, MOST);
}

function drawBoard(h, board) {
  const kinds = { _: "empty", "#": "settled", X: "active" };
  const cells = board.map((line) => h("div", { class: "line" }, [...line].map((cell) => h("span", { class: kinds[cell] }))));
  return h("div", { class: "tetris", role: "img", "aria-label": `board, from the top: ${board.join(" ")}` }, cells);
}

export default {
  name: "tetris",
  environments: ["tetris", "grl_tetris"],
  matches: (row) => frames(row).length > 0,
  render(row, { h, slider }) {
    const found = frames(row);
    return found.length ? slider(found, (frame) => drawBoard(h, frame.lines)) : null;
  },
};
