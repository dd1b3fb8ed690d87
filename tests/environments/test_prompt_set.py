"""Which prompts there are must be beyond doubt: ids, digests, and what is wrong with a file and where."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.errors import UserError
from holdfast.environments.prompt_set import OwnPrompts, PromptSet, digest_of_row


def write(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"id": "a", "prompt_id": "b", "game_id": 3}, "a"),
        ({"prompt_id": "b", "game_id": 3}, "b"),
        ({"game_id": 3}, "3"),
        ({"id": 0, "game_id": 3}, "0"),
        ({"id": "", "game_id": 3}, "3"),
        ({"id": None, "game_id": 3}, "3"),
        ({"id": ["x"], "prompt_id": True, "game_id": 3}, "3"),
    ],
)
def test_a_prompt_is_known_by_its_own_id(tmp_path: Path, row: dict[str, Any], name: str) -> None:
    prompts = PromptSet(write(tmp_path / "p.jsonl", [row]))
    assert prompts.ids == [name] and prompts.row(name) == row


def test_without_an_id_it_is_known_by_what_it_says(tmp_path: Path) -> None:
    first = PromptSet(write(tmp_path / "a.jsonl", [{"q": "ä", "n": 1}, {"q": "b"}]))
    turned = PromptSet(write(tmp_path / "b.jsonl", [{"q": "b"}, {"n": 1, "q": "ä"}]))
    assert set(first.ids) == set(turned.ids) and first.content != turned.content
    assert first.digest(first.ids[0]) == first.ids[0] == digest_of_row({"q": "ä", "n": 1})


def test_another_row_under_the_same_id_is_another_prompt(tmp_path: Path) -> None:
    first = PromptSet(write(tmp_path / "a.jsonl", [{"id": 1, "seed": 3}]))
    other = PromptSet(write(tmp_path / "b.jsonl", [{"id": 1, "seed": 4}]))
    assert first.digest("1") != other.digest("1") == OwnPrompts({"1": {"id": 1, "seed": 4}}).digest("1")


def test_the_path_is_no_part_of_it(tmp_path: Path) -> None:
    rows = [{"id": number} for number in range(5)]
    assert PromptSet(write(tmp_path / "a", rows)).content == PromptSet(write(tmp_path / "b", rows)).content


def test_prompts_that_are_appended_change_no_other(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [{"id": 1}])
    before = PromptSet(path)
    write(path, [{"id": 1}, {"id": 2}])
    after = PromptSet(path)
    assert after.ids[:1] == before.ids and after.digest("1") == before.digest("1") and after.content != before.content


def test_rows_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    rows = [{"id": number, "text": "é" * number, "more": "\u2028"} for number in range(300)]
    prompts = PromptSet(write(tmp_path / "p.jsonl", rows))
    assert [prompts.row(name) for name in reversed(prompts.ids)] == rows[::-1]
    with pytest.raises(KeyError):
        prompts.row("300")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{'id': 3}", "not JSON"),
        ('{"id": 3', "not JSON"),
        ('{"a": NaN}', "not JSON"),
        ('{"a": 1e999}', "not JSON"),
        ("[3]", "list, expected an object"),
        ("3", "int, expected an object"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    path = write(tmp_path / "p.jsonl", ({"id": number} for number in range(72)))
    with open(path, "a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=f"line 73 of {path}.*{says}"):
        PromptSet(path)


def test_half_a_character_is_part_of_a_prompt(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": 1, "text": "\\ud800"}\n')
    assert PromptSet(path).row("1")["text"] == "\ud800"


def test_a_line_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"id": 1}\n{"id": "\xff"}\n')
    with pytest.raises(UserError, match="line 2 of"):
        PromptSet(path)


def test_two_prompts_with_one_id_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [{"id": 1, "a": 1}, {"id": 2}, {"id": "1", "a": 2}])
    with pytest.raises(UserError, match=f"line 3 of {path} has the id '1', as has prompt 1"):
        PromptSet(path)


def test_a_prompt_that_is_there_twice_is_to_be_asked_more_often_instead(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 2 of .* is the same prompt as prompt 1") as error:
        PromptSet(write(tmp_path / "p.jsonl", [{"q": "a"}, {"q": "a"}]))
    assert "repeats" in error.value.hint


@pytest.mark.parametrize("text", ["", "\n  \n"])
def test_no_prompts_at_all_are_a_mistake(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match="no prompts"):
        PromptSet(path)


def test_a_file_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "test_examples_200.jsonl", [{"id": 1}])
    with pytest.raises(UserError, match="cannot be read") as error:
        PromptSet(tmp_path / "test_example_200.jsonl")
    assert "test_examples_200.jsonl" in error.value.hint


def test_a_file_that_changes_while_it_is_read_is_not_believed(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [{"id": 1, "seed": 3}, {"id": 2, "seed": 4}])
    prompts = PromptSet(path)
    path.write_text(path.read_text().replace("3", "5"))
    assert prompts.row("2")["seed"] == 4
    with pytest.raises(UserError, match="changed while it was read"):
        prompts.row("1")


def test_blank_lines_and_a_mark_of_the_byte_order_are_no_prompts(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('\ufeff{"id": 1}\r\n\n{"id": 2}', encoding="utf-8")
    prompts = PromptSet(path)
    assert prompts.ids == ["1", "2"] and prompts.row("2") == {"id": 2}
    assert prompts.row("1") == {"id": 1}
