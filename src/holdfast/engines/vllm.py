"""vLLM as an engine: `vllm serve`, https://docs.vllm.ai/en/stable/cli/serve/.

`--generation-config vllm` matters: without it the server fills what a request leaves out (top_k, repetition_penalty)
from the model's own generation_config.json, and samples otherwise than the request says. The model's end tokens are
taken from there all the same.

A request's seed draws that response alone, but only `VLLM_BATCH_INVARIANT=1` makes it the same in another batch.
"""

from __future__ import annotations

import sys
from pathlib import Path

from holdfast.engines.gpu_server import COMMON, GpuServer

OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
FLAGS = {
    "tensor_parallel": "--tensor-parallel-size",
    "pipeline_parallel": "--pipeline-parallel-size",
    "data_parallel": "--data-parallel-size",
    "gpu_memory_utilization": "--gpu-memory-utilization",
    "max_model_len": "--max-model-len",
    "dtype": "--dtype",
    "tool_call_parser": "--tool-call-parser",
    "reasoning_parser": "--reasoning-parser",
    "enforce_eager": "--enforce-eager",
}


class Vllm(GpuServer):
    """Parallel sizes multiply: `tensor_parallel` x `pipeline_parallel` x `data_parallel` GPUs of one node."""

    name = "vllm"
    flags = FLAGS
    options = COMMON | frozenset(FLAGS)
    environment = OFFLINE

    def _program(self, model: Path) -> tuple[str, ...]:
        return (_beside_python("vllm"), "serve", str(model))

    def _always(self) -> tuple[str, ...]:
        tools = ("--enable-auto-tool-choice",) if self.serving.tool_call_parser else ()
        return ("--generation-config", "vllm", *tools)


def _beside_python(program: str) -> str:
    """A program of the environment that runs us, which need not be on PATH."""
    path = Path(sys.executable).with_name(program)
    return str(path) if path.exists() else program
