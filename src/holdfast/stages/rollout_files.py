"""What a collection of rollouts publishes.

rollouts.jsonl       a rollout a line, by prompt and repeat
failures.jsonl       every try that came to nothing, with its type
metrics.json         what the rewards say, each number with its interval; metrics.jsonl has the same as lines
logs/                what engine, environment server and collection printed, attempt by attempt
reward_analysis.md   a view, made once the rest is there
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from holdfast.core import files
from holdfast.evaluation import published
from holdfast.rollouts import columns_keep, failures
from holdfast.stages import asking

if TYPE_CHECKING:
    from holdfast.core.output import Output
    from holdfast.evaluation.recorded import Row
    from holdfast.rollouts.row_index import Index
    from holdfast.stages.problems import Problems
    from holdfast.stages.rollouts import RolloutParams

ROLLOUTS, FAILURES, METRICS, LOGS = "rollouts.jsonl", "failures.jsonl", "metrics.json", "logs"
ANALYSIS = "reward_analysis.log"
ENTRY = "import sys; sys.argv[0] = 'holdfast'; from holdfast.cli.main import main; sys.exit(main())"
VIEWS = ("reward_analysis*", f"{LOGS}/*")
"""What is made anew, or is no result: listed and not sealed."""
SOURCES = {
    "engine.log": "service-engine*.log",
    "environment.log": "service-environment*.log",
    "rollout_collection.log": "output.log",
}
"""The logs, and what they are made of."""


class Written(NamedTuple):
    """What of the rows their metrics say beside numbers: whose word it was that the engines served the model, and how
    many are missing, by the type of their last failure.
    """

    standings: Set[str]
    failed: Mapping[str, int]


def write_rows(index: Index, parts: Path, out: Output) -> Written:
    """`rollouts.jsonl` and `failures.jsonl`; who calls can let go of the index then."""
    return Written(_write_rows(index, out.path / ROLLOUTS), _write_failures(index, parts, out.path / FAILURES))


def publish(params: RolloutParams, problems: Problems, written: Written, out: Output) -> None:
    """Write what follows from the rows, which are there, but for the analysis."""
    identity = {
        "version": params.environment_version,
        "standing": sorted(written.standings),
        "model_digest": asking.fingerprint_of(params, out.input_digests),
        "problems": problems.episodes.identity(),
        **_intent(params),
    }
    rows = published.read(out.path / ROLLOUTS)
    write_metrics(rows, problems.prompts.ids, params.repeats, out, identity, written.failed)
    keep_logs(out.record.parent, out.path / LOGS)


def write_metrics(
    rows: Iterable[Row],
    ids: Sequence[str],
    repeats: int,
    out: Output,
    identity: Mapping[str, Any],
    failed: Mapping[str, int],
) -> None:
    """`metrics.json` and the lines of `metrics.jsonl`, of rows in the order of `ids` and of repeats."""
    from holdfast.evaluation import metrics

    content = metrics.summarise(rows, ids, repeats, identity=identity, failed=failed)
    (out.path / METRICS).write_bytes(files.encode(content))
    out.metric(0, **{each["name"]: each["value"] for each in content["metrics"]})


def _write_rows(index: Index, path: Path) -> set[str]:
    """Returns whose word it was that the engines served the model."""
    from holdfast.rollouts.row_index import standing

    standings = set()
    with open(path, "wb") as file:
        for line in index.lines():
            file.write(line)
            standings.add(standing(line))
    return standings


def _write_failures(index: Index, parts: Path, path: Path) -> dict[str, int]:
    """Returns what is missing, by the type of its last failure."""
    with open(path, "w", encoding="utf-8") as file:
        for each in failures.read(parts, index.ids, index.repeats):
            file.write(json.dumps(each.as_dict(), ensure_ascii=False) + "\n")
    counts, _ = failures.summarise(failures.read(parts, index.ids, index.repeats), index)
    return dict(counts)


def _intent(params: RolloutParams) -> dict[str, Any]:
    """What is asked, without where and how, but with what was accepted."""
    from holdfast.stages.rollouts import Rollouts

    said = params.model_dump(mode="json")
    placed = Rollouts().placed_params(said)
    return {
        **{name: value for name, value in said.items() if name not in placed},
        "prompts": params.prompts,
        "accept_missing": params.accept_missing,
    }


def keep_logs(attempts: Path, logs: Path) -> None:
    """What every attempt so far printed, put together, each with a line that says whose it is."""
    files.make_directories(logs)
    for name, pattern in SOURCES.items():
        found = sorted(attempts.glob(f"[0-9]*/{pattern}"))
        if found:
            with open(logs / name, "wb") as log:
                for source in found:
                    _append(log, source)


def _append(log: BinaryIO, source: Path) -> None:
    log.write(f"==> attempt {int(source.parent.name)}, {source.name}\n".encode())
    with open(source, "rb") as content:
        shutil.copyfileobj(content, log)


def refresh_analysis(home: Path) -> None:
    """Make the view of rollouts that are published, in a process of its own: whatever becomes of it, they stay."""
    files.make_directories(home / LOGS)
    command = [sys.executable, "-c", ENTRY, "rollout", "analyze", str(home)]
    with columns_keep.keeping_published(home / ROLLOUTS, home / FAILURES), open(home / LOGS / ANALYSIS, "ab") as log:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.stderr.write(f"the analysis failed, see {home / LOGS / ANALYSIS}: holdfast rollout analyze {home}\n")
