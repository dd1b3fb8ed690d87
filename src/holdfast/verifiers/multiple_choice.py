"""A letter, A to J: after `Answer:` in one of many languages, boxed, after "the answer is", or alone.

What counts is what NeMo RL's english_multichoice and multilingual_multichoice count (answer words, and the letters of
Arabic, Bengali and full-width Latin), and boxed letters and letters that stand alone, which those miss. Where a
response names several, the last one is meant.
"""

from __future__ import annotations

import re
from typing import Any

from holdfast.verifiers import Grade

LETTERS = "ABCDEFGHIJ"
FOREIGN = str.maketrans("ＡＢＣＤＥＦＧＨＩＪأبجدঅবডঢ", "ABCDEFGHIJABCDABCD")
WORDS = (
    *("Answer", "Antwort", "Respuesta", "Risposta", "Réponse", "Resposta", "Jawaban", "Jibu", "Svar", "Ответ"),
    *("উত্তর", "उत्तर", "답변", "정답", "답", "答案", "答え", "回答", "解答", "答复", "答曰", "答"),
    *("الإجابة النهائية", "الإجابة الصحيحة هي", "الإجابة الصحيحة", "الإجابة هي", "الإجابة", "إجابة"),
    *("الجواب النهائي", "الجواب", "Idahun", "Ìdáhùn", "Idáhùn", "Àmọ̀nà", "Àdáhùn", "Ànúgọ", "Àṣàyàn"),
)
# Letters inside words are none.
LETTER = r"\(?([A-JＡ-Ｊأبجدঅবডঢ])\)?(?![\w'’])"  # noqa: RUF001
RULES = tuple(
    re.compile(rule)
    for rule in (
        rf"(?i:{'|'.join(map(re.escape, WORDS))})\s*[:：ঃ]\s*{LETTER}",  # noqa: RUF001
        rf"\\boxed\s*{LETTER}",
        rf"(?i:\banswer\s+is|\bchoice\s+is|\boption\s+is)\s*:?\s*(?i:(?:option|choice)\s+)?{LETTER}",
        rf"^\s*{LETTER}(?:[.):]|\s*$)",
        rf"\n\s*{LETTER}[.]?\s*$",
    )
)
# Markdown and LaTeX around a letter say nothing; `\boxed` stays, as the mark that it is.
DECORATION = re.compile(r"\*\*|__|\$|\\[()\[\]]|\\(?:text|mathrm|mathbf|textbf)\s*|[{}`]")


class MultipleChoice:
    name = "multiple_choice"
    version = 1

    def grade(self, response: str, solution: Any) -> Grade:
        wanted = _wanted(solution)
        answer = extract_letter(response)
        return Grade(float(answer == wanted), answer)


def extract_letter(text: str) -> str | None:
    """The letter that a response settles on, or None."""
    plain = DECORATION.sub("", text)
    found = next((found[-1] for rule in RULES if (found := rule.findall(plain))), None)
    return found.translate(FOREIGN) if found else None


def _wanted(solution: Any) -> str:
    """The letter of a solution: `C`, `(C)`, `Answer: C`, or 2, the place from 0."""
    if isinstance(solution, int) and 0 <= solution < len(LETTERS):
        return LETTERS[solution]
    text = str(solution).strip().translate(FOREIGN)
    if text.upper() in LETTERS and len(text) == 1:
        return text.upper()
    found = extract_letter(text)
    if found is None:
        raise ValueError(f"the solution {text[:80]!r} is no letter from A to J")
    return found
