"""The work of benches/attention.rs in PyTorch, for comparing by ratio:

    python benches/pytorch/attention.py
"""

import sys
import time
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "fixtures"))
from ch04_attention import fused_attention, scaled_dot_product_attention

HEADS, THREADS = 4, 2
POINTS = [(length, 64) for length in (64, 128, 256, 512, 1024, 2048)] + [(512, width) for width in (16, 32, 64, 128)]


def median_ms(function, *inputs):
    """The median time of a call over 1.5 s, after half a second to warm up."""
    times = []
    start = time.perf_counter()
    while (now := time.perf_counter()) < start + 2.0 or len(times) < 10:
        function(*inputs)
        if now > start + 0.5:
            times.append(time.perf_counter() - now)
    return 1e3 * median(times)


@torch.no_grad()
def main():
    torch.set_num_threads(THREADS)
    print(f"PyTorch {torch.__version__}, {THREADS} threads, {HEADS} heads, float32: median of a call in ms")
    print(f"{'T':>6}{'D':>6}{'explicit':>12}{'fused':>12}")
    for length, width in POINTS:
        inputs = [torch.randn(1, HEADS, length, width) for _ in range(3)]
        explicit, fused = (median_ms(f, *inputs) for f in (scaled_dot_product_attention, fused_attention))
        print(f"{length:>6}{width:>6}{explicit:>12.3f}{fused:>12.3f}")


if __name__ == "__main__":
    main()
