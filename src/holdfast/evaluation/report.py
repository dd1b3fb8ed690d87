"""`metrics.json` as a table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.core.columns import align


def lines(content: Mapping[str, Any]) -> list[str]:
    """The metrics, and below them what is missing, how responses ended, and what they took."""
    rows = [("metric", "value", "95% interval", "prompts")]
    rows += [(each["name"], *spell(each), str(each["n_prompts"])) for each in content["metrics"]]
    return [*align(rows), "", *_notes(content)]


def spell(found: Mapping[str, Any]) -> tuple[str, str]:
    """`0.412`, `0.380 to 0.444`; an interval that nobody knows is empty."""
    known = found.get("low") is not None and found.get("high") is not None
    return f"{found['value']:.3f}", f"{found['low']:.3f} to {found['high']:.3f}" if known else ""


def _notes(content: Mapping[str, Any]) -> list[str]:
    notes = [_coverage(content["coverage"])]
    if truncated := content.get("truncated"):
        notes.append(f"truncated   {truncated['value']:.1%} of responses ended at the limit of tokens")
    if tokens := (content.get("tokens") or {}).get("completion"):
        most = f"95% below {tokens['p95']:,.0f}"
        notes.append(f"tokens      {tokens['mean']:,.0f} a response ({most}), {tokens['sum']:,.0f} in all")
    if seconds := (content.get("time") or {}).get("request"):
        most, busy = f"95% below {seconds['p95']:.1f} s", content["time"]["busy"]
        notes.append(f"time        {seconds['mean']:.1f} s a response ({most}), {busy:,.0f} s in all")
    if variance := content.get("variance"):
        share = variance["from_repeats"]
        notes.append(f"variance    {share:.0%} of it would go with more repeats, the rest only with more prompts")
    return notes


def _coverage(coverage: Mapping[str, Any]) -> str:
    says = f"responses   {coverage['done']:,} of {coverage['expected']:,}"
    if coverage["failed"]:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in coverage["failed"].items())
        says += f"; failed: {reasons}"
    if bounds := coverage["bounds"]:
        says += f"; accuracy {bounds['low']:.3f} if all that is missing were wrong, {bounds['high']:.3f} if right"
    return says
