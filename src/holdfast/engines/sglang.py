"""SGLang as an engine: `python -m sglang.launch_server`,
https://docs.sglang.io/advanced_features/server_arguments.html.

`--sampling-defaults openai` matters: by default the server fills what a request leaves out from the model's own
generation_config.json. A request's seed is real only with deterministic inference switched on, which costs speed, so it
is sent and its promise is not relied on.
"""

from __future__ import annotations

import sys
from pathlib import Path

from holdfast.core.service import Service
from holdfast.engines import GPU_OPTIONS, Capabilities, Engine, flags

OFFLINE = {"HF_HUB_OFFLINE": "1"}


class Sglang(Engine):
    """`gpu_memory_utilization` is its `--mem-fraction-static`, `enforce_eager` its `--disable-cuda-graph`."""

    name = "sglang"
    capabilities = Capabilities(frozenset({"top_k", "min_p", "seed", "stop", "stop_token_ids"}), tools="parser")
    options = GPU_OPTIONS

    def service(self, model: Path, tokens: int) -> Service:
        """See `Engine.service`."""
        return Service("engine", self._command(model), env=OFFLINE, timeout=self.serving.engine_timeout)

    def _command(self, model: Path) -> tuple[str, ...]:
        chosen = self.serving
        sizes = {
            "--tp-size": chosen.tensor_parallel,
            "--pp-size": chosen.pipeline_parallel,
            "--dp-size": chosen.data_parallel,
        }
        values = {
            **{flag: size for flag, size in sizes.items() if size > 1},
            "--mem-fraction-static": chosen.gpu_memory_utilization,
            "--context-length": chosen.max_model_len,
            "--dtype": chosen.dtype,
            "--tool-call-parser": chosen.tool_call_parser,
            "--reasoning-parser": chosen.reasoning_parser,
        }
        eager = ["--disable-cuda-graph"] if chosen.enforce_eager else []
        fixed = ["--host", "{host}", "--port", "{port}", "--sampling-defaults", "openai", "--enable-metrics"]
        program = [sys.executable, "-m", "sglang.launch_server", "--model-path", str(model)]
        return (*program, "--served-model-name", model.name, *fixed, *flags(values), *eager, *chosen.engine_arguments)
