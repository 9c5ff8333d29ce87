"""The wire as a client meets it."""

from __future__ import annotations

import io
import json
import socket
import zipfile
from pathlib import Path

import numpy as np
import pytest
import requests
from maquette.backend.client import BackendError
from maquette.backend.media import decode_video, read_mp4_metadata
from maquette.backend.shot import Media
from maquette.backend.wire import JobView, VideoPlan

from ..builders import png
from .harness import ALICE, BOB, Server, save_shot, until


@pytest.fixture(scope="module")
def done(server: Server, tmp_path_factory: pytest.TempPathFactory) -> JobView:
    """A finished job of Alice's."""
    shot = save_shot(tmp_path_factory.mktemp("shot") / "done.shot", name="A walk/../x", seed=3)
    with server.client() as client:
        job = client.submit(shot)
        assert job.status == "queued" and job.id.startswith("vid_")
    return server.wait_for(job.id, "completed", "failed")


def get(server: Server, path: str, who: str = ALICE, **headers: str) -> requests.Response:
    return requests.get(server.address + path, headers={**server.headers(who), **headers}, timeout=60)


def upload(server: Server, data: bytes, field: str = "shot") -> requests.Response:
    files = {field: ("x.shot", data)}
    return requests.post(server.address + "/v1/videos", files=files, headers=server.headers(), timeout=60)


def error_of(response: requests.Response, status: int) -> dict:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["code"] and error["message"].endswith((".", ")")), error
    return error


def test_a_job_runs_to_its_video(server: Server, done: JobView, tmp_path: Path):
    assert done.status == "completed" and done.progress == 100 and done.error is None
    assert done.plan == VideoPlan(48, 32, 5, 24.0)
    assert done.notes == ("size snapped to 48 x 32", "made of grey")
    assert done.created_at <= done.started_at <= done.finished_at
    with server.client() as client:
        film = client.download(done.id, tmp_path / "out" / "film.mp4")
        frames = client.download(done.id, tmp_path / "out" / "frames.zip", "frames")
    assert sorted(p.name for p in film.parent.iterdir()) == ["film.mp4", "frames.zip"]
    video, fps = decode_video(film)
    assert video.shape == (5, 32, 48, 3) and fps == 24
    # The fake engine's frames brighten by 5 each; H.264 keeps that within one level or two.
    assert np.allclose(video.mean(axis=(1, 2, 3)), np.arange(5) * 5, atol=2)
    metadata = read_mp4_metadata(film)
    assert (metadata["model"], metadata["steps"], metadata["job"]) == ("isa-nano", 4, done.id)
    assert "seed" in metadata and metadata["characters"] == ["Body 1"]
    with zipfile.ZipFile(frames) as archive:
        assert archive.namelist() == [f"{i:05d}.png" for i in range(1, 6)]
        from PIL import Image

        picture = Image.open(io.BytesIO(archive.read("00005.png")))
        assert np.asarray(picture)[0, 0, 0] == 20 and "seed" in picture.info


def test_the_job_as_the_wire_has_it(server: Server, done: JobView):
    data = get(server, f"/v1/videos/{done.id}").json()
    assert list(data) == [
        "id", "object", "status", "name", "model", "created_at", "started_at", "finished_at", "queue_position", "stage",
        "step", "steps", "progress", "eta_seconds", "notes", "plan", "error",
    ]  # fmt: skip
    assert data["object"] == "video" and data["plan"] == {"width": 48, "height": 32, "frames": 5, "fps": 24.0}
    assert JobView.from_json({**data, "of a later version": 1}) == done


def test_health_needs_nothing(server: Server):
    health = requests.get(server.address + "/v1/health", timeout=60).json()
    assert health["name"] == "maquette" and health["wire"] == 1 and health["token_required"] is True
    until(
        lambda: requests.get(server.address + "/v1/health", timeout=60).json()["device"] == "fake", what="device told"
    )


