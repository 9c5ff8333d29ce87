"""Body parameters as datasets and trackers write them, all made from one walk whose truth is known."""

from __future__ import annotations

import io
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from maquette.backend.bodies.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from maquette.backend.motions import BodyMotion, MotionError, load_motion, to_body, to_smpl24
from maquette.backend.motions.families import PELVIS_REST
from maquette.backend.motions.reading import read_data
from maquette.backend.motions.torch_file import STREAM
from maquette.backend.motions.trackers import find_bodies
from maquette.backend.motions.upright import AXES, turn_to_z


def smpl_record(
    walk: BodyMotion, turn: np.ndarray | None = None, family: str = "smpl"
) -> tuple[np.ndarray, np.ndarray]:
    """The walk as an SMPL file has it: (T,24,3) and trans, world Z up turned by ``turn`` to the file's axes."""
    turn = np.eye(3) if turn is None else turn
    poses = walk.poses.astype(float).copy()
    poses[:, 0] = matrix_to_axis_angle(turn @ axis_angle_to_matrix(poses[:, 0]))
    pelvis = np.array(PELVIS_REST[family])
    trans = walk.trans @ turn.T - pelvis  # the embedded body's pelvis rests at the origin
    return poses, trans


def same_walk(motion: BodyMotion, walk: BodyMotion, joints: int = 22, metres: float = 2e-3) -> None:
    got = axis_angle_to_matrix(motion.poses[:, :joints].astype(float))
    np.testing.assert_allclose(got, axis_angle_to_matrix(walk.poses[:, :joints].astype(float)), atol=2e-4)
    pelvis = motion.trans + PELVIS_REST[motion.family]
    moved = (pelvis - pelvis[0]) - (walk.trans - walk.trans[0])
    assert np.abs(moved).max() < metres


@pytest.mark.parametrize("rate_key", ["mocap_framerate", "mocap_frame_rate", "fps"])
@pytest.mark.parametrize(("joints", "family"), [(24, "smpl"), (52, "smplh"), (55, "smplx"), (75, "supr")])
def test_amass_npz(tmp_path: Path, walk: BodyMotion, joints: int, family: str, rate_key: str) -> None:
    poses, trans = smpl_record(walk, family=family)
    wide = np.zeros((walk.frames, joints, 3))
    wide[:, :22] = poses[:, :22]
    path = tmp_path / "stageii.npz"
    rate = {rate_key: np.array(30.0)}
    np.savez(
        path, poses=wide.reshape(len(wide), -1), trans=trans, betas=np.zeros(16), gender=np.array("female"), **rate
    )
    motion = load_motion(path, up="Z" if rate_key == "fps" else None)
    assert (motion.family, motion.gender, motion.fps) == (family, "female", 30.0)
    assert motion.betas is not None and motion.betas.shape == (16,)
    same_walk(motion, walk)


@pytest.mark.parametrize("axis", AXES)
def test_any_up_axis_is_found_and_turned(tmp_path: Path, walk: BodyMotion, axis: str) -> None:
    poses, trans = smpl_record(walk, turn_to_z(axis).T)
    path = tmp_path / "turned.npz"
    np.savez(path, poses=poses.reshape(len(poses), -1), trans=trans)
    motion = load_motion(path)
    assert any(f"up axis {axis} detected" in note for note in motion.notes)
    assert any("no frame rate" in note for note in motion.notes) and motion.fps == 30
    same_walk(motion, walk)


def test_a_sleeper_in_a_dataset_is_not_stood_up(tmp_path: Path) -> None:
    # With no rotation at all the canonical frame is the world: head along +Y, face up, on the floor z = 0.
    lying = np.tile([0.0, 0.0, 0.12], (40, 1)) - PELVIS_REST["smpl"]
    path = tmp_path / "sleep.npz"
    np.savez(path, poses=np.zeros((40, 72)), trans=lying, mocap_framerate=120)
    motion = load_motion(path)
    assert any("up axis Z detected" in note for note in motion.notes)
    # The same without a dataset's rate is someone standing in a file whose Y is up.
    np.savez(path, poses=np.zeros((40, 72)), trans=lying)
    assert any("up axis Y detected" in note for note in load_motion(path).notes)


