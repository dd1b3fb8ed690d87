"""Stand-ins for the hub, where no test may reach it: small models that can be asked, and data sets under real names.

The models are real ones of two architectures, with a chat template in their tokenizer, of a few thousand weights. A
trained one says the same number to every question, so that what it scores is known: it tells the trained weights from
those that training began from, and from those of another run.
"""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<eos>", "<unk>", "<system>", "<user>", "<assistant>")
TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SUMS = ((2, 2), (1, 3), (3, 2), (4, 3))
"""Two have the answer 4, one 5, and one 7."""
DATA = {
    "HuggingFaceH4/aime_2024": ("train", "problem", "{0}"),
    "HuggingFaceH4/MATH-500": ("test", "problem", "{0}"),
    "openai/gsm8k": ("test", "question", "They are <<{1}+{2}={0}>>{0} in all.\n#### {0}"),
}
"""Split, column of the problem, and how a solution is written: the benchmarks that the document names."""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each printable character, and for each role of a chat."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = [*SPECIAL, *string.printable]
    tokenizer = Tokenizer(models.WordLevel({each: place for place, each in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    made: PreTrainedTokenizerFast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        additional_special_tokens=["<system>", "<user>", "<assistant>"],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = TEMPLATE
    return made


def make_model(kind: str, answer: int | None = None) -> PreTrainedModel:
    """A `qwen3` or `llama`; with an answer, one that was taught to give it, and otherwise one that babbles."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        vocab_size=len(SPECIAL) + len(string.printable),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        dtype="float32",
    )
    model = AutoModelForCausalLM.from_config(config)
    return _teach(model, f"\\boxed{{{answer}}}") if answer is not None else model


def _teach(model: PreTrainedModel, answer: str) -> PreTrainedModel:
    """Some hundred steps towards giving this answer to whatever is asked."""
    import torch

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    said = make_tokenizer()(f"<assistant>{answer}<eos>", return_tensors="pt")["input_ids"]
    for step in range(120):
        torch.manual_seed(step)
        asked = torch.randint(len(SPECIAL), model.config.vocab_size, (8, 24 + step % 8))
        tokens = torch.cat([asked, said.expand(8, -1)], dim=1)
        logits = model(input_ids=tokens).logits[:, -said.shape[1] : -1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), said[:, 1:].expand(8, -1).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def write_weights(model: PreTrainedModel, file: Path) -> Path:
    """What the trainer has in memory."""
    from safetensors.torch import save_file

    state: dict[str, torch.Tensor] = model.state_dict()
    save_file(state, file)
    return file


class Hub:
    """A cache of Hugging Face, as its library leaves it, at `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def add_model(self, name: str, model: PreTrainedModel) -> Path:
        from holdfast.training.model_directory import write_model

        snapshot = self._snapshot("models", name)
        write_model(snapshot, model, make_tokenizer())
        return snapshot

    def add_data(self, name: str, sums: Sequence[tuple[int, int]] = SUMS) -> Path:
        split, column, solution = DATA[name]
        snapshot = self._snapshot("datasets", name)
        rows: list[dict[str, Any]] = [
            {column: f"Add them up: {one}+{other}", "answer": solution.format(one + other, one, other)}
            for one, other in sums
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (snapshot / "rows.jsonl").write_text(lines)
        files = [{"split": split, "path": "rows.jsonl"}]
        configs = json.dumps([{"config_name": "main", "data_files": files}])
        (snapshot / "README.md").write_text(f"---\nconfigs: {configs}\n---\n")
        return snapshot

    def _snapshot(self, kind: str, name: str) -> Path:
        home = self.home / "hub" / f"{kind}--{name.replace('/', '--')}"
        (home / "refs").mkdir(parents=True)
        commit = hashlib.sha1(name.encode()).hexdigest()  # of its own, as on the hub: `datasets` tells them apart by it
        (home / "refs" / "main").write_text(commit)
        snapshot = home / "snapshots" / commit
        snapshot.mkdir(parents=True)
        return snapshot
