#!/usr/bin/env python3
"""Puts the results of a GPU check together.

    report.py WORK OUT COMMIT PART:STATUS:SECONDS ...

WORK holds what the parts have left (ptxas.json, bench.json, torch.json, nexus.json, *.log). To OUT go gpu-report.json
(everything), gpu-report.md, and what `tandem bench render` shows: gpu-kernels.json and gpu-lanes.json, in the format of
loadtest/rows.ts. Fails if a part did.
"""

import datetime
import json
import os
import pathlib
import re
import sys

COMMAND = os.environ.get("GPU_CHECK_COMMAND", "native/gpu-check.sh")


def read(path):
    return json.loads(path.read_text()) if path.exists() else None


def counts(log):
    """Tests that passed and failed, of the first run in the log."""
    found = re.search(r"^(\d+) passed, (\d+) failed$", log.read_text(), re.M) if log.exists() else None
    return {"passed": int(found[1]), "failed": int(found[2])} if found else None


def beside_torch(row, torch):
    """The row's time and PyTorch's, as far as both are known: bytes and FLOP are the row's own."""
    name = re.sub(r"^matmul int8 ", "matmul bf16 ", row["name"])
    seconds = torch["seconds"].get(name) if torch else None
    if seconds is None:
        return None
    work = work_of(row["name"])
    return {"torchMicroseconds": 1e6 * seconds, "speedup": seconds * row["value"] / work if work else None}


def work_of(name):
    """What a row's value counts a second of, in its unit (GB or TFLOP), for the rows that PyTorch has too."""
    words = name.split()
    numbers = [int(word) for word in words if word.isdigit()]
    if words[0] == "decodeAttention":
        return numbers[0] * numbers[1] * 8 * 2 * 128 * 2 * 1e-9
    if words[0] == "prefillAttention":
        tokens, context = numbers
        return 4 * 128 * 32 * (tokens * context + tokens * (tokens + 1) / 2) * 1e-12
    rows, outputs, inputs = numbers[-3:]
    if rows <= 64:
        return outputs * inputs * (2 if words[1] == "bf16" else 1 + 2 / 64) * 1e-9
    return 2 * rows * outputs * inputs * 1e-12


def short(value):
    return "" if value is None else f"{value:.4g}"


def table(head, lines):
    marks = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, marks, *lines]) + "\n"


def bench_text(bench, torch):
    lines = []
    for row in bench["rows"]:
        beside = beside_torch(row, torch)
        lines.append(
            [row["name"], short(row["value"]), row["unit"], short(row["ratio"]), short(beside and beside["speedup"])]
        )
    text = "## Kernels\n\n" + table(["what", "value", "unit", "of copy", "of PyTorch's speed"], lines)
    if bench["skipped"]:
        text += "\nNo time was left for: " + "; ".join(bench["skipped"]) + ".\n"
    if torch:
        text += f"\nPyTorch {torch['version']}; its attention reads K and V in one piece, its matmuls bf16 weights.\n"
        text += "".join(f"PyTorch, {name}: {why}\n" for name, why in torch["failed"].items())
    return text


def nexus_text(nexus):
    lines = [
        [
            row["how"],
            row["prefill"],
            row["decode"],
            *(short(1e3 * row[key]) for key in ("prefillAlone", "prefillTogether", "decodeAlone", "decodeTogether")),
            short(row["prefillTogether"] / row["prefillAlone"]),
            short(row["decodeTogether"] / row["decodeAlone"]),
        ]
        for row in nexus["rows"]
    ]
    head = ["how", "prefill", "decode", "prefill alone, ms", "together", "decode alone, ms", "together"]
    text = "## Prefill beside decode\n\n" + table([*head, "prefill slower by", "decode slower by"], lines)
    text += f"\n{nexus['units']} SMs, smallest group {nexus['smallestGroup']}. The table of splits took "
    text += f"{1e3 * nexus['openSeconds']:.1f} ms to make"
    if nexus["switchSeconds"] is not None:
        text += f"; a change of split costs {1e6 * nexus['switchSeconds']:.1f} us more than none"
    text += f". {len(nexus['samples'])} samples for the cost model are in gpu-report.json.\n"
    if nexus["whyNoSplit"]:
        text += f"\nNo green contexts: {nexus['whyNoSplit']}.\n"
    if not nexus["complete"]:
        text += "\nTime ran out before the last rows.\n"
    return text


