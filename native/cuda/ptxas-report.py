#!/usr/bin/env python3
"""What ptxas made of each kernel: registers, shared memory, spills.

    native/cuda/ptxas-report.py BUILD [--json FILE]

Fails if a kernel spills registers or keeps arrays in local memory, unless it stands in `allowed` with the reason; and if
one waits for each of its products on tensor cores before it begins the next, which ptxas says in passing.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys

# Kernel: why it may. A spilled register goes through L1 at every use, which no hot loop can afford.
allowed = {
    "attendTileByMma": "the sums of the run and of those before fill the registers; most of what spills is moved once a run",
    "fillAngles": "the float64 sine of a huge angle keeps its quotient in local memory; once a step, never in decode's loop",
}

# Registers of an SM, the same from 8.0 to 9.0, and the warps it can hold.
registers_per_sm = 65536
warps_per_sm = {"sm_80": 64, "sm_89": 48, "sm_90a": 64}

patterns = {
    "entry": re.compile(r"Compiling entry function '(\w+)' for '(\w+)'"),
    "serialized": re.compile(r"wgmma\.mma_async instructions are serialized.* in the function '(\w+)'"),
    "stack": re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"),
    "used": re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?"),
}


def read_kernels(build):
    kernels = []
    for log in sorted(pathlib.Path(build).rglob("*.cu.o.ptxas")):
        serialized = set(patterns["serialized"].findall(log.read_text()))
        for line in log.read_text().splitlines():
            if entry := patterns["entry"].search(line):
                kernel = {"file": log.name.removesuffix(".o.ptxas"), "name": entry[1], "arch": entry[2]}
                kernel |= {"stackBytes": 0, "spillBytes": 0, "serialized": entry[1] in serialized}
                kernels.append(kernel)
            elif stack := patterns["stack"].search(line):
                # Of the kernel, and of each function that it calls.
                kernels[-1]["stackBytes"] += int(stack[1])
                kernels[-1]["spillBytes"] += int(stack[2]) + int(stack[3])
            elif used := patterns["used"].search(line):
                kernels[-1]["registers"] = int(used[1])
                kernels[-1]["sharedBytes"] = int(used[2] or 0)
    return kernels


def demangle(kernels):
    names = "\n".join(kernel["name"] for kernel in kernels)
    text = subprocess.run(["c++filt"], input=names, capture_output=True, text=True, check=True).stdout
    for kernel, name in zip(kernels, text.splitlines()):
        name = re.sub(r"\((?:anonymous namespace|tandem::PrecisionClass)\)(::)?", "", name)
        name = name.split("(")[0].split(" ")[-1] if "<" not in name else name[: name.rindex(">") + 1]
        kernel["name"] = re.sub(r"\b\w+::", "", name).removeprefix("void ")


def warps(kernel):
    """Warps of an SM at once, as far as registers allow: a warp's are given out in steps of 256."""
    of_warp = (kernel["registers"] * 32 + 255) // 256 * 256
    return min(registers_per_sm // of_warp, warps_per_sm[kernel["arch"]])


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("build")
    arguments.add_argument("--json")
    options = arguments.parse_args()
    kernels = read_kernels(options.build)
    if not kernels:
        sys.exit(f"{options.build} holds no ptxas logs: build the target tandem-cuda there first")
    demangle(kernels)
    failed = []
    print(f"{'kernel':<44} {'arch':<7} {'registers':>9} {'warps':>6} {'shared':>7} {'stack':>6} {'spill':>6}")
    for kernel in sorted(kernels, key=lambda k: (k["file"], k["name"], k["arch"])):
        kernel["warps"] = warps(kernel)
        print(
            f"{kernel['name']:<44} {kernel['arch']:<7} {kernel['registers']:>9} {kernel['warps']:>6} "
            f"{kernel['sharedBytes']:>7} {kernel['stackBytes']:>6} {kernel['spillBytes']:>6}"
        )
        if (kernel["spillBytes"] or kernel["stackBytes"]) and kernel["name"].split("<")[0] not in allowed:
            failed.append(kernel)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(kernels, indent=1) + "\n")
    for kernel in failed:
        print(
            f"{kernel['file']}: {kernel['name']} for {kernel['arch']} has {kernel['spillBytes']} bytes of spills and "
            f"{kernel['stackBytes']} of local memory; give it fewer registers to hold, or allow it with the reason",
            file=sys.stderr,
        )
    serialized = [kernel for kernel in kernels if kernel["serialized"]]
    for kernel in serialized:
        print(
            f"{kernel['file']}: {kernel['name']} waits for each wgmma before it begins the next; keep others' hands off the "
            f"sums from a group's first product until it is waited for (ptxas's log says which rule was broken)",
            file=sys.stderr,
        )
    sys.exit(1 if failed or serialized else 0)


main()
