"""A hint names what is there, also where a directory on the way was mistyped."""

from pathlib import Path

from holdfast.core import near


def test_mistyped_directory_on_the_way_is_corrected_and_the_rest_kept(tmp_path: Path) -> None:
    (tmp_path / "models" / "base").mkdir(parents=True)
    assert near.path(tmp_path / "modles" / "base" / "x.json") == tmp_path / "models" / "base" / "x.json"
    assert near.path(tmp_path / "models" / "bsae") == tmp_path / "models" / "base"
    assert near.path(tmp_path / "quite" / "different") is None


def test_hint_for_a_yaml_file_names_the_nearest_or_all(tmp_path: Path) -> None:
    for name in ("plan.yaml", "sweep.yml", "plan.txt"):
        (tmp_path / name).touch()
    assert near.yaml_hint(tmp_path / "plna.yaml") == f"did you mean `{tmp_path}/plan.yaml`?"
    assert near.yaml_hint(tmp_path / "x.yaml") == f"YAML files in {tmp_path}: plan.yaml, sweep.yml"
    assert near.yaml_hint(tmp_path / "no" / "plan.yaml") == f"there is no directory {tmp_path}/no"


def test_long_lists_end_with_how_many_more_there_are() -> None:
    assert near.listed([]) == "none"
    assert near.listed(map(str, range(10))) == "0, 1, 2, 3, 4, 5, 6, 7, and 2 more"
