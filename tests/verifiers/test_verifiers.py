"""A verifier that misreads an answer makes every model look better or worse than it is."""

from __future__ import annotations

from typing import Any

import pytest
from tests.verifiers.misbehaving import behave

from holdfast.core.errors import ConfigError
from holdfast.verifiers import Grade, load_verifier

GSM8K_SOLUTION = "Natalia sold 48/2 = <<48/2=24>>24 clips.\n#### 1,072"


def grade(name: str, response: str, solution: Any) -> Grade:
    return load_verifier(name).grade(response, solution)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("so it is\n#### 1072", "1072"),
        ("#### $1,072.00", "1072"),
        ("#### 7\n\nor rather\n#### 1072", "1072"),
        ("#### 1072 (not 1073)", "1072"),
        ("The answer is 1,072.", "1072"),
        ("a total of 1072.50 dollars", "1072.5"),
        ("between 1071 and 1073", "1073"),
        ("#### -5", "-5"),
        ("it sank to -12.", "-12"),
        ("it sank to \N{MINUS SIGN}12.", "-12"),
        ("the items\n- 5 apples", "5"),
        ("he owes -$5", "-5"),
        ("one of 1,2,3", "3"),
        ("x5", "5"),
        ("1,000,072 or so", "1000072"),
        ("20-5", "5"),
        ("that is .50", "0.5"),
        ("0.0", "0"),
        ("I do not know", None),
        ("", None),
    ],
)
def test_gsm8k_takes_the_marked_number_otherwise_the_last(response: str, answer: str | None) -> None:
    assert grade("gsm8k", response, GSM8K_SOLUTION) == Grade(float(answer == "1072"), answer)


def test_gsm8k_solution_without_a_number_is_the_datas_fault() -> None:
    with pytest.raises(ValueError, match="has no number"):
        grade("gsm8k", "5", "none")


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("Answer: C", "C"),
        ("**Answer: C**", "C"),
        ("answer: (C).", "C"),
        ("Answer: A, no.\nAnswer: C", "C"),
        ("The answer is C.", "C"),
        ("the correct option is C", "C"),
        ("so $\\boxed{\\text{C}}$", "C"),
        ("C", "C"),
        ("C) the third", "C"),
        ("Antwort: C", "C"),
        ("答案：Ｃ", "C"),  # noqa: RUF001
        ("الإجابة: ج", "C"),
        ("الإجابة: ب", "B"),
        ("Answer: Canada", None),
        ("Answer: J", "J"),
        ("A man went to a shop", None),
        ("I refuse", None),
    ],
)
def test_multiple_choice_finds_the_letter_that_was_settled_on(response: str, answer: str | None) -> None:
    assert grade("multiple_choice", response, "C") == Grade(float(answer == "C"), answer)


@pytest.mark.parametrize("solution", [2, "C", "c", "(C)", "Answer: C"])
def test_multiple_choice_reads_the_letters_of_all_data_sets(solution: Any) -> None:
    assert grade("multiple_choice", "Answer: C", solution).reward == 1


def test_multiple_choice_solution_that_is_no_letter_is_the_datas_fault() -> None:
    with pytest.raises(ValueError, match="no letter"):
        grade("multiple_choice", "Answer: C", "Canberra")


def test_exact_forgives_white_space_and_nothing_else() -> None:
    assert grade("exact", "  a  b\n", "a b") == Grade(1.0, "a b")
    assert grade("exact", "a B", "a b").reward == 0
    assert grade("exact", " ", "a") == Grade(0.0, None)


@pytest.mark.parametrize(
    ("response", "solution"),
    [
        ("so \\boxed{\\frac12}", "\\frac{1}{2}"),
        ("so \\boxed{0.5}", "\\frac{1}{2}"),
        ("the answer is 1/2", "0.5"),
        ("\\boxed{2\\sqrt{2}}", "\\sqrt{8}"),
        ("\\boxed{x^2+2x+1}", "(x+1)^2"),
        ("I had 3, then got $x = 7$", "7"),
        ("\\boxed{1}\n\nThat is odd.\n\n\\boxed{2}", "2"),
        ("\\boxed{(3, \\pi/2)}", "(3, \\frac{\\pi}{2})"),
        ("\\boxed{\\{2, 1\\}}", "\\{1,2\\}"),
        ("\\boxed{\\text{Evelyn}}", "\\text{Evelyn}"),
        ("finally 1,234", "1234"),
        ("\\boxed{5}", "thus $2+3=\\boxed{5}$"),
        ("\\boxed{5}", 5),
    ],
)
def test_math_knows_one_answer_in_its_many_forms(response: str, solution: Any) -> None:
    assert grade("math", response, solution).reward == 1


@pytest.mark.parametrize(
    ("response", "solution"),
    [("\\boxed{3}", "2"), ("no idea", "2"), ("", "2"), ("\\boxed{(2, 3)}", "(3, 2)"), ("2 \\boxed{3}", "2")],
)
def test_math_is_not_satisfied_by_what_is_near(response: str, solution: str) -> None:
    assert grade("math", response, solution).reward == 0


def test_equal_answers_vote_together_in_whatever_form_they_are_written() -> None:
    for forms in (
        ("\\boxed{0.5}", "\\boxed{\\frac{1}{2}}", "so 1/2", "\\boxed{x = \\frac12}"),
        ("$\\sqrt{8}$", "$2\\sqrt{2}$"),
    ):
        for solution in ("7", "\\frac12", "2\\sqrt2"):
            assert len({grade("math", form, solution).answer for form in forms}) == 1
    wrong = ("\\boxed{(x+1)^2}", "\\boxed{x^2+2x+1}", "\\boxed{1 + x^2 + 2x}")
    assert {grade("math", form, "7").answer for form in wrong} == {"x**2 + 2*x + 1"}


@pytest.mark.parametrize("response", ["\\boxed{2^{100000}}", "\\boxed{\\int_0^1 x^{x^x} dx}", "\\boxed{100000!}"])
def test_a_wrong_answer_is_no_hang_only_because_it_is_written_down(response: str) -> None:
    assert grade("math", response, "7").reward == 0


def test_math_solution_that_cannot_be_read_is_the_datas_fault() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        grade("math", "5", "")


def test_own_function_may_return_a_number_a_bool_or_a_grade() -> None:
    name = "tests.verifiers.misbehaving:behave"
    assert grade(name, "42", "42") == Grade(1.0)
    assert grade(name, "41", "42") == Grade(0.0)
    assert grade(name, "pid", None).answer


def test_changed_code_of_ones_own_is_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    found = load_verifier("tests.verifiers.misbehaving:behave")
    assert isinstance(found.version, str) and len(found.version) == 12
    monkeypatch.setattr(behave, "version", 7, raising=False)
    assert load_verifier(found.name).version == 7


def test_unknown_verifier_is_told_its_nearest_name() -> None:
    with pytest.raises(ConfigError) as error:
        load_verifier("gms8k")
    assert error.value.hint == "did you mean `gsm8k`?"
