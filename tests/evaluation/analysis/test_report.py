"""The report says the same every time, has what the document promises, and shows what others wrote as text."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.evaluation.analysis.rollout_files import Row, analysis_of, document, failure, ours, write

from holdfast.evaluation.analysis import figures, markdown, page, plot
from holdfast.evaluation.analysis.plot import ticks
from holdfast.evaluation.analysis.summary import Analysis
from holdfast.evaluation.analysis.words import number, plain

GOLDEN = Path(__file__).with_name("golden_reward_analysis.md")
EVIL = '<script>alert(1)</script>|`"&\n# x\x1b[31m\u202e![i](http://evil.example/x.png) </script><!--'
DOCUMENT = (
    "Dataset overview",
    "Reward distribution",
    "Success rate",
    "Reward histogram",
    "Tool call metrics",
    "Correlation analysis",
    "Per-prompt performance breakdown",
)


def some_rows() -> list[Row]:
    """A small collection with everything that a report has a section for."""
    draw = random.Random(0)
    rows: list[Row] = []
    for prompt in range(8):
        for repeat in range(4 - (prompt == 5)):
            calls = draw.randrange(1, 6)
            right = draw.random() < prompt / 9
            more = {
                "tool_calls": calls,
                "tries": 1 + (draw.random() < 0.2),
                "prompt": {"dim_board": [4 + prompt % 2, 5]},
            }
            more |= {"finish": draw.choice(["stop", "length"]), "answer": "ab"[repeat % 2]}
            rows.append(ours(f"game-{prompt}", repeat, 10 * right - calls / 10, success=right, **more))
    return [*rows, failure("game-5", 3), failure("game-5", 3, "engine_down"), rows[0]]


def evil_rows() -> list[Row]:
    """Everything that may be text is hostile."""
    more = {"finish": EVIL, "tool_calls": 1, "level": EVIL, "answer": EVIL}
    return [ours(f"{EVIL}{number}", 0, number / 7, **more) for number in range(9)] + [failure("p", 0, EVIL)]


def pieces(analysis: Analysis) -> tuple[str, str, dict[str, str]]:
    drawings = figures.draw(analysis.content)
    links = {name: f"{name}.svg" for name in drawings}
    text = markdown.render(analysis.content, analysis.prompts, links, "prompts.csv")
    return text, page.render(analysis.content, analysis.prompts, drawings, "Reward analysis"), drawings


def test_the_report_of_a_small_collection_is_this_one(tmp_path: Path) -> None:
    path = write(tmp_path / "rollouts.jsonl", [*some_rows(), "{torn in the middle"])
    text, _, _ = pieces(analysis_of(path, by=("dim_board",), prompts=9, repeats=4, said_by="--prompts and --repeats"))
    assert text == GOLDEN.read_text(), f"where that is right: what it says now belongs in {GOLDEN.name}"


def test_every_section_of_the_document_is_there_and_in_its_order(tmp_path: Path) -> None:
    rows = [document(game, reward, calls) for game in range(5) for reward, calls in ((9.7, 3), (-0.8, 8), (0.1, 1))]
    text, html, _ = pieces(analysis_of(write(tmp_path / "rollouts.jsonl", rows)))
    places = [text.index(f"## {title}\n") for title in DOCUMENT]
    assert places == sorted(places) and text.index("## Coverage") < places[0]
    assert all(f">{title}</h2>" in html for title in DOCUMENT)


def test_the_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "rollouts.jsonl", some_rows())
    assert pieces(analysis_of(path)) == pieces(analysis_of(path))


def test_text_of_others_never_becomes_markup_in_markdown(tmp_path: Path) -> None:
    text, _, _ = pieces(analysis_of(write(tmp_path / "rollouts.jsonl", evil_rows()), by=("level",)))
    assert "<script" not in text and "<!--" not in text and "\x1b" not in text and "\u202e" not in text
    assert not re.search(r"(?<!\\)!?(?<!\\)\[i", text), "no link and no picture"
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert all(line.removeprefix("# ").removeprefix("## ").isascii() and "x" not in line[:4] for line in heads)
    rows = [line for line in text.splitlines() if line.startswith(("| &lt;", "| \\x"))]
    widths = {line.count("|") - line.count("\\|") for line in rows}
    assert rows and widths <= {9, 11, 4}, "no cell ends early"


class Elements(HTMLParser):
    """Counts elements, and gathers what would load or run something."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[dict[str, str | None]] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "script":
            self.scripts.append(given)
        self.loads += [f"{tag} {name}" for name in given if name in ("src", "srcset", "data") or name.startswith("on")]
        if tag in ("link", "img", "iframe", "object", "base", "form") or (given.get("href") or "#")[0] != "#":
            self.loads.append(tag)


