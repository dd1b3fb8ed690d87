"""SGLang as an engine: `python -m sglang.launch_server`,
https://docs.sglang.io/advanced_features/server_arguments.html.

`--sampling-defaults openai` matters: by default the server fills what a request leaves out from the model's own
generation_config.json. A request's seed is real only with deterministic inference switched on, which costs speed, so it
is sent and its promise is not relied on.
"""

from __future__ import annotations

import sys
from pathlib import Path

from holdfast.engines.gpu_server import COMMON, GpuServer

OFFLINE = {"HF_HUB_OFFLINE": "1"}
FLAGS = {
    "tensor_parallel": "--tp-size",
    "pipeline_parallel": "--pp-size",
    "data_parallel": "--dp-size",
    "gpu_memory_utilization": "--mem-fraction-static",
    "max_model_len": "--context-length",
    "dtype": "--dtype",
    "tool_call_parser": "--tool-call-parser",
    "reasoning_parser": "--reasoning-parser",
    "enforce_eager": "--disable-cuda-graph",
}


class Sglang(GpuServer):
    name = "sglang"
    flags = FLAGS
    options = COMMON | frozenset(FLAGS)
    environment = OFFLINE

    def _program(self, model: Path) -> tuple[str, ...]:
        return (sys.executable, "-m", "sglang.launch_server", "--model-path", str(model))

    def _always(self) -> tuple[str, ...]:
        return ("--sampling-defaults", "openai", "--enable-metrics")
