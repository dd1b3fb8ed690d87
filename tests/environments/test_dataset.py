"""Rows that are misread, mislabelled or silently other than before make a score that nobody can trust."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.runs import environment

from holdfast.core.errors import ConfigError, UserError
from holdfast.environments import Environment, load_environment

ROWS = [{"id": f"p{number}", "problem": f"What is {number}+1?", "answer": str(number + 1)} for number in range(40)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """In the format of the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(f'"{value}"' for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def load(path: Path | str, **settings: Any) -> Environment:
    return load_environment("dataset", {"name": str(path), **settings})


def ids(path: Path | str, **settings: Any) -> list[str]:
    return [prompt.id for prompt in load(path, **settings).prompts()]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet"])
def test_every_format_gives_the_same_problems_in_their_order(tmp_path: Path, name: str) -> None:
    found = load(write(tmp_path / name, ROWS))
    assert [prompt.id for prompt in found.prompts()] == [row["id"] for row in ROWS]
    first = found.prompts()[0]
    assert first.messages == ({"role": "user", "content": "What is 0+1?"},)
    assert found.solution("p3") == "4"
    assert found.grade("p3", "so \\boxed{4}").reward == 1


def test_json_lines_under_the_name_and_format_json_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS).rename(tmp_path / "a.json")
    assert ids(path, file_format="json", split="train") == ids(write(tmp_path / "b.jsonl", ROWS))


def test_identity_is_the_contents_and_neither_path_nor_choice(tmp_path: Path) -> None:
    here, there = write(tmp_path / "a.jsonl", ROWS), write(tmp_path / "deep" / "b.jsonl", ROWS)
    identity = load(here).identity()
    assert load(there, count=3, seed=1).identity() == identity
    assert str(tmp_path) not in json.dumps(identity)
    write(there, ROWS[:-1])
    others = [
        load(there),
        load(here, prompt="Q: {problem}"),
        load(here, system_prompt="Be brief."),
        load(here, format="raw"),
    ]
    others += [load(here, verifier="exact"), load(here, solution_key="id"), load(here, problem_key="id")]
    assert len({json.dumps(each.identity()) for each in others} | {json.dumps(identity)}) == 8


def test_a_file_that_changed_since_planning_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS)
    resolved = load(path).resolved()
    assert load_environment("dataset", resolved).prompts()
    write(path, [*ROWS[:-1], {**ROWS[-1], "answer": "0"}])
    with pytest.raises(UserError, match="changed since the work was planned"):
        load_environment("dataset", resolved).prompts()


def test_what_was_planned_is_loaded_from_elsewhere_and_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "ask.txt").write_text("Solve: {problem}")
    monkeypatch.chdir(tmp_path)
    planned = load("./a.jsonl", prompt_file="ask.txt", count=2)
    identity, resolved = planned.identity(), json.loads(json.dumps(planned.resolved()))
    (tmp_path / "ask.txt").unlink()
    monkeypatch.chdir("/")
    found = load_environment("dataset", resolved)
    assert found.identity() == identity
    assert [prompt.text for prompt in found.prompts()] == ["Solve: What is 0+1?", "Solve: What is 1+1?"]


def test_a_larger_choice_contains_the_smaller(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS)
    assert ids(path, count=10) == ids(path)[:10]
    assert ids(path, count=20, seed=1)[:10] == ids(path, count=10, seed=1) != ids(path, count=10, seed=2)
    assert ids(path, fraction=0.25, seed=1) == ids(path, count=10, seed=1)
    with pytest.raises(ConfigError, match="both `count` and `fraction`"):
        load(path, count=1, fraction=0.5)


def test_rows_without_ids_are_named_by_their_contents_wherever_they_stand(tmp_path: Path) -> None:
    rows = [{"problem": row["problem"], "answer": row["answer"]} for row in ROWS]
    path = write(tmp_path / "a.jsonl", rows)
    before = ids(path)
    write(path, list(reversed(rows)))
    assert ids(path) == before[::-1]
    write(path, [rows[0], rows[0], rows[1]])
    assert ids(path) == [before[0], f"{before[0]}-2", before[1]]