def test_models_say_what_is_missing(server: Server):
    with server.client() as client:
        nano, small = client.models()
    assert nano["available"] and nano["inputs"] == {"characters": "required"} and nano["limits"] == {"max_frames": 40}
    assert nano["defaults"]["steps"] == 4 and nano["reason"] == ""
    assert not small["available"] and small["missing"] == ["vae.safetensors"] and "not found" in small["reason"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/videos", "/v1/videos/vid_0/content", "/v1/videos/vid_0/events"])
def test_everything_else_needs_the_token(server: Server, path: str):
    for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {server.token}"}):
        headers = {"X-Maquette-Wire": "1", "X-Maquette-Client": ALICE, **given}
        response = requests.get(server.address + path, headers=headers, timeout=60)
        assert error_of(response, 401)["code"] == "unauthorized"
        assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("wire", ["0", "2", "", "one"])
def test_another_wire_is_refused(server: Server, wire: str):
    response = get(server, "/v1/models", **{"X-Maquette-Wire": wire})
    assert error_of(response, 426) == {
        "code": "wire_mismatch", "wire": 1,
        "message": f"This backend speaks version 1 of the wire; the request says {wire or 'none'}.",
    }  # fmt: skip


def test_a_client_must_say_who_it_is(server: Server):
    assert error_of(get(server, "/v1/videos", who="me"), 400)["code"] == "bad_request"


@pytest.mark.parametrize("rest", ["", "/content", "/preview", "/events"])
def test_others_do_not_see_a_job(server: Server, done: JobView, rest: str):
    assert error_of(get(server, f"/v1/videos/{done.id}{rest}", who=BOB), 404)["code"] == "not_found"
    with server.client(BOB) as bob:
        assert bob.jobs() == []
        with pytest.raises(BackendError, match="no such job"):
            bob.delete(done.id)
    with server.client() as alice:
        assert done.id in [job.id for job in alice.jobs()]


def test_an_unknown_path_or_method_answers_in_the_same_form(server: Server):
    assert error_of(get(server, "/v1/nothing"), 404)["code"] == "not_found"
    assert error_of(requests.put(server.address + "/v1/videos", timeout=60), 405)["code"] == "bad_request"
    assert get(server, "/docs").status_code == 404


def test_part_of_a_result(server: Server, done: JobView):
    path = f"/v1/videos/{done.id}/content"
    whole = get(server, path)
    assert whole.status_code == 200 and whole.headers["Content-Type"] == "video/mp4"
    assert whole.headers["Content-Disposition"] == 'attachment; filename="A_walk_.._x.mp4"'
    part = get(server, path, Range="bytes=10-19")
    assert part.status_code == 206 and part.content == whole.content[10:20]
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(whole.content)}"
    rest = get(server, path, Range="bytes=100-", **{"If-Range": whole.headers["ETag"]})
    assert rest.status_code == 206 and rest.content == whole.content[100:]
    changed = get(server, path, Range="bytes=100-", **{"If-Range": '"other"'})
    assert changed.status_code == 200 and changed.content == whole.content
    assert get(server, path, Range=f"bytes={len(whole.content)}-").status_code == 416
    assert error_of(get(server, path + "?variant=gif"), 400)["field"] == "variant"


def test_an_interrupted_download_is_taken_up(server: Server, done: JobView, tmp_path: Path):
    class Stop(Exception):
        pass

    def stop(*_: int) -> None:
        raise Stop

    target = tmp_path / "film.mp4"
    with server.client() as client:
        whole = client.download(done.id, tmp_path / "whole.mp4").read_bytes()
        with pytest.raises(Stop):
            client.download(done.id, target, on_bytes=stop)
        part = tmp_path / "film.mp4.part"
        assert part.exists() and not target.exists()
        part.write_bytes(whole[:100])
        seen: list[int] = []
        client.download(done.id, target, on_bytes=lambda have, _: seen.append(have))
        assert target.read_bytes() == whole and min(seen) > 100
        # A part that is already whole, and one that belongs to another file.
        for content, tag in ((whole, None), (b"x" * 50, '"other"')):
            part.write_bytes(content)
            tag_file = tmp_path / "film.mp4.part.tag"
            tag_file.write_text(tag or get(server, f"/v1/videos/{done.id}/content").headers["ETag"])
            target.unlink()
            client.download(done.id, target)
            assert target.read_bytes() == whole and not part.exists() and not tag_file.exists()


def test_events_and_preview(server: Server, tmp_path: Path):
    shot = save_shot(tmp_path / "a.shot", "wait=0.06", steps=10)
    with server.client() as client:
        job = client.submit(shot)
        seen = []
        previews = set()
        for event in client.events(job.id):
            seen.append(event)
            with server.client() as other:
                previews.add(other.preview(job.id))
    assert seen[-1].status == "completed"
    steps = [event.step for event in seen if event.stage == "denoising"]
    assert steps == sorted(steps) and len(set(steps)) >= 2
    progress = [event.progress for event in seen]
    assert progress == sorted(progress)
    measured = [event.eta_seconds for event in seen if event.stage == "denoising" and event.eta_seconds]
    assert measured and all(0 < eta < 60 for eta in measured)
    pictures = [data for data in previews if data]
    assert pictures and all(data.startswith(b"\x89PNG") for data in pictures)
    response = get(server, f"/v1/videos/{job.id}/events")
    assert response.headers["Content-Type"].startswith("text/event-stream")
    first = response.text.splitlines()
    assert first[0] == "event: job" and json.loads(first[1].removeprefix("data: "))["id"] == job.id