def test_fps_argument_wins_and_is_noted(tmp_path: Path, walk: BodyMotion) -> None:
    poses, trans = smpl_record(walk)
    path = tmp_path / "walk.npz"
    np.savez(path, poses=poses.reshape(len(poses), -1), trans=trans, mocap_framerate=120.0)
    motion = load_motion(path, fps=60)
    assert motion.fps == 60 and any("60 fps as given, instead of the file's 120" in n for n in motion.notes)


def layouts(walk: BodyMotion) -> dict[str, tuple[object, str]]:
    """Tracker layouts by name, with what their up axis is."""
    down, y_up = turn_to_z("-Y").T, turn_to_z("Y").T
    poses, trans = smpl_record(walk, down)
    world, world_trans = smpl_record(walk, y_up)
    xworld, xworld_trans = smpl_record(walk, y_up, "smplx")
    matrices = axis_angle_to_matrix(poses)
    count, flat = len(poses), poses.reshape(len(poses), -1)
    return {
        "smplx package": (
            {"global_orient": flat[:, :3], "body_pose": flat[:, 3:], "transl": trans, "betas": np.zeros(10)}, "-Y"),
        "matrices": ({"global_orient": matrices[:, :1], "body_pose": matrices[:, 1:], "transl": trans[:, None]}, "-Y"),
        "rotmat (T,3,3) root": ({"global_orient": matrices[:, 0], "body_pose": matrices[:, 1:], "transl": trans}, "-Y"),
        "wham": (
            {0: {"pose": flat, "trans": trans, "pose_world": world.reshape(count, -1), "trans_world": world_trans,
                 "betas": np.zeros((count, 10)), "frame_ids": np.arange(count)}}, "Y"),
        "gvhmr": (
            {"smpl_params_global": {"body_pose": xworld[:, 1:22].reshape(count, 63), "global_orient": xworld[:, 0],
                                    "transl": xworld_trans, "betas": np.zeros((count, 10))},
             "smpl_params_incam": {"body_pose": flat[:, 3:66], "global_orient": flat[:, :3], "transl": trans}}, "Y"),
        "frames": ([{"global_orient": p[:1].copy(), "body_pose": p[1:].reshape(1, -1), "transl": t[None]}
                    for p, t in zip(poses, trans, strict=True)], "-Y"),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["smplx package", "matrices", "rotmat (T,3,3) root", "wham", "gvhmr", "frames"])
def test_tracker_pickles(tmp_path: Path, walk: BodyMotion, name: str) -> None:
    data, axis = layouts(walk)[name]
    path = tmp_path / "track.pkl"
    path.write_bytes(pickle.dumps(data))
    motion = load_motion(path, level=False)
    assert any(f"up axis {axis} detected" in note for note in motion.notes), motion.notes
    assert motion.family == ("smplx" if name == "gvhmr" else "smpl")
    same_walk(motion, walk)


def phalp(walk: BodyMotion) -> dict:
    """Two people over time; the second is missing from some frames, and one frame shows nobody."""
    poses, trans = smpl_record(walk, turn_to_z("-Y").T)
    matrices = axis_angle_to_matrix(poses)
    out = {}
    for t in range(walk.frames):
        bodies = [{"global_orient": matrices[t, :1], "body_pose": matrices[t, 1:], "betas": np.zeros(10)}]
        ids, cameras = [4], [trans[t]]
        if t % 5:
            bodies.append({**bodies[0], "global_orient": np.eye(3)[None] * [[1], [-1], [-1]]})
            ids, cameras = [4, 9], [trans[t], trans[t] + 1]
        if t == 7:
            bodies, ids, cameras = [], [], []
        out[f"outputs/frames/{t + 1:06d}.jpg"] = {"tid": ids, "smpl": bodies, "camera": cameras, "time": t}
    return out


def test_phalp_by_track(tmp_path: Path, walk: BodyMotion) -> None:
    path = tmp_path / "demo.pkl"
    path.write_bytes(pickle.dumps(phalp(walk)))
    first = load_motion(path, clip=0, level=False)
    assert first.frames == walk.frames
    assert any("holds 2 clips or persons; this is number 0 (track 4)" in n for n in first.notes)
    assert any("1 frames in which the tracker lost this person" in n for n in first.notes)
    kept = [t for t in range(walk.frames) if t != 7]
    got = axis_angle_to_matrix(first.poses[kept, 1:22].astype(float))
    np.testing.assert_allclose(got, axis_angle_to_matrix(walk.poses[kept, 1:22].astype(float)), atol=2e-4)
    with pytest.raises(MotionError, match="clip: 2 does not exist: the file holds 2 clips, 0 to 1"):
        load_motion(path, clip=2)


