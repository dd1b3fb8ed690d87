"""The response is the solution, but for white space at the ends and its kind and amount in between."""

from __future__ import annotations

from typing import Any

from holdfast.verifiers import Grade


class Exact:
    name = "exact"
    version = 1

    def grade(self, response: str, solution: Any) -> Grade:
        answer = " ".join(response.split())
        return Grade(float(answer == " ".join(str(solution).split())), answer or None)