def test_ids_that_repeat_are_not_taken_for_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{**row, "id": number // 2} for number, row in enumerate(ROWS)])
    with pytest.warns(UserWarning, match="`id` is not unique, 20 values repeat, such as '0'"):
        found = ids(path)
    assert len(set(found)) == 40


@pytest.mark.parametrize(
    ("text", "settings", "says"),
    [
        ('{"problem": "a", "answer": 1}\n' * 72 + "{oops}\n", {}, "line 73 of {path} is not JSON"),
        ('{"problem": "a", "answer": 1}\n[1]\n', {}, "line 2 of {path} is list, expected a mapping"),
        ('{"question": "a", "answer": 1}\n', {}, "has no `problem`: it has question, answer"),
        ('{"problem": "a", "anwser": 1}\n', {}, "did you mean `solution_key: anwser`?"),
        ('{"problem": "", "answer": 1}\n', {}, "line 1 of {path}: problem is ''"),
        ('{"problem": 5, "answer": 1}\n', {}, "problem is '5', expected a text or messages"),
        ("", {}, "has no rows"),
        ("\n\n", {}, "has no rows"),
        ("a,b\n1,2,3\n", {"file_format": "csv"}, "line 2 of {path} has 3 cells, the head has 2"),
        ("PAR1", {"file_format": "parquet"}, "{path} is not Parquet"),
        ('{"a": [], "b": []}', {"file_format": "json"}, "choose one with `split`: a, b"),
        ("3", {"file_format": "json"}, "holds int"),
        ("[\n1,\n}", {"file_format": "json"}, "line 3 of {path} is not JSON"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, text: str, settings: dict[str, Any], says: str) -> None:
    path = tmp_path / ("a.json" if settings.get("file_format") == "json" else "a.jsonl")
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load(path, **settings).prompts()
    assert says.format(path=path) in f"{error.value} {error.value.hint}"


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"problem": "a", "answer": 1}\n{"problem": "\xff", "answer": 1}\n')
    with pytest.raises(UserError, match=r"line 2 of .* is not UTF-8"):
        load(path).prompts()


def test_separators_within_a_problem_do_not_tear_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"problem": "a\u2028b\x85c", "answer": "1"}])
    assert load(path).prompts()[0].text == "a\u2028b\x85c"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("./nothing.jsonl", "there is no data at"),
        ("math50", "did you mean `math500`?"),
        ("something", "presets: math500"),
        ("mat/../x y", "no owner/name of the hub"),
    ],
)
def test_a_misspelt_data_set_is_told_what_there_is(name: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        load(name).identity()
    assert says in f"{error.value} {error.value.hint}"


def test_of_a_directory_the_files_of_the_split_are_read(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", ROWS[:10])
    write(tmp_path / "data" / "test-00000-of-00002.parquet", ROWS[10:20])
    write(tmp_path / "data" / "test-00001-of-00002.parquet", ROWS[20:30])
    (tmp_path / ".cache").mkdir()
    write(tmp_path / ".cache" / "test.jsonl", ROWS[30:])
    assert ids(tmp_path, split="test") == [row["id"] for row in ROWS[10:30]]
    assert ids(tmp_path, split="train") == [row["id"] for row in ROWS[:10]]
    with pytest.raises(UserError, match=r"no file in .* is of the split `dev`"):
        ids(tmp_path, split="dev")


def test_templates_keep_the_braces_of_latex_and_read_those_of_nemo_rl(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS[:1])

    def text(prompt: str) -> str:
        return load(path, prompt=prompt).prompts()[0].text

    assert text("{problem} in \\boxed{}, {{x}}") == "What is 0+1? in \\boxed{}, {{x}}"
    assert text("inside \\boxed{{}}:\n{}") == "inside \\boxed{}:\nWhat is 0+1?"
    for wrong in ("no place", "only \\boxed{{}}"):
        with pytest.raises(ConfigError, match="no place for the problem"):
            text(wrong)


def test_raw_and_chat_say_the_same_and_own_messages_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS[:1])
    raw = load(path, format="raw", system_prompt="Be brief.").prompts()[0]
    assert (raw.text, raw.messages) == ("Be brief.\n\nWhat is 0+1?", ())
    chat = load(path, system_prompt="Be brief.").prompts()[0]
    assert [message["role"] for message in chat.messages] == ["system", "user"]
    said = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "1+1?"},
    ]
    own = load(write(tmp_path / "b.jsonl", [{"problem": said, "answer": "2"}]), prompt="Q: {problem}").prompts()[0]
    assert [message["content"] for message in own.messages] == ["hi", "hello", "Q: 1+1?"]


def test_a_column_inside_a_column_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"problem": "1+1", "reward_model": {"ground_truth": "2"}}])
    found = load(path, solution_key="reward_model.ground_truth")
    assert found.solution(found.prompts()[0].id) == "2"


def test_choices_are_shown_and_the_right_letter_is_known_wherever_it_stands(tmp_path: Path) -> None:
    columns = ("right", "wrong", "worse", "worst")
    rows = [{"id": str(n), "q": f"q{n}", **{each: f"{each}{n}" for each in columns}} for n in range(30)]
    settings = {"problem_key": "q", "choices": columns, "verifier": "multiple_choice"}
    found = load(write(tmp_path / "a.jsonl", rows), **settings)
    letters = set()
    for prompt in found.prompts():
        letter = found.solution(prompt.id)
        letters.add(letter)
        assert f"{letter}) right{prompt.id}" in prompt.text.splitlines()
    assert letters == set("ABCD"), "it always stands at one place"


def test_listed_choices_are_shown_in_their_order(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"problem": "q", "choices": ["x", "y"], "answer": 1}])
    listed = load(path, choices="choices", verifier="multiple_choice")
    (prompt,) = listed.prompts()
    assert prompt.text.endswith("A) x\nB) y") and listed.grade(prompt.id, "Answer: B").reward == 1


def test_template_given_twice_or_nowhere_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(ConfigError, match="both `prompt` and `prompt_file`"):
        load(path, prompt="{problem}", prompt_file="x")
    (tmp_path / "promt.txt").write_text("{problem}")
    with pytest.raises(ConfigError) as error:
        load(path, prompt_file=str(tmp_path / "prompt.txt"))
    assert f"did you mean `{tmp_path / 'promt.txt'}`?" in error.value.hint


def test_planning_needs_no_library_of_the_field(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS)
    program = (
        "import sys\n"
        "for name in ('datasets', 'pyarrow', 'numpy', 'huggingface_hub', 'math_verify', 'sympy', 'torch'):\n"
        "    sys.modules[name] = None\n"
        "from holdfast.environments import load_environment\n"
        "for settings in ({'name': sys.argv[1]}, {'name': 'gsm8k'}, {'name': 'mmlu'}):\n"
        "    found = load_environment('dataset', settings)\n"
        "    assert found.identity() and found.resolved() and found.choice()\n"
        "print(len(load_environment('dataset', {'name': sys.argv[1]}).prompts()))\n"
    )
    arguments = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(arguments, env=environment(HF_HUB_OFFLINE="1"), capture_output=True, text=True, check=False)
    assert done.stdout == "40\n", done.stderr
