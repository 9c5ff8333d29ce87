"""Hold the demo's video against the body as Blender renders it; write ``metrics.json`` and ``sheet.png``.

Runs in the backend's environment.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from maquette.backend.evaluation.silhouette import psnr, silhouette_iou
from maquette.backend.media import contact_sheet, decode_video, encode_png, overlay, read_mp4_metadata, resize_frames
from PIL import Image

HERE = Path(__file__).resolve().parent
WORK = HERE / "work"


def pictures(kind: str, mode: str) -> np.ndarray:
    """The demo's rendered pictures of one kind, (T,H,W[,3])."""
    return np.stack([np.asarray(Image.open(path).convert(mode)) for path in sorted((WORK / kind).glob("*.png"))])


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
    metrics = {
        "silhouette_iou": round(silhouette_iou(generated, masks, background), 4),
        "silhouette_iou_of_the_render_itself": round(silhouette_iou(rendered, masks, background), 4),
        "psnr_db": round(psnr(generated, rendered), 2),
        "psnr_body_db": round(psnr(generated, rendered, masks), 2),
        "psnr_background_db": round(psnr(generated, rendered, ~masks), 2),
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
        (f"overlay: the body's outline, IoU {metrics['silhouette_iou']:.2f}", overlay(generated, masks)),
    ]
    (HERE / "sheet.png").write_bytes(encode_png(contact_sheet(rows, columns=9, tile_height=192)).data)


if __name__ == "__main__":
    main()