def ptxas_text(kernels):
    lines = [
        [k["name"], k["arch"], *(str(k[key]) for key in ("registers", "warps", "sharedBytes", "spillBytes"))]
        for k in sorted(kernels, key=lambda k: (k["name"], k["arch"]))
    ]
    head = ["kernel", "architecture", "registers", "warps an SM by registers", "shared bytes", "spilled bytes"]
    return "## What ptxas made of them\n\n" + table(head, lines)


def rounded(value):
    return float(f"{value:.4g}")


def row_of(origin, name, value, unit, baseline=None):
    ratio = rounded(value / baseline) if baseline else None
    return {
        "name": name,
        "value": rounded(value),
        "unit": unit,
        "baseline": baseline and rounded(baseline),
        "ratio": ratio,
        **origin,
    }


def kernel_rows(origin, bench, torch):
    rows = []
    for row in bench["rows"]:
        beside = beside_torch(row, torch)
        if beside and beside["speedup"]:
            rows.append(
                row_of(origin, f"{row['name']}, against PyTorch", row["value"], row["unit"], row["value"] / beside["speedup"])
            )
        elif row["ratio"]:
            rows.append(
                row_of(origin, f"{row['name']}, against the copy", row["value"], row["unit"], row["value"] / row["ratio"])
            )
        else:
            rows.append(row_of(origin, row["name"], row["value"], row["unit"]))
    return rows


def lane_rows(origin, nexus):
    rows = []
    for row in nexus["rows"]:
        for lane in ("prefill", "decode"):
            name = f"{row['how']}: {lane} of {row[lane]} beside {row['decode' if lane == 'prefill' else 'prefill']}"
            rows.append(row_of(origin, name, 1e3 * row[f"{lane}Together"], "ms", 1e3 * row[f"{lane}Alone"]))
    return rows


def main():
    work, out, commit = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
    parts = [dict(zip(("name", "status", "seconds"), part.split(":"))) for part in sys.argv[4:]]
    parts = [{"name": p["name"], "status": int(p["status"]), "seconds": int(p["seconds"])} for p in parts]
    bench, torch, nexus, ptxas = (read(work / f"{name}.json") for name in ("bench", "torch", "nexus", "ptxas"))
    tests = counts(work / "ops.log")
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    device = (bench or nexus or {}).get("device", "unknown device")
    report = {
        "command": COMMAND,
        "commit": commit,
        "date": date,
        "device": device,
        "driver": (bench or nexus or {}).get("driver"),
        "parts": parts,
        "tests": tests,
        "bench": bench and bench["rows"],
        "torch": torch,
        "nexus": nexus,
        "ptxas": ptxas,
    }
    machine = f"{device}, driver for CUDA {report['driver'] or 'unknown'}"
    origin = {"command": COMMAND, "commit": commit, "machine": machine, "date": date}
    for name, rows in (
        ("gpu-kernels", bench and kernel_rows(origin, bench, torch)),
        ("gpu-lanes", nexus and lane_rows(origin, nexus)),
    ):
        if rows:
            (out / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
    (out / "gpu-report.json").write_text(json.dumps(report, indent=1) + "\n")
    text = f"# GPU check\n\n{device}, driver for CUDA {report['driver'] or 'unknown'}; `{COMMAND}`, {date}, commit {commit}.\n\n"
    text += table(
        ["part", "result", "seconds"],
        [[p["name"], "passed" if p["status"] == 0 else f"failed ({p['status']})", str(p["seconds"])] for p in parts],
    )
    if tests:
        text += f"\nTests of the kernels on the device: {tests['passed']} passed, {tests['failed']} failed.\n"
    text += "".join(
        "\n" + part
        for part in (
            bench and bench_text(bench, torch),
            nexus and nexus_text(nexus),
            ptxas and ptxas_text(ptxas),
        )
        if part
    )
    (out / "gpu-report.md").write_text(text)
    print(f"\n{out / 'gpu-report.md'}")
    sys.exit(0 if parts and all(part["status"] == 0 for part in parts) else 1)


if __name__ == "__main__":
    main()
