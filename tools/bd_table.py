"""Print BD-rates of a bench's results in any of its metrics.

python tools/bd_table.py results/image/kodak-variants.json --metric ms-ssim-db --test image-light-ms-ssim.v1
"""

from __future__ import annotations

import argparse
from pathlib import Path

from triode.eval.results import Results
from triode.eval.tables import bd_markdown


def main() -> None:
    """Read and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--metric", help="default: the main one")
    parser.add_argument("--test", help="codec that is compared with all others; default: the first of ours")
    a = parser.parse_args()
    print(bd_markdown(Results.load(a.results), a.metric, a.test))


if __name__ == "__main__":
    main()
