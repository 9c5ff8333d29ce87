"""Hold the demo's video against the scene as Blender renders it; write ``metrics.json`` and ``sheet.png``.

The measures are those of ``maquette evaluate``. Runs in the backend's environment.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from maquette.backend.evaluation.backbones import backbones_home, find_backbones
from maquette.backend.evaluation.from_shot import as_sample
from maquette.backend.evaluation.measures import MEASURES, camera_moves, measure
from maquette.backend.media import contact_sheet, decode_video, encode_png, overlay, read_mp4_metadata, resize_frames
from maquette.backend.shot import load_shot
from maquette.backend.worlds.sample import Sample
from PIL import Image

HERE = Path(__file__).resolve().parent
WORK = HERE / "work"


def pictures(kind: str, mode: str) -> np.ndarray:
    """The demo's rendered pictures of one kind, (T,H,W[,3])."""
    return np.stack([np.asarray(Image.open(path).convert(mode)) for path in sorted((WORK / kind).glob("*.png"))])


def measures(generated: np.ndarray, sample: Sample) -> dict[str, dict]:
    """Every measure of the video and of the render itself, which is the best that each can be."""
    backbones = find_backbones(backbones_home())
    lpips = None if backbones.lpips is None else backbones.lpips.films
    video, render = (measure(film, sample, lpips) for film in (generated, sample.video))
    found = {}
    for one in MEASURES:
        figures = {key: _plain(values[one.name]) for key, values in (("video", video), ("render", render))}
        about = one.about
        if figures["video"] is None:
            about = f"not measured: {_why(one.name, sample, backbones.absent)}"
        found[one.name] = {**figures, "unit": one.unit, "about": about}
    return found


def _why(name: str, sample: Sample, absent: tuple[str, ...]) -> str:
    if name == "lpips" and absent:
        said = [text.removeprefix("LPIPS: ") for text in absent if text.startswith("LPIPS")]
        return said[0] if said else "the film is too small"
    if name.startswith("swapped") and len(sample.points) < 2:
        return "there is one character"
    if name == "psnr_background" and not camera_moves(sample):
        return "the camera stands still"
    if name == "window_seam":
        return "it was made in one window"
    return "too little of it is in the picture"


def _plain(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def main() -> None:
    """Measure and draw."""
    rendered, background = pictures("rendered", "RGB"), pictures("background", "RGB")
    masks = np.stack([np.asarray(Image.open(p).getchannel("A")) for p in sorted((WORK / "mask").glob("*.png"))]) > 127
    height, width = masks.shape[1:]
    generated, fps = decode_video(HERE / "shot.mp4")
    generated = resize_frames(generated, width, height)
    if len(generated) != len(masks):
        raise SystemExit(f"the video has {len(generated)} frames, the shot {len(masks)}")
    metadata = read_mp4_metadata(HERE / "shot.mp4")
    sample = as_sample(load_shot(WORK / "demo.shot"), rendered, background, masks)
    metrics = {
        "measures": measures(generated, sample),
        "body_covers": round(float(masks.mean()), 4),
        "frames": len(generated),
        "width": width,
        "height": height,
        "fps": round(fps, 3),
        "model": metadata.get("model"),
        "seed": metadata.get("seed"),
        "steps": metadata.get("steps"),
        "guidance": metadata.get("guidance"),
        **json.loads((WORK / "timing.json").read_text()),
    }
    (HERE / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    rows = [
        ("body as rendered in Blender", rendered),
        (f"generated, {metadata.get('model')}", generated),
        (
            f"overlay: the body's outline, IoU {metrics['measures']['iou']['video']:.2f}",
            overlay(generated, masks),
        ),
    ]
    (HERE / "sheet.png").write_bytes(encode_png(contact_sheet(rows, columns=5, tile_height=224)).data)


if __name__ == "__main__":
    main()