def test_slahmr_stacks_people(tmp_path: Path, walk: BodyMotion) -> None:
    poses, trans = smpl_record(walk, turn_to_z("-Y").T, "smplh")
    both = np.stack([poses, poses[::-1]])
    shown = np.ones((2, walk.frames))
    shown[1, :10] = 0
    path = tmp_path / "world_results.npz"
    np.savez(path, root_orient=both[:, :, 0], pose_body=both[:, :, 1:22].reshape(2, walk.frames, 63),
             trans=np.stack([trans, trans[::-1]]), betas=np.zeros((2, 16)), track_mask=shown)  # fmt: skip
    same_walk(load_motion(path, level=False), walk)
    second = load_motion(path, clip=1, level=False)
    assert second.family == "smplh" and second.frames == walk.frames - 10


def test_torch_file_without_torch(tmp_path: Path, walk: BodyMotion) -> None:
    torch = pytest.importorskip("torch", reason="writing a .pt needs torch, which Blender's environment lacks")
    data, _ = layouts(walk)["gvhmr"]
    tensors = {k: {n: torch.tensor(v) for n, v in part.items()} for k, part in data.items()}  # type: ignore[union-attr]
    path = tmp_path / "hmr4d_results.pt"
    torch.save({**tensors, "K_fullimg": torch.eye(3).expand(walk.frames, 3, 3)}, path)
    same_walk(load_motion(path), walk)


@pytest.mark.parametrize("how", ["bare", "list", "parameter", "stream", "pickle", "bfloat16"])
def test_tensors_are_read_however_they_are_saved(tmp_path: Path, walk_joints, how: str) -> None:
    torch = pytest.importorskip("torch", reason="writing a .pt needs torch, which Blender's environment lacks")
    joints = torch.tensor(walk_joints[:8], dtype=torch.float32)
    path = tmp_path / "joints.pt"
    if how == "pickle":
        path.write_bytes(pickle.dumps({"joints": joints, "spare": joints[1:, :2]}))
    else:
        data = {"list": [joints, joints + 1], "parameter": torch.nn.Parameter(joints),
                "bfloat16": {"joints": joints.bfloat16()}}.get(how, joints)  # fmt: skip
        torch.save(data, path, _use_new_zipfile_serialization=how != "stream")
    found = find_bodies(read_data(path)[1])
    assert len(found) == (2 if how == "list" else 1)
    np.testing.assert_allclose(found[0].record["joints"], joints, atol=0.02 if how == "bfloat16" else 1e-6)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(MotionError, match="damaged|cut short|truncated"):
        read_data(path)


@pytest.mark.parametrize(
    ("data", "clips", "field"),
    [
        (lambda p, j: p.reshape(-1, 72), 1, "poses"),
        (lambda p, j: p.reshape(1, -1, 72)[..., :66], 1, "poses"),
        (lambda p, j: np.stack([p.reshape(-1, 72)] * 2), 2, "poses"),
        (lambda p, j: axis_angle_to_matrix(p), 1, "poses"),
        (lambda p, j: np.pad(p.reshape(-1, 72)[:, :66], ((0, 0), (0, 90))), 1, "poses"),
        (lambda p, j: np.pad(p.reshape(-1, 72)[:, :66], ((0, 0), (0, 256))), 1, "pose_body"),
        (lambda p, j: [j.tolist(), j[1:].tolist()], 2, "joints"),
        (lambda p, j: list(j), 1, "joints"),
        (lambda p, j: [{"keypoints3d": frame} for frame in j], 1, "joints"),
        (lambda p, j: {i: frame for i, frame in enumerate(j)}, 1, "joints"),
        (lambda p, j: {"person0": p.reshape(-1, 72), "person1": p.reshape(-1, 72)}, 2, "poses"),
        (lambda p, j: {"person0": j, "person1": j[1:]}, 2, "joints"),
        *[(lambda p, j, key=key: {key: j, "name": "x", "points": np.ones((8, 24, 3))}, 1, "joints")
          for key in ("arr_0", "data", "keypoints_3d", "kp3d", "pred_xyz", "global_positions")],
        (lambda p, j: np.swapaxes(np.stack([j, j + 1]), 0, 1), 2, "joints"),
    ],
)  # fmt: skip
def test_arrays_without_telling_names(walk, walk_joints, data, clips: int, field: str) -> None:
    found = find_bodies(data(walk.poses[:8].astype(float), walk_joints[:8]))
    assert len(found) == clips
    assert all(field in one.record and one.joints == (field == "joints") for one in found)
    assert len(np.squeeze(found[0].record[field])) == 8


