"""What is known of common benchmarks: where they are, which columns, how they are asked and graded.

A setting that a person gives goes before the preset's. The names are those of NeMo RL's `data.dataset_name`, of the
hub, and the usual ones; case, `-` and `_` do not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BOXED = "{problem}\n\nReason step by step, and put the final answer into \\boxed{}."
NUMBER = "{problem}\n\nReason step by step, and end with a line that says #### and the number."
LETTER = "{problem}\n\nReason step by step, and end with a line that says Answer: and the letter."

MATH = {"solution_key": "answer", "problem_key": "problem", "verifier": "math", "prompt": BOXED}
GPQA = {
    "name": "Idavidrein/gpqa",
    "split": "train",
    "problem_key": "Question",
    "choices": ["Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"],
    "verifier": "multiple_choice",
    "prompt": LETTER,
}
MMLU = {"split": "test", "problem_key": "question", "solution_key": "answer", "verifier": "multiple_choice"}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "math500": {**MATH, "name": "HuggingFaceH4/MATH-500", "split": "test"},
    "math": {**MATH, "name": "zwhe99/MATH", "split": "test", "solution_key": "expected_answer"},
    "aime2024": {**MATH, "name": "HuggingFaceH4/aime_2024", "split": "train"},
    "aime2025": {
        **MATH,
        "name": "opencompass/AIME2025",
        "subset": ["AIME2025-I", "AIME2025-II"],
        "split": "test",
        "problem_key": "question",
    },
    "aime2026": {**MATH, "name": "MathArena/aime_2026", "split": "train"},
    "gsm8k": {
        "name": "openai/gsm8k",
        "subset": "main",
        "split": "test",
        "problem_key": "question",
        "solution_key": "answer",
        "verifier": "gsm8k",
        "prompt": NUMBER,
    },
    "gpqa": {**GPQA, "subset": "gpqa_main"},
    "gpqadiamond": {**GPQA, "subset": "gpqa_diamond"},
    "mmlu": {**MMLU, "name": "cais/mmlu", "subset": "all", "choices": "choices", "prompt": LETTER},
    "mmlupro": {**MMLU, "name": "TIGER-Lab/MMLU-Pro", "choices": "options", "prompt": LETTER},
}
HUB_NAMES = {
    str(preset["name"]).lower(): name for name, preset in PRESETS.items() if name not in ("gpqa", "gpqadiamond")
}


def preset_of(name: str) -> Mapping[str, Any]:
    """The settings that a name stands for; empty if it is none of these."""
    short = name.lower().replace("-", "").replace("_", "")
    return PRESETS.get(short) or PRESETS.get(HUB_NAMES.get(name.lower(), ""), {})
