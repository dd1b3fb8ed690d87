"""Kinds that stand for `train`, `convert` and `evaluate`: their params, inputs and homes, and none of their work."""

from __future__ import annotations

from holdfast.core import kind


class TrainParams(kind.Params):
    """As many params as a small training run really has."""

    run: str
    steps: int
    seed: int
    lr: float
    beta: float = 0.0
    group_size: int = 8
    batch_size: int = 128
    save_at: tuple[int, ...] = ()


class ConvertParams(kind.Params):
    dtype: str = "bfloat16"


class EvaluateParams(kind.Params):
    dataset: str
    repeats: int = 16
    temperature: float = 1.0


class Train(kind.Kind):
    """Stands for `train`: its shape, none of its work."""

    name = "train"
    Params = TrainParams

    def home(self, name: str) -> str:
        return f"training_runs/{name}"


class Convert(kind.Kind):
    """Stands for `convert`."""

    name = "convert"
    inputs = ("checkpoint",)
    Params = ConvertParams

    def home(self, name: str) -> str:
        return f"hf_eval_checkpoints/{name}"


class Evaluate(kind.Kind):
    """Stands for `evaluate`."""

    name = "evaluate"
    inputs = ("model",)
    Params = EvaluateParams

    def home(self, name: str) -> str:
        return f"evals/{name}"
