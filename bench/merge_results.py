# SPDX-License-Identifier: MIT
"""merge_results.py OUT COMMAND PART...: one JSON file of several, with command, commit and machine."""
import ctypes
import json
import os
import subprocess
import sys


def ask(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def cuda_version():
    version = ctypes.c_int()
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except OSError:
        return "none"
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def machine():
    gpu = ask("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    name, _, driver = gpu.partition(", ")
    return {"gpu": name, "driver": driver, "cuda": cuda_version(),
            "cores": len(os.sched_getaffinity(0))}


def main():
    out, command, *parts = sys.argv[1:]
    result = {
        "command": command,
        "commit": os.environ.get("MILLRACE_COMMIT") or ask("git", "rev-parse", "HEAD"),
        "machine": machine(),
        "parts": [json.load(open(part, encoding="utf-8")) for part in parts],
    }
    with open(out, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")


main()
