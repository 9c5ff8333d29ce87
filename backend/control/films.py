"""Control films: what a scene knows exactly, as pictures that video models were trained to be led by.

Every frame is drawn for itself, in ranges that are found once from the whole shot: any part of a film is the same as
in the whole one.

Shape letters: T frames, H W film, S samples along a pixel's side, K keypoints, P people.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..catalogue.control import KINDS
from ..media import InTurn, background_frames
from ..raster.carry import CarriedFilm, Carrier
from ..raster.plate import read_clay, read_plates
from ..shot import (
    BODY_KEYPOINTS,
    KEYPOINT_NAMES,
    LEFT_HAND_KEYPOINTS,
    RIGHT_HAND_KEYPOINTS,
    KeypointState,
    Shot,
    ShotError,
)
from ..shot.cameras import to_camera
from .colours import character_colour, flow_colours
from .drawing import Drawn, Surfaces
from .face import FACE_SIDE, face_boxes, face_film
from .flow import Flow, exact_flow
from .keypoints import Pose2D, character_keypoints, project_pose, project_toes
from .pose_drawing import DWPOSE, PoseStyle, draw_poses

NOTHING = 1e10
"""Metres that an EXR file tells where nothing is, as Blender's own depth pass does."""

_SAMPLES = 2
"""Along a pixel's side, in pictures whose edges are smooth."""
_KEPT = 4
"""Drawn frames that are kept: this one smooth and plain, the one before and the one after."""
_COARSE = 256
"""Pixels of the longer side at which a shot's ranges are found."""
_BEYOND = 2.0
"""How much farther away than the farthest spot black begins, in a shot without a set."""
_TURNS = (100, 200)
"""Canny's thresholds in a picture of normals, those that ControlNet's users know."""
_STEPS = (40, 80)
"""And in a picture of depth: steps of 10 to 20 grey levels from one pixel to the next."""
_HAND_SEEN = 0.25
"""Share of a hand's keypoints that must be seen for the hand to be drawn: a detector finds hands as a whole."""


@dataclass(frozen=True)
class ControlOptions:
    """What can be chosen of control films.

    Attributes:
        depth: grey by ``disparity`` (1 / metres, as Depth-Anything and MiDaS give it) or linear in ``metres``.
        near, far: metres that are white and black; None is the nearest and farthest that the shot shows.
        normals: red and green: ``bae`` (red is left, as ControlNet's Normal BAE) or ``opengl`` (red is right).
        flow: colours are as strong as the motion of the whole ``shot``, or of each ``frame`` (as RAFT's own code).
        longest: pixels of motion in the strongest colour; None goes by ``flow``.
        pose: how poses are drawn.
        characters: names of those shown in silhouettes, masks and poses; empty shows all. Others still hide them.
        invert: exchange black and white of silhouettes and the known mask: white is then what is to be made.
    """

    depth: Literal["disparity", "metres"] = "disparity"
    near: float | None = None
    far: float | None = None
    normals: Literal["bae", "opengl"] = "bae"
    flow: Literal["shot", "frame"] = "shot"
    longest: float | None = None
    pose: PoseStyle = field(default_factory=lambda: DWPOSE)
    characters: tuple[str, ...] = ()
    invert: bool = False


