"""Mathematical equality, by math-verify: `\\frac12`, `0.5` and `1/2` are one answer.

math-verify limits its own time by `signal.alarm`, which works in a main thread only, cannot interrupt a long
computation in C, and turns "took too long" into "wrong". So its limits are off, and whoever must not hang asks a
`VerifierPool`, which kills the process. What it reads as the answer is its own rule, so that scores are those of others
who use it; of several boxes that a comma, `and` or `or` joins it makes a set.
"""

from __future__ import annotations

import logging
from typing import Any

from holdfast.verifiers import Grade

DIGITS = 12
NODES, POWER, BITS = 100, 30, 300
"""The largest answer that is brought into a normal form: terms, exponents, bits of an integer."""


class Math:
    name = "math"
    version = 1

    def grade(self, response: str, solution: Any) -> Grade:
        """A right answer is given in the solution's form, so that all right answers are equal texts; of wrong ones
        those are that sympy evaluates or expands to the same.
        """
        from math_verify import verify

        _be_quiet()
        gold = _read(_boxed(str(solution)))
        if not gold:
            raise ValueError(f"the solution {str(solution)[:80]!r} cannot be read as mathematics")
        found = _read(response)
        if not found:
            return Grade(0.0)
        if verify(gold, found, timeout_seconds=None):
            return Grade(1.0, _text(gold[0]))
        return Grade(0.0, _text(found[0]))


def _boxed(solution: str) -> str:
    return solution if "\\boxed" in solution else f"\\boxed{{{solution.strip().strip('$')}}}"


def _read(text: str) -> list[Any]:
    """What math-verify finds: boxed first, then after words like "the answer is", otherwise the last expression."""
    from math_verify import parse
    from math_verify.parser import ExprExtractionConfig, LatexExtractionConfig

    wanted = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    # None, and not a number of seconds: see above.
    return list(parse(text, wanted, parsing_timeout=None))


def _text(expression: Any) -> str:
    """One text for what is equal at little cost: numbers by value, `x = 5` as 5, sums and products multiplied out."""
    import sympy

    if isinstance(expression, str):
        return " ".join(expression.split())
    if isinstance(expression, sympy.Eq) and isinstance(expression.lhs, sympy.Symbol):
        return _text(expression.rhs)
    if not isinstance(expression, sympy.Expr) or not _is_tame(expression):
        return str(expression)
    value = expression.doit()
    return _number(value) if value.is_number else str(sympy.expand(value))


def _is_tame(expression: Any) -> bool:
    """Whether it is evaluated at once: a wrong answer must not become a hang of ours."""
    import sympy

    simple = (sympy.Number, sympy.NumberSymbol, sympy.Symbol, sympy.Add, sympy.Mul, sympy.Pow)
    for count, part in enumerate(sympy.preorder_traversal(expression)):
        if count > NODES or not (isinstance(part, simple) or part == sympy.I):
            return False
        if isinstance(part, sympy.Integer) and abs(part.p).bit_length() > BITS:
            return False
        if isinstance(part, sympy.Pow) and not (part.exp.is_Rational and abs(part.exp) <= POWER):
            return False
    return True


def _number(value: Any) -> str:
    import sympy

    exact = sympy.Rational(str(value)) if isinstance(value, sympy.Float) else value
    return str(exact if exact.is_Rational else sympy.N(exact, DIGITS))


def _be_quiet() -> None:
    """It warns once a process that its limits are off."""
    logging.getLogger("math_verify").setLevel(logging.ERROR)
