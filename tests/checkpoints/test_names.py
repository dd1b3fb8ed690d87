"""Names as wrappers of every kind leave them, and as the architecture has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.checkpoints.architectures.templates import TEMPLATES, fill
from holdfast.checkpoints.names import rename
from holdfast.core.errors import UserError

CONFIG = {
    "vocab_size": 8,
    "hidden_size": 4,
    "intermediate_size": 4,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 2,
}
EXPECTED = sorted(fill(TEMPLATES["qwen3"], CONFIG))
FRONTS = ["model.", "module.", "state_dict.", "app.", "actor.", "_orig_mod.", "_fsdp_wrapped_module.", "module.module."]
INNER = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"]


@given(
    st.lists(st.sampled_from(FRONTS), max_size=4),
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from(INNER)), max_size=5),
)
def test_any_nesting_of_wrappers_gives_the_names_of_the_architecture(
    fronts: list[str], inner: list[tuple[int, str]]
) -> None:
    def wrap(name: str) -> str:
        parts = name.split(".")
        for position, wrapper in inner:
            parts.insert(min(position, len(parts) - 1), wrapper)
        return "".join(fronts) + ".".join(parts)

    renamed = rename(map(wrap, EXPECTED), EXPECTED)
    assert renamed.stored == {name: wrap(name) for name in EXPECTED}
    assert not renamed.left_out


def test_a_model_prefix_that_is_the_architectures_own_stays() -> None:
    assert rename(EXPECTED, EXPECTED).prefix == ""
    assert rename([f"model.{name}" for name in EXPECTED], EXPECTED).prefix == "model."


def test_a_checkpoint_that_lacks_tensors_keeps_the_prefix_of_the_others() -> None:
    """So that the error names what is missing, not everything."""
    some = EXPECTED[3:]
    assert set(rename([f"model.{name}" for name in some], EXPECTED).stored) == set(some)


def test_two_names_that_become_one_are_both_named() -> None:
    names = ["model.norm.weight", "_orig_mod.model.norm.weight"]
    with pytest.raises(UserError, match=r"_orig_mod\.model\.norm\.weight and model\.norm\.weight are both"):
        rename(names, EXPECTED)


def test_two_models_are_not_mixed() -> None:
    names = [f"{front}.{name}" for front in ("policy", "reference") for name in EXPECTED]
    with pytest.raises(UserError, match=r"more than one model.*'policy\.' and 'reference\.'"):
        rename(names, EXPECTED)


def test_what_is_not_of_the_model_is_left_out_with_a_reason() -> None:
    others = [
        "optimizer.state.model.norm.weight.exp_avg",
        "app.optimizers.param_groups.x",
        "rng_state",
        "lr_scheduler.step",
        "model.layers.0.self_attn._extra_state",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
    ]
    renamed = rename([*EXPECTED, *others], EXPECTED)
    assert set(renamed.stored) == set(EXPECTED)
    assert renamed.left_out.keys() == set(others)


def test_without_anything_expected_only_wrappers_go() -> None:
    renamed = rename(["model._orig_mod.x.weight", "module.y"])
    assert renamed.stored == {"model.x.weight": "model._orig_mod.x.weight", "y": "module.y"}