class ControlFilms:
    """The control films of a shot, at the size of its clip.

    Args:
        on_progress: told (frames done, frames) while the shot is looked through for a range, or a whole film is made
            in one go; may raise to stop.

    Attributes:
        notes: sentences for the animator, as they turn up.

    Raises:
        ShotError: nothing is there to be drawn, or a character is not in the shot.
    """

    def __init__(
        self,
        shot: Shot,
        options: ControlOptions | None = None,
        device: torch.device | str = "cpu",
        on_progress: Callable[[int, int], None] = lambda done, frames: None,
    ) -> None:
        self.shot = shot
        self.options = ControlOptions() if options is None else options
        self.notes: list[str] = []
        self._device = torch.device(device)
        self._on_progress = on_progress
        self._kept: OrderedDict[tuple[int, float], Drawn] = OrderedDict()
        names = [character.name for character in shot.characters]
        for name in self.options.characters:
            if name not in names:
                raise ShotError("characters", f"no {name!r}; choose from {', '.join(names) or 'none at all'}")
        near, far = self.options.near, self.options.far
        if (near is not None and near <= 0) or (near is not None and far is not None and far <= near):
            raise ShotError("depth", f"near {near} m, far {far} m: choose near above 0 and far beyond it")
        self._shown = [not self.options.characters or name in self.options.characters for name in names]

    def check(self, kind: str) -> None:
        """Raise ShotError when the shot lacks what a kind is drawn from."""
        shot = self.shot
        if kind not in KINDS:
            raise ShotError("kind", f"no control film {kind!r}; choose from {', '.join(KINDS)}")
        if kind in ("silhouettes", "masks", "pose", "face", "carried", "clay") and not shot.characters:
            raise ShotError("characters", "the shot has none; mark at least one body as a character")
        if kind == "clay" and shot.clay is None:
            raise ShotError(
                "clay",
                "the shot was captured without it; export the film from Blender, or the shot for a model that uses the "
                "light on the bodies (ISA)",
            )
        if kind == "flow" and shot.clip.frames < 2:
            raise ShotError("clip", "it has one frame, so that nothing moves; give it two or more")
        if kind == "known" and not any(c.references for c in shot.characters) and shot.background.kind == "none":
            raise ShotError("background", "neither a background nor looks are in the shot, so that nothing is known")
        if kind == "face" and not np.isfinite(face_boxes(shot.characters[self._first], shot.clip)).any():
            raise ShotError(
                f"characters[{self._first}].keypoints",
                f"no face of {shot.characters[self._first].name} is before the camera; use a body whose bones Maquette "
                "knows (SMPL, Mixamo, Rigify, ...), and send the shot again",
            )
        if kind == "pose":
            _ = self._poses
        elif kind not in ("face", "clay", "carried", "known"):
            _ = self._surfaces

    def size(self, kind: str) -> tuple[int, int]:
        """Width and height of a film: the clip's, but for faces, which are squares of their own."""
        return (FACE_SIDE, FACE_SIDE) if kind == "face" else (self.shot.clip.width, self.shot.clip.height)

    def picture(self, kind: str, frame: int) -> np.ndarray:
        """A frame (H,W,3) uint8 of a film, of its ``size``.

        Raises:
            ShotError: as ``check``. MediaError: a damaged picture.
        """
        draw = {
            "depth": self._depth,
            "normals": self._normals,
            "edges": self._edges,
            "clay": self._clay,
            "silhouettes": self._silhouettes,
            "masks": self._masks,
            "pose": self._pose,
            "face": self._face,
            "flow": self._flow,
            "carried": lambda frame: self._carried[frame].frames[0],
            "known": self._known,
        }
        self.check(kind)
        made = draw[kind](frame)
        if isinstance(made, Tensor):
            made = made.clamp(0, 255).round().to(torch.uint8).cpu().numpy()
        return made if made.ndim == 3 else np.repeat(made[..., None], 3, axis=-1)

    def data(self, kind: str, frame: int) -> np.ndarray:
        """A frame (H,W,3) float32 of what ``KINDS`` calls a kind's data. Raises ShotError for a kind without."""
        self.check(kind)
        drawn = self._drawn(frame)
        if kind == "depth":
            depth = drawn.depth()
            values = torch.where(torch.isfinite(depth), depth, NOTHING)[..., None].expand(-1, -1, 3)
        elif kind == "normals":
            values = drawn.grid(self._opengl(drawn), 0.0)
        elif kind == "flow":
            found = self._flow_from(frame)
            values = torch.cat([found.pixels, found.seen[..., None].float()], dim=-1)
        else:
            names = ", ".join(name for name, each in KINDS.items() if each.data)
            raise ShotError("kind", f"{kind} is a picture, not a quantity; as EXR there are {names}")
        return values.float().cpu().numpy()

    @cached_property
    def depth_range(self) -> tuple[float, float]:
        """Metres that are white and black, for the whole shot."""
        near, far = self.options.near, self.options.far
        if near is None or far is None:
            found = [torch.tensor([torch.inf, 0.0])]
            for frame in range(self.shot.clip.frames):
                depth = self._coarse(frame).raster.depth
                seen = depth[torch.isfinite(depth)]
                if len(seen):
                    found.append(torch.stack([seen.min(), seen.max()]).cpu())
                self._on_progress(frame + 1, self.shot.clip.frames)
            ends = torch.stack(found)
            least, most = float(ends[:, 0].min()), float(ends[:, 1].max())
            near = near or (least if np.isfinite(least) else 1.0)
            # Without a set black begins beyond the characters, or their farthest limb would melt into it.
            far = max(far or most * (1 if self._surfaces.has_set else _BEYOND), near * 1.001)
        if not self._surfaces.has_set:
            self.notes.append("The shot holds no set: depth is that of the characters alone, before black")
        self.notes.append(f"Depth: white is {near:.3f} m, black {far:.3f} m and beyond")
        return near, far

    @cached_property
    def longest_flow(self) -> float:
        """Pixels of the longest motion from one frame to the next in the whole shot."""
        if self.options.longest is not None:
            return self.options.longest
        longest, after = 0.0, self._coarse(0)
        for frame in range(self.shot.clip.frames - 1):
            drawn, after = after, self._coarse(frame + 1)
            scale = self.shot.clip.width / drawn.raster.depth.shape[2]
            longest = max(longest, float(exact_flow(drawn, after).pixels.norm(dim=-1).max()) * scale)
            self._on_progress(frame + 1, self.shot.clip.frames - 1)
        self.notes.append(f"Optical flow: the strongest colour is {longest:.1f} pixels a frame")
        return longest

    # -- geometry ------------------------------------------------------------------------------------------------

    @cached_property
    def _surfaces(self) -> Surfaces:
        surfaces = Surfaces(self.shot, self._device)
        self.notes += surfaces.notes
        return surfaces

    def _drawn(self, frame: int, scale: float = 1.0) -> Drawn:
        """Kinds that are made together share what is drawn."""
        if (frame, scale) not in self._kept:
            self._kept[frame, scale] = self._surfaces.draw(frame, scale)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return self._kept[frame, scale]

    def _coarse(self, frame: int) -> Drawn:
        clip = self.shot.clip
        return self._surfaces.draw(frame, min(1.0, _COARSE / max(clip.width, clip.height)))

    def _depth(self, frame: int) -> Tensor:
        near, far = self.depth_range
        depth = self._drawn(frame, _SAMPLES).depth()
        if self.options.depth == "disparity":
            share = (1 / depth - 1 / far) / (1 / near - 1 / far)
        else:
            share = (far - depth) / (far - near)
        return 255 * _mean(share.clamp(0, 1)[..., None])[..., 0]

    def _normals(self, frame: int) -> Tensor:
        drawn = self._drawn(frame, _SAMPLES)
        normals = self._opengl(drawn)
        if self.options.normals == "bae":
            normals = normals * torch.tensor([-1.0, 1.0, 1.0], device=normals.device)
        # What is infinitely far faces the camera, as detectors take it.
        sky = torch.tensor([0.0, 0.0, 1.0], device=normals.device)
        _, height, width = drawn.raster.depth.shape
        image = sky.repeat(height * width, 1)
        image[drawn.raster.index] = normals
        mean = F.normalize(_mean(image.view(height, width, 3)), dim=-1)
        return 255 * (mean + 1) / 2

    def _edges(self, frame: int) -> np.ndarray:
        """White lines of a pixel: where surfaces turn, and where one begins before another that faces the same way."""
        turns = cv2.Canny(self.picture("normals", frame), *_TURNS)
        return np.maximum(turns, cv2.Canny(self.picture("depth", frame), *_STEPS))

    def _opengl(self, drawn: Drawn) -> Tensor:
        """Normals (P,3): right, up, towards the camera."""
        return self._surfaces.normals(drawn) * torch.tensor([1.0, -1.0, -1.0], device=self._device)

    def _silhouettes(self, frame: int) -> Tensor:
        drawn = self._drawn(frame, _SAMPLES)
        shown = torch.tensor([*self._shown, False], device=self._device)[drawn.owner]
        cover = (255 * _mean(drawn.grid(shown[:, None].float(), 0.0))[..., 0]).round()
        return 255 - cover if self.options.invert else cover

    def _masks(self, frame: int) -> Tensor:
        drawn = self._drawn(frame)
        palette = [character_colour(i) if shown else (0, 0, 0) for i, shown in enumerate(self._shown)]
        return drawn.grid(torch.tensor([*palette, (0, 0, 0)], device=self._device).float()[drawn.owner], 0.0)

    def _flow_from(self, frame: int) -> Flow:
        """Motion from a frame to the next; none after the last."""
        drawn = self._drawn(frame)
        if frame + 1 < self.shot.clip.frames:
            return exact_flow(drawn, self._drawn(frame + 1))
        nowhere = torch.zeros(*drawn.raster.depth.shape[1:], 2, device=self._device)
        return Flow(nowhere, nowhere[..., 0] > 0)

    def _flow(self, frame: int) -> Tensor:
        found = self._flow_from(max(frame - 1, 0)).pixels
        longest = self.longest_flow if self.options.flow == "shot" else float(found.norm(dim=-1).max())
        return flow_colours(found, longest)

    # -- poses ---------------------------------------------------------------------------------------------------

    @cached_property
    def _poses(self) -> list[tuple[Pose2D, np.ndarray, np.ndarray]]:
        """Of each character that is shown its pose, (T,) how far away it is, and (T,2,2) its toes."""
        clip, poses = self.shot.clip, []
        for i, character in enumerate(self.shot.characters):
            if not self._shown[i]:
                continue
            keypoints, notes = character_keypoints(character, f"characters[{i}]")
            self.notes += notes
            pose = project_pose(keypoints, clip.viewmats, clip.Ks, (0, 0, clip.width, clip.height))
            confidence = pose.confidence.copy()
            for hand in (LEFT_HAND_KEYPOINTS, RIGHT_HAND_KEYPOINTS):
                seen = (keypoints.state[:, hand] == KeypointState.VISIBLE).mean(axis=1)
                confidence[seen < _HAND_SEEN, hand] = 0
            points = np.where(confidence[..., None] > 0, pose.points, -1.0)
            away = to_camera(keypoints.points[:, BODY_KEYPOINTS].astype(np.float64), clip.viewmats)[..., 2]
            there = keypoints.state[:, BODY_KEYPOINTS] != KeypointState.ABSENT
            distance = (away * there).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
            toes = project_toes(character, clip)
            poses.append((Pose2D(points, confidence), distance, toes))
        return poses

    def _pose(self, frame: int) -> np.ndarray:
        clip = self.shot.clip
        # The nearest person is drawn last, over those behind.
        order = sorted(self._poses, key=lambda each: -each[1][frame])
        points = np.array([pose.points[frame] for pose, _, _ in order]).reshape(-1, len(KEYPOINT_NAMES), 2)
        confidence = np.array([pose.confidence[frame] for pose, _, _ in order]).reshape(-1, len(KEYPOINT_NAMES))
        toes = np.array([toes[frame] for _, _, toes in order]).reshape(-1, 2, 2)
        return draw_poses(points, confidence, clip.width, clip.height, self.options.pose, toes)

    @property
    def _first(self) -> int:
        """The first character that is shown."""
        return self._shown.index(True)

    @cached_property
    def _faces(self) -> np.ndarray:
        if sum(self._shown) > 1:
            self.notes.append(f"Face: that of {self.shot.characters[self._first].name}; choose a character for another")
        return face_film(self.shot, FACE_SIDE, self._first, self._device, self._on_progress)

    def _face(self, frame: int) -> np.ndarray:
        return self._faces[frame]

    # -- pictures of the shot ------------------------------------------------------------------------------------

    @cached_property
    def _plates(self) -> InTurn[Tensor]:
        clip = self.shot.clip

        def begin(first: int) -> Iterator[Tensor]:
            each = [range(frame, frame + 1) for frame in range(first, clip.frames)]
            return read_plates(self.shot, clip.width, clip.height, self._device, each)

        return InTurn(begin)

    def _clay(self, frame: int) -> Tensor:
        clip, clay = self.shot.clip, self.shot.clay
        film = read_clay(self.shot, clip.width, clip.height, self._device, range(frame, frame + 1))
        assert film is not None and clay is not None
        if clay.surroundings:
            return film[0, ..., :3]
        return torch.lerp(self._plates[frame][0], film[0, ..., :3], film[0, ..., 3:] / 255)

    @cached_property
    def _carrier(self) -> Carrier:
        carrier = Carrier(self.shot, self.shot.clip.width, self.shot.clip.height, self._device)
        self.notes += carrier.notes
        return carrier

    @cached_property
    def _carried(self) -> InTurn[CarriedFilm]:
        """The carried film frame by frame."""
        frames = self.shot.clip.frames
        return InTurn(
            lambda first: (
                part.cut(slice(i, i + 1))
                for part in self._carrier.parts(only=range(first, frames))
                for i in range(len(part.frames))
            )
        )

    @cached_property
    def _behind(self) -> bool:
        """Whether the background is known."""
        return background_frames(self.shot, 16, 16, 1) is not None

    def _known(self, frame: int) -> Tensor:
        known = torch.as_tensor(self._carried[frame].known[0])
        if self._behind:
            drawn = self._drawn(frame, _SAMPLES)
            cover = _mean(drawn.grid((drawn.owner >= 0)[:, None].float(), 0.0))[..., 0]
            known = (known + 1 - cover.cpu()).clamp(max=1)
        return 255 * (1 - known if self.options.invert else known)


def _mean(grid: Tensor) -> Tensor:
    """Mean of each pixel's samples: (S H, S W, D) to (H,W,D)."""
    height, width, depth = grid.shape
    grid = grid.view(height // _SAMPLES, _SAMPLES, width // _SAMPLES, _SAMPLES, depth)
    return grid.mean(dim=(1, 3))
