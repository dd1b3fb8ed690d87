"""The report as one HTML file that needs nothing else: no network, no second file, dark and light.

What others wrote is escaped and goes only into text; a content security policy in the page allows the one style sheet
and the one script by their hashes and nothing else, so that even a mistake there could load or run nothing.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.evaluation.analysis import plot
from holdfast.evaluation.analysis.blocks import Block, Drawing, Grid, Section
from holdfast.evaluation.analysis.prompts import COLUMNS, Prompts, natural
from holdfast.evaluation.analysis.sections import sections
from holdfast.evaluation.analysis.words import plain, several

MOST = 20_000
"""Prompts that the page holds; more are in the table beside it."""
STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1f2328;--dim:#656d76;--rule:#d0d7de;--tint:#f6f8fa}
@media (prefers-color-scheme:dark){:root{--paper:#0d1117;--ink:#e6edf3;--dim:#8d96a0;--rule:#30363d;--tint:#161b22}}
body{background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif;margin:0 auto;padding:1.5rem;
max-width:60rem}
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid var(--rule);padding-bottom:.2rem}
nav a{color:var(--dim);margin-right:1rem;white-space:nowrap}p{max-width:46rem;overflow-wrap:anywhere}
.scroll{overflow-x:auto}.tall{max-height:34rem;overflow-y:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.87rem;margin:.6rem 0}
th,td{padding:.18rem .7rem;border-bottom:1px solid var(--rule);text-align:right;white-space:nowrap}
th{color:var(--dim);font-weight:600}thead th{position:sticky;top:0;background:var(--paper)}
.w{text-align:left}.tall th{cursor:pointer}tbody tr:hover{background:var(--tint)}
svg{display:block;width:100%;max-width:46rem;height:auto;margin:.8rem 0}
input{font:inherit;color:inherit;background:var(--tint);border:1px solid var(--rule);border-radius:4px;
padding:.2rem .5rem}
"""
SCRIPT = """
"use strict";
const data = JSON.parse(document.getElementById("prompts").textContent);
const body = document.querySelector("#table tbody"), heads = [...document.querySelectorAll("#table th")];
const search = document.getElementById("search"), note = document.getElementById("note");
const SHOWN = 500;
let by = null, down = false;
function show() {
  const wanted = search.value.toLowerCase();
  let rows = data.rows.filter(row => row[0].toLowerCase().includes(wanted));
  if (by !== null) rows = rows.map((row, at) => [row, at]).sort(([a, i], [b, j]) => {
    const x = a[by], y = b[by];
    if (x === y) return i - j;
    if (x === null || y === null) return x === null ? 1 : -1;
    return (x < y ? -1 : 1) * (down ? -1 : 1);
  }).map(([row]) => row);
  note.textContent = rows.length > SHOWN ? `${SHOWN} of ${rows.length} shown` : `${rows.length} shown`;
  body.replaceChildren(...rows.slice(0, SHOWN).map(row => {
    const line = document.createElement("tr");
    row.forEach((value, at) => {
      const cell = line.insertCell();
      if (at === 0) cell.className = "w";
      cell.textContent = value === null ? "" : at > 1 ? Number(value.toPrecision(4)).toString() : value;
    });
    return line;
  }));
}
heads.forEach((head, at) => head.addEventListener("click", () => {
  down = by === at ? !down : at > 0;
  by = at;
  heads.forEach(each => each.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  show();
}));
search.addEventListener("input", show);
show();
"""


def render(content: Mapping[str, Any], prompts: Prompts | None, drawings: Mapping[str, str], title: str) -> str:
    """The page; `drawings` are the figures by name."""
    found = sections(content)
    names = [*(section.title for section in found), *([BY_PROMPT] if prompts is not None else [])]
    links = "".join(f'<a href="#{_anchor(name)}">{_say(name)}</a> ' for name in names)
    parts = [f"<h1>{_say(title)}</h1>", f"<nav>{links}</nav>"]
    if prompts is None:
        parts.append("<p>There is no rollout with a reward yet.</p>")
    for section in found:
        parts += _section(section, drawings)
    if prompts is not None:
        parts += _by_prompt(prompts)
    return _document(title, "\n".join(parts), has_script=prompts is not None)


BY_PROMPT = "Per-prompt performance breakdown"


def _document(title: str, body: str, *, has_script: bool) -> str:
    style = STYLE + plot.STYLE
    script = f"<script>{SCRIPT}</script>\n" if has_script else ""
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(SCRIPT)}'; base-uri 'none'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_say(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n{script}</body>\n</html>\n"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _section(section: Section, drawings: Mapping[str, str]) -> Iterator[str]:
    yield f'<h2 id="{_anchor(section.title)}">{_say(section.title)}</h2>'
    for block in section.blocks:
        yield _block(block, drawings)


def _block(block: Block, drawings: Mapping[str, str]) -> str:
    if isinstance(block, Drawing):
        return drawings.get(block.name, "")
    if isinstance(block, Grid):
        return _grid(block)
    return f"<p>{_say(block.words, 10_000)}</p>"


def _grid(grid: Grid) -> str:
    head = "".join(_cell("th", text, place < grid.words) for place, text in enumerate(grid.head))
    rows = ("".join(_cell("td", text, place < grid.words) for place, text in enumerate(row)) for row in grid.rows)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _cell(tag: str, text: str, is_word: bool) -> str:
    bars = bool(text) and set(text) == {"█"}
    kind = ' class="w"' if is_word or bars else ""
    return f"<{tag}{kind}>{_say(text)}</{tag}>"


def _by_prompt(prompts: Prompts) -> Iterator[str]:
    rows = [list(row) for row, _ in zip(prompts.rows(), range(MOST), strict=False)]
    for row in rows:
        row[0] = plain(row[0])
    rows.sort(key=lambda row: natural(row[0]))
    yield f'<h2 id="{_anchor(BY_PROMPT)}">{BY_PROMPT}</h2>'
    if len(prompts.ids) > MOST:
        yield f"<p>The first {MOST:,} of {several(len(prompts.ids), 'prompt')}.</p>"
    head = "".join(_cell("th", name.replace("_", " "), place == 0) for place, name in enumerate(COLUMNS))
    yield '<p><input id="search" type="search" placeholder="prompt" aria-label="prompt"> <span id="note"></span></p>'
    yield f'<div class="scroll tall"><table id="table"><thead><tr>{head}</tr></thead><tbody></tbody></table></div>'
    # `</script` and `<!--` inside a script element would end it, whatever its type.
    held = json.dumps({"rows": rows}, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    yield f'<script id="prompts" type="application/json">{held}</script>'


def _say(text: str, longest: int = 200) -> str:
    return html.escape(plain(text, longest), quote=True)


def _anchor(title: str) -> str:
    return "".join(each if each.isalnum() else "-" for each in title.lower())