def test_events_tell_the_place_in_the_queue(server: Server, tmp_path: Path):
    gates = [tmp_path / f"gate{i}" for i in range(3)]
    with server.client() as client:
        ids = []
        for gate in gates:
            gate.touch()
            ids.append(client.submit(save_shot(tmp_path / "held.shot", f"hold={gate}")).id)
        assert client.preview(ids[2]) is None, "before the first step there is no preview"
        positions = []
        for event in client.events(ids[2]):
            if event.queue_position not in positions:
                positions.append(event.queue_position)
                gates[len(positions) - 1].unlink()
        assert client.health()["queue"] == 0
    assert positions == [1, 0, None]


def test_cancel_stops_within_one_step(server: Server, tmp_path: Path):
    def steps() -> int:
        return len([line for line in server.noted() if line.startswith("step cancelled ")])

    shot = save_shot(tmp_path / "c.shot", "wait=0.25", steps=50, name="cancelled")
    with server.client() as client:
        job = client.submit(shot)
        until(lambda: (client.job(job.id).step or 0) >= 2, what="second step")
        assert client.cancel(job.id).stage == "cancelling"
        before = steps()
        ended = server.wait_for(job.id, "cancelled")
        assert steps() <= before + 1, "at most the step under way is finished"
        assert ended.finished_at and ended.eta_seconds is None
        error_of(get(server, f"/v1/videos/{job.id}/content"), 409)
        # The engine goes on with the next job in the same process.
        pid = server.engine_pid()
        after = client.submit(save_shot(tmp_path / "n.shot"))
        server.wait_for(after.id, "completed")
        assert server.engine_pid() == pid


def test_cancel_in_the_queue_and_delete(server: Server, tmp_path: Path):
    gate = tmp_path / "gate"
    gate.touch()
    slow = save_shot(tmp_path / "s.shot", f"hold={gate}")
    with server.client() as client:
        first, second = client.submit(slow).id, client.submit(slow).id
        assert client.cancel(second).status == "cancelled"
        assert client.cancel(second).status == "cancelled", "what has ended stays"
        gate.unlink()
        server.wait_for(first, "completed")
        folder = server.data / "jobs" / first
        assert folder.exists()
        assert client.cancel(first).status == "completed" and folder.exists()
        client.delete(first)
        assert not folder.exists()
        with pytest.raises(BackendError) as caught:
            client.job(first)
        assert caught.value.code == "not_found"


def test_a_result_that_was_removed_by_hand(server: Server, tmp_path: Path):
    with server.client() as client:
        job = client.submit(save_shot(tmp_path / "s.shot")).id
        server.wait_for(job, "completed")
        (server.data / "jobs" / job / "result" / "video.mp4").unlink()
        with pytest.raises(BackendError, match="are gone from the backend's disk"):
            client.download(job, tmp_path / "x.mp4")


def test_a_running_job_has_no_content_yet(server: Server, tmp_path: Path):
    with server.client() as client:
        job = client.submit(save_shot(tmp_path / "s.shot", "wait=0.1", steps=1000))
        with pytest.raises(BackendError) as caught:
            client.download(job.id, tmp_path / "x.mp4")
        assert caught.value.code == "not_ready"
        assert not (tmp_path / "x.mp4").exists()
        client.cancel(job.id)
    server.wait_for(job.id, "cancelled")


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return save_shot(tmp_path_factory.mktemp("good") / "good.shot").read_bytes()


