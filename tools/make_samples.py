"""Make pairs of recordings for the ears: one recording through our weights and through Opus at like rates.

    python tools/make_samples.py RECORDING -o docs/samples [--model audio-light-speech.v1] [--kbps 6 8 12 16]

For each rate Opus codes first; ours then takes the highest whole quality whose file is no larger than Opus' payload,
which leaves Opus' container out. Writes the recording and both results at each rate as FLAC, 16 bits, and prints a
table in Markdown with the bytes of the payload (Opus) and of the file (ours). Needs the extra ``bench``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from triode.eval.coder import create_coder
from triode.io.audio import read_sound, write_sound


def main() -> None:
    """Code, decode, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder")
    parser.add_argument("--model", default="audio-light-speech.v1")
    parser.add_argument("--kbps", type=int, nargs="+", default=[6, 8, 12, 16])
    a = parser.parse_args()
    sound = read_sound(a.recording)
    seconds = sound.samples.shape[1] / sound.rate
    ours, opus = create_coder(f"triode:model={a.model}", "audio"), create_coder("opus", "audio")
    a.output.mkdir(parents=True, exist_ok=True)
    stem = a.recording.stem
    write_sound(a.output / f"{stem}.flac", sound)
    print(f"| rate asked of Opus | Opus | {a.model} |\n|---|---|---|")
    for kbps in a.kbps:
        data = opus.encode(sound, kbps)
        limit = opus.payload_bytes(data)
        low, high, best = 0, 100, ours.encode(sound, 0)
        while low < high:
            middle = (low + high + 1) // 2
            tried = ours.encode(sound, middle)
            if len(tried) <= limit:
                low, best = middle, tried
            else:
                high = middle - 1
        if len(best) > limit:
            parser.error(f"{a.model} has no quality whose file is as small as {limit} bytes: leave {kbps} kb/s out")
        cells = []
        for name, coder, file, size in (("opus", opus, data, limit), ("triode", ours, best, len(best))):
            target = a.output / f"{stem}-{name}-{kbps}.flac"
            write_sound(target, coder.decode(file))
            rate = f"{size} bytes, {8e-3 * size / seconds:.2f} kb/s" + (f", quality {low}" if coder is ours else "")
            cells.append(f"[{rate}]({a.output.name}/{target.name})")
        print(f"| {kbps} kb/s | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