@pytest.mark.parametrize(
    ("shape", "words"), [((9, 251), "KIT"), ((9, 24, 6), "six numbers"), ((9, 24, 4), "quaternions"), ((9, 69), "root")]
)
def test_arrays_of_other_kinds_are_called_so(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(MotionError, match=words):
        find_bodies(np.ones(shape))


def test_level_takes_the_camera_tilt_out(tmp_path: Path, walk: BodyMotion) -> None:
    tilt = axis_angle_to_matrix(np.array([np.radians(20.0), 0, 0]))
    poses, trans = smpl_record(walk, tilt @ turn_to_z("-Y").T)
    path = tmp_path / "tilted.npz"
    np.savez(path, poses=poses.reshape(len(poses), -1), trans=trans)
    motion = load_motion(path)
    note = next(n for n in motion.notes if "camera's tilt" in n)
    assert 16 <= int(note.split("tilt of ")[1].split()[0]) <= 24
    assert not any("tilt" in n for n in load_motion(path, level=False).notes)


def test_hands_stay_for_families_that_have_them(tmp_path: Path, walk: BodyMotion) -> None:
    poses, trans = smpl_record(walk, family="smplx")
    fingers = np.random.default_rng(0).uniform(-0.5, 0.5, (walk.frames, 30, 3))
    path = tmp_path / "smplx.npz"
    np.savez(path, root_orient=poses[:, 0], pose_body=poses[:, 1:22].reshape(-1, 63), trans=trans,
             pose_hand=fingers.reshape(-1, 90), pose_jaw=np.full((walk.frames, 3), 0.1),
             pose_eye=np.zeros((walk.frames, 6)), surface_model_type="smplx", mocap_frame_rate=30.0)  # fmt: skip
    motion = load_motion(path)
    assert motion.family == "smplx"
    np.testing.assert_allclose(motion.poses[:, 25:], fingers, atol=1e-5)
    np.testing.assert_allclose(motion.poses[:, 22], 0.1, atol=1e-6)
    small = to_smpl24(motion)
    assert small.poses.shape[1] == 24 and not small.poses[:, 22:].any()
    assert "left out" in small.notes[-1]


def test_to_body_keeps_strides_on_the_ground(tmp_path: Path, walk: BodyMotion, body) -> None:
    from maquette.backend.motions import foot_report, generate_walk

    straight = generate_walk(3.0, 30, body=body, seed=2)
    poses, trans = smpl_record(straight)
    path = tmp_path / "tall.npz"  # legs a fifth longer took the same turns, so the path is a fifth longer
    np.savez(path, poses=poses.reshape(len(poses), -1), trans=trans * (1.2, 1.2, 1), mocap_framerate=30.0)
    motion = to_body(load_motion(path), body)
    note = next(n for n in motion.notes if "path scaled" in n)
    assert abs(float(note.split("scaled by ")[1].split()[0]) - 1 / 1.2) < 0.02
    report = foot_report(motion, body)
    assert report.sinking_mm < 1 and report.skate_mm_s < 60 and report.standing > 0.9


GOOD = {"poses": np.zeros((4, 72)), "trans": np.zeros((4, 3)), "mocap_framerate": np.array(30.0)}


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"poses": np.zeros((4, 71))}, "poses", "no body"),
        ({"poses": np.zeros((4, 72)) * np.nan}, "poses", "NaN"),
        ({"poses": np.zeros((0, 72))}, "poses", "no frame"),
        ({"poses": None}, "poses", "keys are"),
        ({"trans": np.zeros((3, 3))}, "trans", "(4, 3)"),
        ({"trans": np.full((4, 3), np.inf)}, "trans", "infinity"),
        ({"trans": np.full((4, 3), 1e7)}, "trans", "metres"),
        ({"mocap_framerate": np.array(-5.0)}, "", "no frame rate"),
        ({"mocap_framerate": np.array([30.0, 60.0])}, "", "no frame rate"),
        ({"mocap_framerate": np.array(1e9)}, "", "no frame rate"),
        ({"betas": np.zeros((2, 5000))}, "betas", "400"),
        ({"poses": np.array(["a"] * 72)}, "poses", "no array of numbers"),
    ],
)
def test_bad_arrays(tmp_path: Path, change: dict, field: str, words: str) -> None:
    record = {k: v for k, v in {**GOOD, **change}.items() if v is not None}
    path = tmp_path / "bad.npz"
    np.savez(path, **record)
    if not field:  # a rate that is none is not fatal: it is assumed and said
        assert any(words in n for n in load_motion(path).notes)
        return
    with pytest.raises(MotionError) as caught:
        load_motion(path)
    assert caught.value.field == field and words in str(caught.value)


