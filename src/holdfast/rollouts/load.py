"""How loaded an engine is, from its metrics in Prometheus' text format.

Names as vLLM (https://docs.vllm.ai/en/stable/usage/metrics/) and SGLang
(https://docs.sglang.ai/references/production_metrics.html) have them. An engine with several copies of the model has a
line for each: the fullest cache counts, and the sum of the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

from holdfast.rollouts.gate import Load

LINE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{[^\n]*\})?[ \t]+(\S+)", re.MULTILINE)
CACHE = frozenset({"vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"})
RUNNING = frozenset({"vllm:num_requests_running", "sglang:num_running_reqs"})
WAITING = frozenset({"vllm:num_requests_waiting", "sglang:num_queue_reqs"})
PREEMPTED = frozenset({"vllm:num_preemptions_total", "vllm:num_preemptions", "sglang:num_retracted_reqs"})


def read(texts: Iterable[str]) -> Load | None:
    """The load of all engines together; None where none of them says anything that we know."""
    found = [pair for text in texts for pair in _values(text)]
    cache = [value for name, value in found if name in CACHE]
    if not cache and not any(name in RUNNING | WAITING for name, _ in found):
        return None
    return Load(max(cache, default=None), *(_sum(found, names) for names in (RUNNING, WAITING, PREEMPTED)))


def _values(text: str) -> Iterator[tuple[str, float]]:
    for name, value in LINE.findall(text):
        try:
            number = float(value)
        except ValueError:
            continue
        if math.isfinite(number):
            yield name, number


def _sum(found: Iterable[tuple[str, float]], names: frozenset[str]) -> float:
    return math.fsum(value for name, value in found if name in names)
