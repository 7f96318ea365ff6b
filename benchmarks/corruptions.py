"""What each corruption costs: CPU milliseconds per picture on one thread, mean over the five severities.

python benchmarks/corruptions.py
"""

import argparse
import time

import torch

from mmfound.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt


def cost_ms(kind: str, image: torch.Tensor, repeats: int) -> float:
    """Mean over severities and repeats, after one call to warm up."""
    corrupt(image, kind, 1)
    start = time.process_time()
    for severity in SEVERITIES:
        for number in range(repeats):
            corrupt(image, kind, severity, number)
    return (time.process_time() - start) * 1e3 / repeats / len(SEVERITIES)


def main() -> None:
    """Print a table with a column per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[224, 112, 28], help="of the pictures, in pixels")
    parser.add_argument("--repeats", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(256, (3, side, side), dtype=torch.uint8, generator=generator) for side in options.sides]
    print("| corruption | " + " | ".join(f"{side} px" for side in options.sides) + " |")
    print("|---" * (len(images) + 1) + "|")
    totals = [0.0] * len(images)
    for kind in CORRUPTIONS:
        costs = [cost_ms(kind, image, options.repeats) for image in images]
        totals = [total + cost for total, cost in zip(totals, costs, strict=True)]
        print(f"| {kind} | " + " | ".join(f"{cost:.1f}" for cost in costs) + " |")
    print("| mean | " + " | ".join(f"{total / len(CORRUPTIONS):.1f}" for total in totals) + " |")


if __name__ == "__main__":
    main()