def test_matrices_that_are_no_rotations(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, global_orient=np.ones((5, 1, 3, 3)), body_pose=np.ones((5, 23, 3, 3)))
    with pytest.raises(MotionError, match="no rotation"):
        load_motion(path)


class Evil:
    def __reduce__(self):
        return (print, ("owned",))


def npz_bytes(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\0" * 100, "empty"),
        (b"hello world", "no motion known"),
        (b"Kaydara FBX Binary  \x00\x1a\x00", "BVH"),
        (b'{"a": 1}', "JSON"),
        (pickle.dumps({"poses": Evil()}), "print"),
        (pickle.dumps(GOOD)[:-20], "cut short"),
        (npz_bytes(**GOOD)[:-60], "damaged"),
        (npz_bytes(**GOOD).replace(b"(4, 72)", b"(9, 72)"), "damaged"),
        (npy_bytes(np.zeros((9, 24, 3)))[:-8], "truncated"),
        (npy_bytes(np.zeros((9, 24, 3))).replace(b"(9, 24, 3)", b"(9**9,3,) "), "damaged"),
        (b"\x93NUMPY", "damaged"),
        (npz_bytes(x=np.array({"a": Evil()}, dtype=object)), "print"),
        (b"PK\x03\x04" + b"\0" * 40, "damaged"),
        # Streams within streams would be read twice as often with each level.
        (b"".join(pickle.dumps(part, 2) for part in (STREAM, 1, {})) + b"\x80\x02ctorch.storage\n_load_from_bytes\n.",
         "_load_from_bytes"),
    ],
)  # fmt: skip
def test_wrong_truncated_and_hostile_files(tmp_path: Path, data: bytes, words: str, capsys) -> None:
    path = tmp_path / "motion.npz"
    path.write_bytes(data)
    with pytest.raises(MotionError) as caught:
        load_motion(path)
    assert caught.value.field == "file" and words in str(caught.value)
    assert "owned" not in capsys.readouterr().out


