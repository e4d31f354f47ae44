"""What all peers share: the task they are given, threads, clocks, and rows of results on standard output.

A peer is started with one argument, a JSON file. It prints one JSON object a line: {"versions": {...}} and
{"row": {"case", "metric", "unit", "samples", "variant"}}. Lines on standard error that start with "peer: " are progress.
"""

import json
import platform
import sys
import time
from contextlib import nullcontext

try:
    import torch
except ImportError as error:
    sys.exit(f"PyTorch cannot be imported by {sys.executable}: {error}. Install torch (and transformers, bert-score) there.")


def need(module, package=None):
    """The module, or an exit that says what to install."""
    try:
        return __import__(module)
    except ImportError as error:
        sys.exit(f"{package or module} cannot be imported by {sys.executable}: {error}")


def task():
    """The task, after threads and seed were set. Says which versions are used."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} TASK.json (`npm run bench -- --peers PYTHON` writes it)")
    with open(sys.argv[1], encoding="utf-8") as file:
        given = json.load(file)
    torch.set_num_threads(given["threads"])
    torch.manual_seed(1)
    if given["device"] == "cuda" and not torch.cuda.is_available():
        sys.exit("PyTorch sees no CUDA device")
    if given["device"] == "webgpu":
        sys.exit("PyTorch has no WebGPU; run the peers with --device cpu or cuda")
    print_json({"versions": {"python": platform.python_version(), "torch": torch.__version__}})
    return given


def use_transformers():
    """The transformers package, quiet, with its version said."""
    transformers = need("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print_json({"versions": {"transformers": transformers.__version__}})
    return transformers


def print_json(value):
    print(json.dumps(value), flush=True)


def row(case, metric, unit, samples, variant):
    """One row of results."""
    print_json({"row": {"case": case, "metric": metric, "unit": unit, "samples": list(samples), "variant": variant}})


def say(text):
    """Progress."""
    print(f"peer: {text}", file=sys.stderr, flush=True)


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def time_runs(runs, work, device="cpu", warmup=1):
    """Wall seconds of each counted run; `work` is given the number of the run, below 0 for a warm-up."""
    seconds = []
    for run in range(-warmup, runs):
        synchronize(device)
        started = time.perf_counter()
        work(run)
        synchronize(device)
        if run >= 0:
            seconds.append(time.perf_counter() - started)
    return seconds


def autocast(variant, device):
    """bfloat16 autocast, or nothing."""
    if variant == "bf16":
        return torch.autocast(device, dtype=torch.bfloat16)
    return nullcontext()


def reset_peak_memory():
    """Starts to watch the peak memory anew (Linux)."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        pass


def peak_memory_mib():
    """Most resident memory since then."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
