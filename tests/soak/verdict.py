"""Judges what a soak's readers got by what its writers wrote, and when."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.coherence.history import History, Version

Outages = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is allowed.

    Attributes:
        settle: as of the publisher.
        calm: seconds for which an older version may be served while all is well.
        rough: the same around an outage.
        outage: seconds before and after an outage that count as a part of it.
    """

    settle: float = 0.1
    calm: float = 2.5
    rough: float = 10.0
    outage: float = 8.0


@dataclass(slots=True)
class Verdict:
    """What a soak found.

    Attributes:
        counts: of what happened.
        violations: what must not have happened.
        ages: for each current answer, for how long its version was over when it was asked for; of those that were.
    """

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)


def read_history(log: Path, settle: float) -> tuple[History, set[int]]:
    """The versions of a dataset, and which of them were written with such pauses that they may be seen half."""
    history, slow = History(settle), set()
    for line in log.read_text().splitlines():
        number, begun, done, longest = line.split()
        history.last.over = float(done)
        history.versions.append(Version((int(number),), float(begun), float(done)))
        if float(longest) > settle / 2:
            slow.add(int(number))
    return history, slow


def judge(
    histories: dict[str, tuple[History, set[int]]], logs: list[Path], outages: Outages, bounds: Bounds
) -> Verdict:
    """Judge all reads."""
    verdict = Verdict()
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    lines.sort(key=lambda line: float(line["ended"]))
    for line in lines:
        verdict.counts["reads"] += 1
        verdict.counts[line["what"]] += 1
        if (complaint := _complaint(line, histories[line["name"]], outages, bounds, verdict)) is not None:
            verdict.violations.append(f"{complaint}: {line}")
    for name in histories:
        verdict.violations += _went_back([line for line in lines if line["name"] == name and "versions" in line])
    return verdict


def _complaint(
    line: dict[str, Any], written: tuple[History, set[int]], outages: Outages, bounds: Bounds, verdict: Verdict
) -> str | None:
    history, slow = written
    begun, ended = line["begun"], line["ended"]
    match line["what"]:
        case "no connection" | "cut off":
            return None if _around(outages["cat2sub"], begun, ended, bounds.outage) else "the subscriber was not down"
        case "502" | "503":
            publisher_away = _around(outages["cat2pub"], begun, ended, bounds.outage)
            return None if publisher_away or history.busy(begun - 3.0, ended) else "refused without a reason"
        case "stale":
            if not _around(outages["cat2pub"], begun, ended, bounds.outage):
                return "stale without a reason"
        case "current":
            pass
        case _:
            return "refused, or damaged"
    versions = line["versions"]
    if not versions or line["length"] != line["stop"] - line["start"]:
        return "values that were never written"
    if len(versions) > 1:
        if len(versions) == 2 and versions[1] in slow and versions[1] == versions[0] + 1:
            verdict.counts["of a slow write"] += 1
            return None
        return "TORN"
    away = any(_around(each, begun, ended, bounds.outage) for each in outages.values())
    bound = float("inf") if line["what"] == "stale" else bounds.rough if away else bounds.calm
    if versions[0] >= len(history.versions) or not history.fits(versions[0], begun, ended, bound):
        return "TOO OLD"
    if line["what"] == "current" and history.versions[versions[0]].over < begun:
        verdict.ages.append(begun - history.versions[versions[0]].over)
    return None


def _went_back(lines: list[dict[str, Any]]) -> list[str]:
    """Answers with an older version than one that was read completely before they were asked for."""
    found, newest, at = [], 0, 0
    ends = [(line["ended"], min(line["versions"])) for line in lines if line["versions"]]
    for line in sorted(lines, key=lambda line: float(line["begun"])):
        while at < len(ends) and ends[at][0] <= line["begun"]:
            newest = max(newest, ends[at][1])
            at += 1
        if line["versions"] and max(line["versions"]) < newest:
            found.append(f"WENT BACK behind version {newest}: {line}")
    return found


def _around(spans: list[tuple[float, float]], begun: float, ended: float, margin: float) -> bool:
    return any(down - 0.5 <= ended and begun <= up + margin for down, up in spans)