def test_zip_of_something_else_and_bomb(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(MotionError, match="without arrays"):
        load_motion(path)
    from maquette.backend.motions import reading

    monkeypatch.setattr(reading, "MAX_BYTES", 1 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("poses.npy", b"\0" * (4 << 20))
    with pytest.raises(MotionError, match="claims"):
        load_motion(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(MotionError, match="does not exist"):
        load_motion(tmp_path / "none.npz")
    with pytest.raises(MotionError, match="folder"):
        load_motion(tmp_path)


def test_a_path_that_keeps_its_length_is_not_told_of(body) -> None:
    from maquette.backend.motions import generate_walk

    motion = to_body(replace(generate_walk(2.0, 30, body=body, seed=2), body=""), body, keep_shape=False)
    assert not any("scaled" in note for note in motion.notes)


@pytest.mark.parametrize(
    ("root", "body_key", "trans", "beta"),
    [
        ("smpl_orient_world", "smpl_pose", "root_trans_world", "smpl_beta"),
        ("root_orient", "smpl_body_pose", "root_position", "smpl_shape"),
        ("pred_global_orient_w", "pred_body_pose", "pred_transl_w", "pred_betas"),
        ("poses_root", "poses_body", "trans", "betas"),
    ],
)
def test_keys_are_read_by_their_words(tmp_path: Path, walk, root: str, body_key: str, trans: str, beta: str) -> None:
    record = {
        root: walk.poses[:, 0], body_key: walk.poses[:, 1:].reshape(walk.frames, 69), trans: walk.trans,
        beta: np.full((walk.frames, 10), 0.5, np.float32), "root_trans_cam": np.zeros((walk.frames, 3), np.float32),
    }  # fmt: skip
    path = tmp_path / "track.pkl"
    path.write_bytes(pickle.dumps({"seq_name": "x", "person_data": {0: {**record, "fps": 25}}}))
    motion = load_motion(path)
    assert motion.fps == 25
    np.testing.assert_allclose(motion.poses[:, 1:22], walk.poses[:, 1:22], atol=1e-5)
    assert np.ptp(motion.trans, axis=0).max() > 0.5
    assert motion.betas is not None and motion.betas[0] == 0.5


@pytest.mark.parametrize(
    ("record", "key"),
    [
        ({"global_orient": (16, 3), "body_pose": (16, 32), "transl": (16, 3)}, "body_pose"),
        ({"camera_translation": (1, 3), "pose_embedding": (1, 32)}, "pose_embedding"),
    ],
)
def test_latents_of_vposer_are_called_so(tmp_path: Path, record: dict[str, tuple[int, ...]], key: str) -> None:
    path = tmp_path / "fit.pkl"
    path.write_bytes(pickle.dumps({k: np.zeros(shape) for k, shape in record.items()}))
    with pytest.raises(MotionError, match="VPoser") as caught:
        load_motion(path)
    assert caught.value.field == key


@pytest.mark.parametrize("key", ["smpl_thetas", "poses_world", "pred_full_pose"])
def test_whole_poses_are_read_by_their_words(tmp_path: Path, walk, key: str) -> None:
    path = tmp_path / "track.pkl"
    record = {key: walk.poses.reshape(walk.frames, 72), "global_trans": walk.trans}
    path.write_bytes(pickle.dumps({"video": [{"frame_rate": 25}], "tracks": {"a": record}}))
    motion = load_motion(path)
    np.testing.assert_allclose(motion.poses[:, 1:22], walk.poses[:, 1:22], atol=1e-5)
    assert np.ptp(motion.trans, axis=0).max() > 0.5 and motion.fps == 25


@pytest.mark.parametrize(
    "keys",
    [{"poses": "poses", name: "trans"} for name in
     ("Th", "root_transl", "root_pos", "root_trans_world", "trans_w", "global_transl", "pelvis_trans", "position")]
    + [{"smpl_orient_world": "root", "smpl_pose": "headless", "root_trans_world": "trans", "root_trans_cam": "zero"},
       {"Rh": "root", "Th": "about the origin", "poses": "headless"}],
)  # fmt: skip
def test_translation_and_root_are_found_beside_whole_poses(tmp_path: Path, walk, keys: dict[str, str]) -> None:
    turns, pelvis = axis_angle_to_matrix(walk.poses[:, 0].astype(float)), np.array(PELVIS_REST["smpl"])
    values = {
        "poses": walk.poses.reshape(walk.frames, 72), "headless": walk.poses.reshape(walk.frames, 72).copy(),
        "root": walk.poses[:, 0], "trans": walk.trans, "zero": 0 * walk.trans,
        "about the origin": walk.trans + pelvis - turns @ pelvis,
    }  # fmt: skip
    values["headless"][:, :3] = 0
    path = tmp_path / "track.npz"
    np.savez(path, **{key: values[what] for key, what in keys.items()})
    same_walk(load_motion(path, up="Z"), walk, metres=2e-4)


@pytest.mark.parametrize(
    "layout",
    [
        lambda p, t: {"poses": p.reshape(*p.shape[:2], 72), "trans": t},
        lambda p, t: {"poses": p, "trans": t},
        lambda p, t: {"poses": np.pad(p[:, :, :22].reshape(*p.shape[:2], 66), ((0, 0), (0, 0), (0, 99))), "trans": t},
        lambda p, t: {"global_orient": p[:, :, :1], "body_pose": p[:, :, 1:], "transl": t},
        lambda p, t: {"global_orient": axis_angle_to_matrix(p[:, :, 0]), "transl": t[:, :, None],
                      "body_pose": axis_angle_to_matrix(p[:, :, 1:])},
        lambda p, t: {"poses": np.swapaxes(p, 0, 1), "trans": np.swapaxes(t, 0, 1)},
    ],
)  # fmt: skip
def test_persons_before_or_after_frames_are_told_apart(tmp_path: Path, walk, layout) -> None:
    poses, trans = smpl_record(walk)
    other = poses[::-1] + 0.05
    path = tmp_path / "pair.npz"
    np.savez(path, **layout(np.stack([poses, other]), np.stack([trans, trans + 1])), betas=np.zeros((2, 10)))
    motion = load_motion(path, up="Z")
    assert any("holds 2 clips or persons" in note for note in motion.notes)
    same_walk(motion, walk)
    assert load_motion(path, up="Z", clip=1).frames == walk.frames
