"""Who may use a Ray of ours. That it runs is seen in `tests/slurm`."""

from __future__ import annotations

import pytest

from holdfast.execute.ray_cluster import authentication


def test_each_ray_has_a_token_that_nobody_else_has() -> None:
    one, other = authentication({}), authentication({})
    assert one["RAY_AUTH_MODE"] == other["RAY_AUTH_MODE"] == "token"
    assert len(one["RAY_AUTH_TOKEN"]) == 64 and one["RAY_AUTH_TOKEN"] != other["RAY_AUTH_TOKEN"]


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, {}),
        ({"RAY_AUTH_MODE": "k8s"}, {}),
        ({"RAY_AUTH_TOKEN": "mine"}, {"RAY_AUTH_MODE": "token"}),
        ({"RAY_AUTH_TOKEN_PATH": "/mine"}, {"RAY_AUTH_MODE": "token"}),
    ],
)
def test_what_the_user_settled_of_it_stays(given: dict[str, str], added: dict[str, str]) -> None:
    assert authentication(given) == added
