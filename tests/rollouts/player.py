"""A small model that was taught for some seconds to play Tetris with text tags, so that a real server has a player.

It learns from games that the fake engine plays. Its chats are marked as Qwen's are: of models of that architecture
`transformers serve` takes the answer from behind these marks, and gives back the whole prompt where there are none. Its
tokenizer knows cells of a board, ends of lines and moves; other words are one unknown token, so that a game of many
turns stays short.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.engines.fake_answers import Manner
from holdfast.engines.fake_play import reply
from holdfast.environments.episodes import Message
from holdfast.environments.tetris.episodes import TetrisSettings, TextTetris

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

BEGINS = tuple(f"<|im_start|>{role}" for role in ("system", "user", "assistant"))
SPECIAL = ("<pad>", "<|im_end|>", "<unk>", *BEGINS)
MOVES = tuple(f"<action>{move}</action>" for move in ("Left", "Right", "Down"))
PIECES = r"<\|im_start\|>\w+|<\|im_end\|>|<action>\w+</action>|[_#X\n]|[^_#X\n<]+|<"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SIDE = 4
"""Cells of a board each way, whose pieces are single cells."""
TURNS = 8
STEPS, BATCH = 60, 16


def puzzle(number: int) -> dict[str, Any]:
    """The row of a puzzle; those of the lessons have other numbers than those of a test."""
    return {"game_id": number, "seed": 70_000 + number, "dim_board": [SIDE, SIDE], "box_type": 1}


def write_player(directory: Path, steps: int = STEPS) -> Path:
    """The directory of a model that plays."""
    from holdfast.training.model_directory import write_model

    tokenizer = make_tokenizer()
    write_model(directory, teach(make_model(), tokenizer, steps), tokenizer)
    return directory


def make_tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = [*SPECIAL, *MOVES, "_", "#", "X", "\n"]
    tokenizer = Tokenizer(models.WordLevel({each: place for place, each in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "isolated")
    tokenizer.decoder = decoders.Fuse()
    made: PreTrainedTokenizerFast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token=SPECIAL[1],
        unk_token="<unk>",
        additional_special_tokens=list(BEGINS),
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = TEMPLATE
    return made


def make_model() -> PreTrainedModel:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "qwen3",
        vocab_size=len(SPECIAL) + len(MOVES) + 4,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=16,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        initializer_range=0.08,
        dtype="float32",
    )
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config = GenerationConfig(do_sample=True, top_k=0, pad_token_id=0, eos_token_id=1)
    return model


def teach(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, steps: int) -> PreTrainedModel:
    """So many steps on games of a good player, none of them twice."""
    import torch

    torch.set_num_threads(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.98), weight_decay=0.0)
    games = play(random.Random(0))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1.0, (step + 1) / 20) * (1 - step / steps)
        texts = [tokenizer.apply_chat_template(next(games), tokenize=False) for _ in range(BATCH)]
        tokens = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")["input_ids"]
        logits = model(input_ids=tokens[:, :-1]).logits
        targets = tokens[:, 1:].masked_fill(~_is_said(tokens)[:, 1:], -100)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


def _is_said(tokens_B_T: torch.Tensor) -> torch.Tensor:
    """Whether a token is of a turn of the player, its end and what follows that included."""
    import torch

    begins = (tokens_B_T >= SPECIAL.index(BEGINS[0])) & (tokens_B_T <= SPECIAL.index(BEGINS[-1]))
    begun = torch.where(begins, torch.arange(tokens_B_T.shape[1]), 0).cummax(1).values
    is_players = tokens_B_T.gather(1, begun) == SPECIAL.index(BEGINS[-1])
    return is_players & ~begins & (tokens_B_T != SPECIAL.index("<pad>"))


def play(dice: random.Random) -> Iterator[Sequence[Message]]:
    """Games of up to `TURNS` turns, one after another."""
    while True:
        seed = dice.randrange(10_000)
        episode = TextTetris(TetrisSettings(interface="text"))
        messages: list[Message] = list(episode.start(seed, {**puzzle(0), "seed": seed}).messages)
        for _ in range(TURNS):
            said = reply("teacher", messages, (), seed, Manner(accuracy=0.9)).text
            messages.append({"role": "assistant", "content": said})
            step = episode.step(messages[-1])
            if step.terminated:
                break
            messages += step.messages
        else:
            messages.pop()
        yield messages
