"""YAML means what its writer thinks it means, and a file from elsewhere can neither run code nor eat the memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from holdfast.core import config, yaml_text
from holdfast.core.errors import ConfigError

SAME_AS_OMEGACONF = [
    "lr: 1e-6",
    "{a: 1.5e3, b: 1_000, c: 0x1f, d: 017, e: .5, f: -.inf, g: 1., h: +1, i: 1.2.3, j: -}",
    "{a: yes, b: on, c: 'true', d: ~, e: null, f: 2026-01-01}",
    'a: |\n  line\n  two\nb: "x\\ty"',
    "a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\nc: *x",
    "a: &x {p: 1}\nb: &y {p: 2, r: 4}\nc: {<<: [*x, *y], z: 1}",
    "1: x\n2: {3: y}",
    "{a: '???', b: '${a}', c: !!str 5}",
    "[1, [2, {a: b}]]",
]
REFUSED = [
    "a: 1\na: 2",
    "a: {b: 1, b: 2}",
    "a: !!python/object/apply:os.system [echo]",
    "a: !!python/object/apply:pathlib.Path [x]",
    "a: !!binary aGVsbG8=",
    "a: !!timestamp 2026-01-01",
    "a: !!int x",
    "a: &a [*a]",
    "a: [1,",
    "a: 1\n---\nb: 2",
    "? [a]\n: 1",
    "null: 1",
    "[" * 100_000,
]


@pytest.mark.parametrize("text", SAME_AS_OMEGACONF)
def test_values_are_those_of_omegaconf(text: str) -> None:
    expected: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    assert repr(yaml_text.parse(text)) == repr(expected)


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_what_no_config_may_hold_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        yaml_text.parse(text)


def test_ten_lines_of_aliases_cannot_ask_for_gigabytes() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    started = time.monotonic()
    with pytest.raises(yaml.YAMLError, match="aliases"):
        yaml_text.parse("\n".join(lines))
    assert time.monotonic() - started < 5


def test_a_plan_of_ten_thousand_stages_can_be_read(tmp_path: Path) -> None:
    lines = [f"  s{n}: {{kind: command, params: {{command: [echo, '{n}'], lr: 1e-6}}}}" for n in range(10_000)]
    (tmp_path / "plan.yaml").write_text("\n".join(["stages:", *lines]))
    stages = config.load(tmp_path / "plan.yaml")["stages"]
    assert len(stages) == 10_000
    assert stages["s9999"]["params"] == {"command": ["echo", "9999"], "lr": 1e-6}


def test_a_key_given_twice_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("stages: {}\nstages: {}\n")
    with pytest.raises(ConfigError, match="duplicate key stages"):
        config.load(tmp_path / "plan.yaml")
