"""vLLM as an engine: `vllm serve`, https://docs.vllm.ai/en/stable/cli/serve/.

`--generation-config vllm` matters: without it the server fills what a request leaves out (top_k, repetition_penalty)
from the model's own generation_config.json, and samples otherwise than the request says. The model's end tokens are
taken from there all the same.

A request's seed draws that response alone, but only `VLLM_BATCH_INVARIANT=1` makes it the same in another batch.
"""

from __future__ import annotations

import sys
from pathlib import Path

from holdfast.core.service import Service
from holdfast.engines import GPU_OPTIONS, Capabilities, Engine, flags

OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


class Vllm(Engine):
    """Parallel sizes multiply: `tensor_parallel` x `pipeline_parallel` x `data_parallel` GPUs of one node."""

    name = "vllm"
    capabilities = Capabilities(frozenset({"top_k", "min_p", "seed", "stop", "stop_token_ids"}), tools="parser")
    options = GPU_OPTIONS

    def service(self, model: Path, tokens: int) -> Service:
        """See `Engine.service`."""
        return Service("engine", self._command(model), env=OFFLINE, timeout=self.serving.engine_timeout)

    def _command(self, model: Path) -> tuple[str, ...]:
        chosen = self.serving
        sizes = {
            "--tensor-parallel-size": chosen.tensor_parallel,
            "--pipeline-parallel-size": chosen.pipeline_parallel,
            "--data-parallel-size": chosen.data_parallel,
        }
        values = {
            **{flag: size for flag, size in sizes.items() if size > 1},
            "--gpu-memory-utilization": chosen.gpu_memory_utilization,
            "--max-model-len": chosen.max_model_len,
            "--dtype": chosen.dtype,
            "--tool-call-parser": chosen.tool_call_parser,
            "--reasoning-parser": chosen.reasoning_parser,
        }
        eager = ["--enforce-eager"] if chosen.enforce_eager else []
        tools = ["--enable-auto-tool-choice"] if chosen.tool_call_parser else []
        fixed = ["--host", "{host}", "--port", "{port}", "--generation-config", "vllm"]
        program = [beside_python("vllm"), "serve", str(model), "--served-model-name", model.name]
        return (*program, *fixed, *tools, *flags(values), *eager, *chosen.engine_arguments)


def beside_python(program: str) -> str:
    """A program of the environment that runs us, which need not be on PATH."""
    path = Path(sys.executable).with_name(program)
    return str(path) if path.exists() else program
