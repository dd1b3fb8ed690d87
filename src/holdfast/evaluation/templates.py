"""A chat as the text that a model continues, by a template of one's own or with arguments of one's own.

The tokenizer's own template without arguments needs nothing of this: the engine applies it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.environments import Prompt

AS_IT_IS = "as it is"
"""The identity of prompts that the engine gets as they are; part of a collection's identity."""


@dataclass(frozen=True)
class ChatTemplate:
    """`text` is Jinja as transformers has it, empty for the tokenizer's own; `arguments` are given to it, such as
    `enable_thinking`.
    """

    text: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        if not self.text and not self.arguments:
            return AS_IT_IS
        said = json.dumps([self.text, dict(self.arguments)], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    def open(self, model: Path) -> Callable[[Prompt], Prompt]:
        """What puts a prompt, with the tokenizer of the directory `model` where it takes one."""
        if self.identity == AS_IT_IS:
            return lambda prompt: prompt
        from transformers import AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(model)

        def put(prompt: Prompt) -> Prompt:
            if not prompt.messages:
                return prompt
            text = tokenizer.apply_chat_template(
                [dict(message) for message in prompt.messages],
                chat_template=self.text or None,
                tokenize=False,
                add_generation_prompt=True,
                **self.arguments,
            )
            return Prompt(prompt.id, str(text))

        return put
