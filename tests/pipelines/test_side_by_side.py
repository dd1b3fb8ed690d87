"""`holdfast compare` must never find a winner where there is none, nor compare what cannot be compared."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests.runs import hold, shell, write_plan

from holdfast.core.errors import UserError
from holdfast.core.store import Store
from holdfast.evaluation.comparison import paired_difference
from holdfast.pipelines import side_by_side
from holdfast.pipelines.side_by_side import View

IDENTITY = {"dataset": {"digest": "d1"}, "verifier": {"name": "math", "version": 1}, "sampling": {"temperature": 0.6}}
PROMPTS = 300


def rewards(chance: float, repeats: int = 1, seed: int = 0, prompts: int = PROMPTS) -> dict[str, list[float]]:
    draw = random.Random(seed)
    return {f"p{number}": [float(draw.random() < chance) for _ in range(repeats)] for number in range(prompts)}


def publish(home: Path, found: dict[str, list[float]], identity: dict[str, Any] | None = None) -> Path:
    home.mkdir(parents=True)
    rows = [
        {"id": each, "repeat": k, "reward": value} for each, values in found.items() for k, value in enumerate(values)
    ]
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / "metrics.json").write_text(json.dumps({"schema": 1, "step": 5, "identity": identity or IDENTITY}))
    return home


def view(tmp_path: Path, *homes: Path, metric: str = "accuracy", force: bool = False) -> View:
    store = Store(tmp_path / "root")
    return side_by_side.compare([side_by_side.read(str(home), store) for home in homes], metric, force=force)


def test_the_difference_is_paired_by_prompt_and_told_in_words(tmp_path: Path) -> None:
    before, after = rewards(0.4), rewards(0.6, seed=1)
    found = view(tmp_path, publish(tmp_path / "a", before), publish(tmp_path / "b", after))
    (pair,) = found.pairs
    flat = [{each: values[0] for each, values in given.items()} for given in (before, after)]
    assert pair.difference == paired_difference(*flat, trials=True)
    assert pair.verdict == "better"
    words = side_by_side.lines(found)[-1]
    value, low, high = (f"{100 * each:.1f}" for each in pair.difference[:3])
    assert words.endswith(f"b is better than {tmp_path}/a by {value} points, 95% interval {low} to {high}, 300 prompts")
    assert side_by_side.notes(found) == []


def test_the_other_way_round_it_is_worse_by_as_much(tmp_path: Path) -> None:
    homes = publish(tmp_path / "a", rewards(0.4, 4)), publish(tmp_path / "b", rewards(0.6, 4, seed=1))
    one, other = view(tmp_path, *homes).pairs[0], view(tmp_path, *reversed(homes)).pairs[0]
    assert (other.verdict, other.difference.value) == ("worse", -one.difference.value)
    assert "is worse than" in side_by_side.lines(view(tmp_path, *reversed(homes)))[-1]


def test_nothing_is_announced_where_nothing_is_shown(tmp_path: Path) -> None:
    found = view(tmp_path, publish(tmp_path / "a", rewards(0.5)), publish(tmp_path / "b", rewards(0.5, seed=1)))
    (pair,) = found.pairs
    assert pair.verdict == "none"
    words = side_by_side.lines(found)[-1]
    assert words.startswith("no difference shown")
    assert f"{100 * pair.difference.detectable:.1f} points would have been seen 4 times of 5" in words


def test_several_comparisons_are_judged_together(tmp_path: Path) -> None:
    homes = [publish(tmp_path / str(number), rewards(0.5, seed=number)) for number in range(6)]
    found = view(tmp_path, *homes)
    assert len(found.pairs) == 5
    assert all(pair.p >= pair.difference.p for pair in found.pairs)
    assert min(pair.p for pair in found.pairs) == min(1, 5 * min(pair.difference.p for pair in found.pairs))
    assert "for 5 comparisons at once" in side_by_side.lines(found)[-1]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"dataset": {"digest": "d2"}}, "dataset.digest is 'd1' and 'd2'"),
        ({"verifier": {"name": "math", "version": 2}}, "verifier.version is 1 and 2"),
        ({"environment": "addition"}, "environment is None and 'addition'"),
        ({"settings": {"problem_key": "q"}}, "settings.problem_key is None and 'q'"),
    ],
)
def test_other_data_or_another_rule_is_refused(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    homes = publish(tmp_path / "a", rewards(0.5)), publish(tmp_path / "b", rewards(0.5), {**IDENTITY, **changes})
    with pytest.raises(UserError) as error:
        view(tmp_path, *homes)
    assert key in str(error.value) and "--force" in error.value.hint
    assert any(key.split(" is ")[0] in note for note in side_by_side.notes(view(tmp_path, *homes, force=True)))


def test_other_sampling_is_compared_and_said(tmp_path: Path) -> None:
    other = {**IDENTITY, "sampling": {"temperature": 1.0}, "model": "another"}
    homes = publish(tmp_path / "a", rewards(0.5)), publish(tmp_path / "b", rewards(0.5), other)
    (note,) = side_by_side.notes(view(tmp_path, *homes))
    assert note.endswith("differ in sampling.temperature: 0.6 and 1.0")


def test_only_common_prompts_count_and_the_others_are_said(tmp_path: Path) -> None:
    fewer = {each: values for each, values in rewards(0.5, seed=1).items() if each != "p3"}
    found = view(tmp_path, publish(tmp_path / "a", rewards(0.5)), publish(tmp_path / "b", fewer))
    assert found.pairs[0].difference.n_prompts == PROMPTS - 1
    assert side_by_side.notes(found)[0].startswith("1 prompts are only in")
    others = {f"q{number}": [1.0] for number in range(9)}
    with pytest.raises(UserError, match="no prompt in common"):
        view(tmp_path, tmp_path / "a", publish(tmp_path / "c", others))


def test_other_metrics_are_compared_where_there_are_responses_enough(tmp_path: Path) -> None:
    homes = publish(tmp_path / "a", rewards(0.3, 4)), publish(tmp_path / "b", rewards(0.5, 4, seed=1))
    found = view(tmp_path, *homes, metric="pass@4")
    assert found.pairs[0].difference.value == pytest.approx(found.measures[1]["value"] - found.measures[0]["value"])
    with pytest.raises(UserError, match=r"enough responses for pass@8: it has 4 to a prompt"):
        view(tmp_path, *homes, metric="pass@8")


def test_a_torn_row_is_named_with_its_line(tmp_path: Path) -> None:
    home = publish(tmp_path / "a", rewards(0.5, prompts=3))
    with open(home / "rows.jsonl", "a") as file:
        file.write('{"id": "p9", "rep')
    with pytest.raises(UserError, match=r"line 4 of .*rows.jsonl is no row"):
        side_by_side.read(str(home), Store(tmp_path))


def test_command_compares_stages_by_name_and_directories(tmp_path: Path) -> None:
    root = tmp_path / "root"
    outside = publish(tmp_path / "outside", rewards(0.7, seed=1))
    copy = f"cp {publish(tmp_path / 'inside', rewards(0.4))}/* {{out}}"
    plan = write_plan(
        tmp_path / "plan.yaml", {"mine": shell(copy, makes=["rows.jsonl"]), "other": shell("touch {out}/x")}
    )
    hold(root, "run", str(plan), "--wait", code=0)
    done = hold(root, "compare", "mine", str(outside), code=0)
    assert f"{outside} is better than mine by" in done.stdout
    content = json.loads(hold(root, "compare", "mine", str(outside), "--json", code=0).stdout)
    assert content["comparisons"][0]["verdict"] == "better" and content["evaluations"][0]["name"] == "mine"
    assert content["comparisons"][0]["says"] in done.stdout
    for arguments, says in (
        (["mine"], "nothing to compare it with"),
        (["mine", "mien"], "did you mean `mine`?"),
        (["mine", "other"], "is no evaluation"),
        (["mine", "mine", "--metric", "acuracy"], "there is no metric `acuracy`"),
    ):
        assert says in hold(root, "compare", *arguments, code=2).stderr
