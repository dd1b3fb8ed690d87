"""How an engine is served: what people write for it, in the params of any stage that needs one."""

from __future__ import annotations

from typing import Any

from holdfast.core.kind import Params, added, placed


class Serving(Params):
    """Options of an engine. Where it runs and how it is spread over GPUs changes no response, so it is no part of any
    key; `dtype` and `engine_arguments` may, so they are.
    """

    url: str | None = placed(None)
    """Base URL of an engine that is already there, for `engine: url`."""
    api_key_variable: str | None = placed(None)
    """Name of the environment variable that holds the key of that engine. The key itself is stored nowhere."""
    served_name: str | None = placed(None)
    """The model's name there, where it serves several."""
    tensor_parallel: int = placed(1, ge=1)
    data_parallel: int = placed(1, ge=1)
    pipeline_parallel: int = placed(1, ge=1)
    gpu_memory_utilization: float | None = placed(None, gt=0, le=1)
    max_model_len: int | None = placed(None, ge=1)
    """Tokens of prompt and response together."""
    enforce_eager: bool = placed(False)
    engine_timeout: float = placed(600.0, gt=0)
    """Seconds until it must answer."""
    dtype: str | None = added(None, as_before=None)
    engine_arguments: tuple[str, ...] = added((), as_before=[])
    """More tokens for the engine's command line, as they are."""

    tool_call_parser: str | None = added(None, as_before=None)
    """How the model writes tool calls, `hermes` for example; with it, requests may carry tools."""
    reasoning_parser: str | None = added(None, as_before=None)
    """How the model sets its reasoning apart, where that is not to be part of its answer."""

    def identity(self) -> dict[str, Any]:
        """What of this can change a response, for the key of a collection; empty by default."""
        found: dict[str, Any] = {}
        if self.dtype is not None:
            found["dtype"] = self.dtype
        if self.engine_arguments:
            found["engine_arguments"] = list(self.engine_arguments)
        for name in ("tool_call_parser", "reasoning_parser"):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        return found

    def chosen(self) -> set[str]:
        """The options that were set to something else than their default."""
        fields = Serving.model_fields
        return {name for name, info in fields.items() if getattr(self, name) != info.default}
