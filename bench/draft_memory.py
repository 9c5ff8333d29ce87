"""What a draft takes of main memory: the slope of its peak by frames, against that of all maps kept in memory.

Each figure is of a process of its own. The slope is told in bytes a frame's pixel, from one run through a shot to
three, so that what is drawn stays alike; what is left of a draft's is the allocator's.

python bench/draft_memory.py [--frames 48] [--width 640] [--height 384]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

WAYS = ("drawn while written", "all maps")


def main() -> int:
    """Returns 1 where a draft's slope is more than half of that of all maps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("frames", 32), ("width", 640), ("height", 384)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(peak(Path(args.one[0]), args.one[1], int(args.one[2]), args.width, args.height))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        slopes = {}
        shot = make(Path(folder), args.frames)
        for way in WAYS:
            size = ("--width", str(args.width), "--height", str(args.height))
            words = [[sys.executable, __file__, *size, "--one", str(shot), way, runs] for runs in "13"]
            peaks = [int(subprocess.run(each, check=True, capture_output=True, text=True).stdout) for each in words]
            slopes[way] = (peaks[1] - peaks[0]) / (2 * args.frames * args.width * args.height)
            print(f"{way}: {peaks[0] / 1e9:.2f} and {peaks[1] / 1e9:.2f} GB, {slopes[way]:.1f} bytes a frame's pixel")
    print(f"ratio of the slopes: {slopes[WAYS[0]] / slopes[WAYS[1]]:.3f}")
    return int(slopes[WAYS[0]] > slopes[WAYS[1]] / 2)


def make(folder: Path, frames: int) -> Path:
    """A shot of so many frames."""
    from maquette.backend.shot import save_shot
    from maquette.backend.worlds.sample import make_sample, to_shot

    path = folder / f"{frames}.shot"
    save_shot(to_shot(make_sample(3, frames, (160, 96), characters=1)), path)
    return path


def peak(path: Path, way: str, runs: int, width: int, height: int) -> int:
    """Bytes that this process has taken at most once the film is drawn so many times."""
    from maquette.backend.media import mp4_writer
    from maquette.backend.raster.carry import Carrier
    from maquette.backend.shot import load_shot

    shot = load_shot(path)
    carrier = Carrier(shot, width, height)
    kept = [carrier.film() for _ in range(runs)] if way == WAYS[1] else []
    with mp4_writer(path.with_suffix(".mp4"), width, height, shot.clip.fps) as write:
        for run in range(runs):
            for frame in kept[run].frames if kept else carrier.frames():
                write(frame)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(main())
