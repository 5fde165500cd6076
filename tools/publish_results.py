"""Copy the results of a bench into the repository, without the paths of samples, which stay behind.

python tools/publish_results.py OUT/results.json results/image/kodak.json
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from triode.eval.results import Results


def main() -> None:
    """Read, drop the samples, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    a = parser.parse_args()
    results = Results.load(a.source)
    measurements = tuple(replace(m, sample=None) for m in results.measurements)
    replace(results, measurements=measurements, samples={}).save(a.target)
    print(f"{a.target}: {len(measurements)} measurements")


if __name__ == "__main__":
    main()
