"""GSM8K's rule: the number after `####`, otherwise the last number of the text.

The first half is the rule of the data set's own authors (Cobbe et al., "Training Verifiers to Solve Math Word
Problems", 2021, arXiv:2110.14168), the second what evaluations of chat models add.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from holdfast.verifiers import Grade

# A comma counts only before three digits: `1,2,3` are three numbers.
DIGITS = r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
# A minus stands before its number: `- 5` is an item of a list.
NUMBER = rf"[-+]?(?:\$\s?)?{DIGITS}"
MARKED = re.compile(rf"####\s*({NUMBER})")
# Behind a digit, a letter or a bracket a sign is an operator (`12-5`), and a dot no decimal point.
ANY = re.compile(rf"(?<![\w)\].]){NUMBER}|(?<![\d.]){DIGITS}")
LONGEST = 400


class Gsm8k:
    name = "gsm8k"
    version = 1

    def grade(self, response: str, solution: Any) -> Grade:
        wanted = extract_number(str(solution))
        if wanted is None:
            raise ValueError(f"the solution {str(solution)[:80]!r} has no number")
        answer = extract_number(response)
        return Grade(float(answer == wanted), answer)


def extract_number(text: str) -> str | None:
    """`1234.5` for `... #### $1,234.50`: without sign of plus, commas, dollars and idle zeros."""
    plain = text.replace("\N{MINUS SIGN}", "-")
    found = MARKED.findall(plain) or ANY.findall(plain)
    return _normal(found[-1]) if found else None


def _normal(number: str) -> str | None:
    digits = re.sub(r"[,$\s+]", "", number)
    if len(digits) > LONGEST:
        return digits
    value = Decimal(digits)
    plain = f"{value:f}"
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return "0" if value == 0 else plain