def test_refused_uploads_leave_nothing(server: Server, good: bytes):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("shot.json", b"[" * 100_000)
    cases = {
        "truncated": good[: len(good) // 2],
        "empty": b"",
        "noise": b"\x00\xff" * 500,
        "no shot": bomb.getvalue(),
    }
    before = sorted(p.name for p in (server.data / "jobs").iterdir())
    for name, data in cases.items():
        error = error_of(upload(server, data), 422)
        assert error["code"] == "invalid_shot" and error["field"], name
        if name != "no shot":
            assert error["message"].startswith("file: the upload is not a .shot file or is cut short"), name
    assert error_of(upload(server, good, "film"), 422)["field"] == "shot"
    assert sorted(p.name for p in (server.data / "jobs").iterdir()) == before
    assert list((server.data / "incoming").iterdir()) == []


def test_too_large_an_upload(server: Server):
    # The server takes 1 MiB here. The refusal arrives although the sender has not finished.
    assert error_of(upload(server, b"\0" * (8 << 20)), 413)["code"] == "too_large"

    def endless():
        boundary = b'--b\r\nContent-Disposition: form-data; name="shot"; filename="x"\r\n\r\n'
        yield boundary
        for _ in range(40):
            yield b"\0" * (1 << 17)

    headers = {**server.headers(), "Content-Type": "multipart/form-data; boundary=b"}
    response = requests.post(server.address + "/v1/videos", data=endless(), headers=headers, timeout=60)
    assert error_of(response, 413)["message"] == "The shot is larger than the 1 MiB that this backend takes."
    assert list((server.data / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{}", 400),
        ("multipart/form-data", b"", 400),
        ("multipart/form-data; boundary=b", b"nonsense", 400),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="shot"\r\n\r\nabc', 422),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 422),
    ],
)
def test_malformed_bodies(server: Server, kind: str, body: bytes, status: int):
    headers = {**server.headers(), "Content-Type": kind}
    error_of(requests.post(server.address + "/v1/videos", data=body, headers=headers, timeout=60), status)


def test_an_upload_that_breaks_off(server: Server, good: bytes):
    head = "\r\n".join(
        [
            "POST /v1/videos HTTP/1.1", "Host: 127.0.0.1", "Content-Length: 100000",
            "Content-Type: multipart/form-data; boundary=b", *(f"{k}: {v}" for k, v in server.headers().items()),
        ]
    )  # fmt: skip
    with socket.create_connection(("127.0.0.1", server.port)) as link:
        link.sendall(head.encode() + b"\r\n\r\n")
        link.sendall(b'--b\r\nContent-Disposition: form-data; name="shot"; filename="x"\r\n\r\n')
        link.sendall(good[:500])
        until(lambda: list((server.data / "incoming").iterdir()), what="upload begins")
    until(lambda: not list((server.data / "incoming").iterdir()), what="upload removed")
    with server.client() as client:
        client.health()


@pytest.mark.parametrize(
    ("model", "frames", "field", "words"),
    [
        ("isa-huge", 5, "settings.model", "knows no model 'isa-huge'. Choose one of: isa-nano."),
        (
            "isa-small",
            5,
            "settings.model",
            "cannot run: vae.safetensors not found in weights. Models that are ready: isa-nano.",
        ),
        ("isa-nano", 41, "clip", "has 41 frames; this engine makes at most 40"),
    ],
)
def test_a_shot_that_no_model_can_make(server: Server, tmp_path: Path, model: str, frames: int, field: str, words: str):
    shot = save_shot(tmp_path / "x.shot", model=model, frames=frames)
    with server.client() as client, pytest.raises(BackendError) as caught:
        client.submit(shot)
    assert caught.value.code == "invalid_shot" and caught.value.field == field
    assert words in caught.value.message


def test_a_picture_that_cannot_be_decoded(server: Server, tmp_path: Path):
    damaged = Media(png().data[:40], "image/png")
    shot = save_shot(tmp_path / "x.shot", reference=damaged)
    with server.client() as client, pytest.raises(BackendError) as caught:
        client.submit(shot)
    assert caught.value.field == "characters[0].reference.image"
    assert "the reference of Body 1: is damaged or not a picture" in caught.value.message


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ("oom", "out_of_memory", "smaller size"),
        ("engine", "invalid_shot", "are too few for this engine"),
        ("nan", "not_finite", "The network unet gave numbers that are not finite at step 2 of 3"),
        ("odd", "internal", "ZeroDivisionError: by zero"),
        ("full", "no_space", "disk is full"),
        ("exit", "engine_crashed", "exit 7"),
    ],
)
def test_a_failing_engine_fails_its_job_only(server: Server, tmp_path: Path, how: str, code: str, words: str):
    with server.client() as client:
        bad = client.submit(save_shot(tmp_path / "bad.shot", f"fail={how}")).id
        good = client.submit(save_shot(tmp_path / "good.shot")).id
        job = server.wait_for(bad, "failed")
        assert job.error.code == code and words in job.error.message
        with pytest.raises(BackendError, match=r"The job has no result: .*" + words):
            client.download(bad, tmp_path / "x.mp4")
        assert server.wait_for(good, "completed").error is None
    assert not (server.data / "jobs" / bad / "result").exists()
    assert not (server.data / "jobs" / bad / "result.part").exists()
