"""Matrix products of PyTorch at the shapes of the gemm benchmark."""

from common import row, task, time_runs
import torch


def main():
    given = task()
    device = given["device"]
    for m, k, n in given["shapes"]:
        for variant, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            x = torch.randn(m, k, device=device, dtype=dtype)
            w = torch.randn(k, n, device=device, dtype=dtype)
            y = torch.empty(m, n, device=device, dtype=dtype)
            seconds = time_runs(given["runs"], lambda _, x=x, w=w, y=y: torch.mm(x, w, out=y), device, warmup=4)
            row(f"{m}×{k}×{n}", "product", "GFLOP/s", [2 * m * k * n / s / 1e9 for s in seconds], variant)


main()