def test_the_page_runs_one_script_and_loads_nothing(tmp_path: Path) -> None:
    for rows in (some_rows(), evil_rows()):
        _, html, _ = pieces(analysis_of(write(tmp_path / "rollouts.jsonl", rows), by=("level",)))
        found = Elements()
        found.feed(html)
        assert found.scripts == [{"id": "prompts", "type": "application/json"}, {}]
        assert found.loads == []
        assert "default-src 'none'" in html and "unsafe-inline" not in html


def test_the_page_holds_every_prompt_as_it_is_called(tmp_path: Path) -> None:
    analysis = analysis_of(write(tmp_path / "rollouts.jsonl", evil_rows()))
    _, html, _ = pieces(analysis)
    held = re.search(r'type="application/json">(.*?)</script>', html)
    assert held
    rows = json.loads(held[1])["rows"]
    assert [row[0] for row in rows] == [plain(f"{EVIL}{place}") for place in range(9)]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("make", [some_rows, evil_rows])
def test_a_browser_fills_the_table_and_runs_nothing_of_others(tmp_path: Path, make: object) -> None:
    rows = some_rows() if make is some_rows else evil_rows()
    _, html, _ = pieces(analysis_of(write(tmp_path / "rollouts.jsonl", rows), by=("level",)))
    (tmp_path / "page.html").write_text(html)
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=3000", "--dump-dom", f"file://{tmp_path}/page.html"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    shown = re.search(r'<span id="note">(\d+) shown', done.stdout)
    assert shown and int(shown[1]) == (8 if make is some_rows else 9)
    body = done.stdout[done.stdout.index("<tbody>", done.stdout.index('id="table"')) :]
    assert body.count("<tr>") == int(shown[1])
    assert "alert(1)" in done.stdout or make is some_rows
    assert "<script>alert" not in done.stdout


def test_figures_are_well_formed_and_hold_no_markup_of_others(tmp_path: Path) -> None:
    for rows in (some_rows(), evil_rows()):
        _, _, drawings = pieces(analysis_of(write(tmp_path / "rollouts.jsonl", rows)))
        assert {"histogram", "difficulty"} <= drawings.keys()
        for svg in drawings.values():
            root = ElementTree.fromstring(plot.standalone(svg))
            assert {element.tag.rpartition("}")[2] for element in root.iter()} <= SHAPES
            for element in root.iter():
                assert "NaN" not in str(element.attrib).replace("nan", "NaN")


SHAPES = {"svg", "style", "text", "line", "rect", "circle", "polygon", "polyline"}


def test_figures_that_have_nothing_to_show_are_left_out(tmp_path: Path) -> None:
    analysis = analysis_of(write(tmp_path / "rollouts.jsonl", [ours("p", 0, 1.0)]))
    text, _, drawings = pieces(analysis)
    assert set(drawings) == {"histogram", "difficulty"}
    assert set(re.findall(r"\]\((\w+)\.svg\)", text)) == set(drawings)


def test_nothing_yet_is_a_report_too(tmp_path: Path) -> None:
    for rows in ([], [failure("p", 0)]):
        text, html, drawings = pieces(analysis_of(write(tmp_path / "rollouts.jsonl", rows)))
        assert "no rollout with a reward yet" in text and "no rollout with a reward yet" in html and not drawings


def test_of_many_prompts_the_worst_and_the_best_are_listed(tmp_path: Path) -> None:
    rows = [ours(f"p{number}", 0, number / 10) for number in range(700)]
    text, html, _ = pieces(analysis_of(write(tmp_path / "rollouts.jsonl", rows)))
    listed = re.findall(r"^\| (p\d+) \|", text, re.MULTILINE)
    assert listed == [f"p{number}" for number in [*range(50), *range(650, 700)]]
    assert "prompts.csv" in text and html.count('["p') == 700


@pytest.mark.parametrize("ends", [(0.0, 0.0), (-2.0, 9.7), (0.049, 0.051), (-1e99, 1e99), (5.0, 5.0), (1e-320, 2e-320)])
def test_ticks_are_few_and_hold_the_ends(ends: tuple[float, float]) -> None:
    found = ticks(*ends)
    assert 2 <= len(found) <= 8 and found == sorted(set(found))
    slack = (found[-1] - found[0]) * 1e-6
    assert found[0] <= ends[0] + slack and found[-1] >= ends[1] - slack


def test_numbers_are_spelled_for_people() -> None:
    wanted = {0.0: "0.000", -0.29361: "-0.294", 1234.56: "1,234.6", 1e12: "1e+12", 2.75e-6: "2.75e-06"}
    assert {value: number(value) for value in wanted} == wanted
    assert number(None) == "" and number(0.5, "+") == "+0.500"
