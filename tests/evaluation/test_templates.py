"""A template of one's own puts the chat as it says, and other templates are other rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tiny import write_chat_model

from holdfast.environments import Prompt
from holdfast.evaluation.templates import AS_IT_IS, ChatTemplate

CHAT = Prompt("a", "2+2", ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2"}))
OWN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if brief %}<brief>{% endif %}<answer>"


def test_other_templates_and_other_arguments_are_other_rows() -> None:
    templates = [
        ChatTemplate(),
        ChatTemplate(OWN),
        ChatTemplate(OWN, {"brief": True}),
        ChatTemplate("", {"brief": True}),
    ]
    assert len({each.identity for each in templates}) == 4
    assert ChatTemplate().identity == AS_IT_IS


def test_without_a_template_of_ones_own_the_engine_gets_the_chat(tmp_path: Path) -> None:
    assert ChatTemplate().open(tmp_path / "no such model")(CHAT) is CHAT


@pytest.mark.train
def test_own_template_and_its_arguments_make_the_text(tmp_path: Path) -> None:
    model = write_chat_model(tmp_path)
    put = ChatTemplate(OWN, {"brief": True}).open(model)
    assert put(CHAT) == Prompt("a", "<system>Be brief.<user>2+2<brief><answer>")
    assert put(Prompt("b", "2+2=")) == Prompt("b", "2+2="), "what is no chat stays as it is"
    assert ChatTemplate("", {"x": 1}).open(model)(CHAT).text == "Be brief.2+2", "the tokenizer's own"
