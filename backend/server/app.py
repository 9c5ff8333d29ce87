"""What each request of the wire (docs/wire.md) gets."""

# No postponed annotations here: FastAPI could not see through those of the functions inside functions.

import asyncio
import contextlib
import logging
import re
import secrets
import sqlite3
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from fastapi import Body, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from sse_starlette import EventSourceResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from .. import wire
from ..models import upscale
from ..wire import Code, Status
from .config import ServerConfig
from .describe import describe, document
from .downloads import Downloads
from .engines import make_engines
from .errors import ApiError, is_disk_full, no_space
from .events import follow
from .executor import Executor
from .files import JobFiles
from .intake import Intake, check_shot
from .job_row import JobRow
from .jobs import JobStore, QueueFull, new_id
from .status import PAGE, PAGE_FILES, PAGE_HEADERS, status
from .upload import drain, receive_shot

log = logging.getLogger("maquette.server")

_LOCAL_NAMES = re.compile(r"^(localhost|127(\.\d+){3}|\[::1\]|[a-z0-9-]+\.localhost)(:\d+)?$", re.IGNORECASE)

_UPLOAD_KEY = re.compile(r"[\w-]{8,64}", re.ASCII)
_PRIORITY = re.compile(r"u=([0-7])(\s*[,;].*)?", re.ASCII)
_UPLOADS = 64
"""Shots that are received at a time; others wait their turn."""


class Backend:
    """What the requests share."""

    def __init__(self, config: ServerConfig, version: str) -> None:
        self.config = config
        self.version = version
        self.files = JobFiles(config.data)
        self.store = JobStore(config.data / "jobs.sqlite", self.files.drop_ballast)
        self.engines = make_engines(config.engines, config.models)
        self.executor = Executor(config, self.store, self.files)
        self.downloads = Downloads(config)
        self.upscale_lack = upscale.lack()
        # Reading a shot takes memory: few at a time.
        self.reading = asyncio.Semaphore(2)
        self.uploads = asyncio.Semaphore(_UPLOADS)

    def start(self) -> None:
        """Pick up what the last run left, and begin."""
        self.store.recover(self.config.max_attempts)
        if unknown := self.files.clean(self.store.ids()):
            log.warning(
                "The store does not know %d jobs whose folders are here (%s...); they lie in %s now, whole.",
                *(len(unknown), ", ".join(unknown[:3]), self.files.set_aside),
            )
        self.executor.start()

    def stop(self) -> None:
        """End the engine process and a download, and let go of the store."""
        self.downloads.stop()
        self.executor.stop()
        self.store.close()


def create_app(config: ServerConfig, version: str) -> FastAPI:
    """The application; its jobs run while its lifespan does.

    Raises:
        StoreInUse, StoreBroken, OSError: the data folder cannot be used.
    """
    backend = Backend(config, version)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        backend.start()
        yield
        await to_thread.run_sync(backend.stop)

    app = FastAPI(title="Maquette", version=version, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.backend = backend
    app.openapi = partial(document, app)  # type: ignore[method-assign]
    _add_errors(app, backend)
    _add_requests(app, backend)
    return app


def _add_errors(app: FastAPI, backend: Backend) -> None:
    async def answer(request: Request, error: ApiError) -> Response:
        if request.method == "POST":
            await drain(request)
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
        return JSONResponse(error.body, error.status, headers)

    async def api_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return await answer(request, error)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = Code.NOT_FOUND if error.status_code == 404 else Code.BAD_REQUEST
        message = f"{request.method} {request.url.path}: {error.detail}."
        return await answer(request, ApiError(code, message, status=error.status_code))

    async def bad_request(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        return await answer(request, ApiError(Code.BAD_REQUEST, f"{field}: {first['msg']}.", field))

    async def disk(request: Request, error: Exception) -> Response:
        if is_disk_full(error):
            return await answer(request, no_space())
        if not backend.files.there():
            message = "The folder in which this backend keeps its jobs is not there just now. Try again later."
            return await answer(request, ApiError(Code.SERVER_ERROR, message, status=503))
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return await failed(request, error)

    async def gone(_request: Request, _error: Exception) -> Response:
        return Response(status_code=400)

    async def failed(request: Request, error: Exception) -> Response:
        message = f"The backend failed with {type(error).__name__}. Its log has more."
        refusal = ApiError(Code.SERVER_ERROR, message)
        return JSONResponse(refusal.body, refusal.status)

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, bad_request)
    app.add_exception_handler(OSError, disk)
    app.add_exception_handler(sqlite3.Error, disk)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, failed)


def _add_requests(app: FastAPI, backend: Backend) -> None:
    config, store, files, executor = backend.config, backend.store, backend.files, backend.executor

    async def known_host(request: Request) -> None:
        if config.token or config.any_host or _LOCAL_NAMES.match(request.headers.get("host", "")):
            return
        message = "This backend answers only requests sent to this computer's own name; use 127.0.0.1."
        raise ApiError(Code.BAD_REQUEST, message, status=403)

    async def guard(request: Request) -> None:
        """Token, then version of the wire."""
        await known_host(request)
        if config.token:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            right = secrets.compare_digest(given.strip().encode("latin-1"), config.token.encode())
            if scheme.lower() != "bearer" or not right:
                message = "This backend wants a token." if not given else "This backend refuses this token."
                raise ApiError(Code.UNAUTHORIZED, message)
        spoken = request.headers.get(wire.VERSION_HEADER, "")
        if spoken != str(wire.VERSION):
            says = spoken[:20] or "none"
            message = f"This backend speaks version {wire.VERSION} of the wire; the request says {says}."
            raise ApiError(Code.WIRE_MISMATCH, message, wire=wire.VERSION)

    async def client(request: Request) -> str:
        await guard(request)
        try:
            return str(uuid.UUID(request.headers.get(wire.CLIENT_HEADER, "")))
        except ValueError:
            raise ApiError(Code.BAD_REQUEST, f"The header {wire.CLIENT_HEADER} must hold a UUID.") from None

    def own(job_id: str, client: Annotated[str, Depends(client)]) -> JobRow:
        job = store.get(job_id, client)
        if job is None:
            raise ApiError(Code.NOT_FOUND, "This backend has no such job of yours; it may have been deleted.")
        return job

    Client = Annotated[str, Depends(client)]
    Limit = Annotated[int, Query(ge=1, le=wire.PAGE)]
    Own = Annotated[JobRow, Depends(own)]

    @app.get(wire.HEALTH_PATH, **describe("health"), dependencies=[Depends(known_host)])
    async def health() -> Response:
        # Of memory alone: it must be told whatever the disk and the other requests do.
        alive = executor.alive
        told = {
            "name": wire.NAME,
            "version": backend.version,
            "wire": wire.VERSION,
            "device": executor.device,
            "token_required": bool(config.token),
            "queue": store.size,
            "engines": store.engines,
            "max_upload": config.max_upload,
            "downloads": config.downloads and not config.cluster,
            "upscale": {"available": not backend.upscale_lack, "reason": backend.upscale_lack},
            "runner": {"alive": alive, "doing": executor.doing, "problem": executor.problem},
            "retention": {"days": config.keep_days, "gigabytes": config.keep_gigabytes},
        }
        return JSONResponse(told, 200 if alive else 503)

    @app.get(wire.MODELS_PATH, **describe("models"), dependencies=[Depends(guard)])
    def models() -> dict[str, Any]:
        from ..models.weights.sizes import model_entry

        # It may have been installed meanwhile.
        backend.upscale_lack = upscale.lack()
        data = [model_entry(status).to_json() for status in backend.engines.models()]
        coming = backend.downloads.under_way()
        for entry in data:
            if coming is not None and entry["id"] == coming.model and not entry["available"]:
                entry["reason"] = f"{entry['label']} cannot run yet: its weights are being downloaded ({coming.label})"
        return {"object": "list", "data": data}

    @app.get(wire.model_path("{model_id}", "offer"), **describe("offer"), dependencies=[Depends(guard)])
    def offer(model_id: str) -> dict[str, Any]:
        return backend.downloads.offer(model_id)

    download_path = wire.model_path("{model_id}", "download")

    @app.post(download_path, status_code=202, **describe("begin_download"), dependencies=[Depends(guard)])
    def begin_download(model_id: str, commits: Annotated[dict[str, str], Body(embed=True)]) -> dict[str, Any]:
        return backend.downloads.start(model_id, commits).to_json()

    @app.get(download_path, **describe("download"), dependencies=[Depends(guard)])
    def download(model_id: str) -> dict[str, Any]:
        return backend.downloads.view(model_id).to_json()

    @app.delete(download_path, **describe("cancel_download"), dependencies=[Depends(guard)])
    def cancel_download(model_id: str) -> dict[str, Any]:
        return backend.downloads.cancel(model_id).to_json()

    @app.get(wire.STATUS_PATH, **describe("status"), dependencies=[Depends(guard)])
    def told() -> dict[str, Any]:
        return status(config, store, files, executor, backend.engines, backend.version)

    @app.get(f"{wire.STATUS_PATH}/preview", **describe("status_preview"), dependencies=[Depends(guard)])
    def running_preview() -> Response:
        return _preview(files, next((job.id for job in store.running()), ""))

    for path, (name, kind) in PAGE_FILES.items():
        page = partial(FileResponse, PAGE / name, media_type=kind, headers=PAGE_HEADERS)
        app.add_route(f"/{path}", _guarded(page, known_host), methods=["GET"], include_in_schema=False)

    @app.post(wire.VIDEOS_PATH, status_code=201, **describe("create"))
    async def create(request: Request, client: Client) -> dict[str, Any]:
        key = request.headers.get(wire.UPLOAD_KEY_HEADER)
        if key is not None and not _UPLOAD_KEY.fullmatch(key):
            message = f"The header {wire.UPLOAD_KEY_HEADER} must hold 8 to 64 letters, digits, - or _."
            raise ApiError(Code.BAD_REQUEST, message)
        priority = request.headers.get(wire.PRIORITY_HEADER, "")
        wanted = _PRIORITY.fullmatch(priority)
        if priority and wanted is None:
            raise ApiError(Code.BAD_REQUEST, f"The header {wire.PRIORITY_HEADER} must hold u=0 to u=7.")
        declared = request.headers.get("content-length", "")
        known = await to_thread.run_sync(admit, client, key, int(declared) if declared[:18].isdigit() else 0)
        if known is not None:
            await drain(request)
            return known
        upload: Path = files.incoming / secrets.token_hex(12)
        try:
            async with backend.uploads:
                await receive_shot(request, upload, config.max_upload, config.stall)
            async with backend.reading:
                intake = await to_thread.run_sync(check_shot, upload, backend.engines)
            view = await to_thread.run_sync(queue, client, key, upload, intake, wanted and int(wanted[1]))
        finally:
            with contextlib.suppress(OSError):
                upload.unlink(missing_ok=True)
        executor.wake()
        return view

    def admit(client: str, key: str | None, declared: int) -> dict[str, Any] | None:
        """Whether an upload is worth its while; the job that it has made before."""
        if key and (known := store.by_key(client, key)):
            return store.view(known).to_json()
        try:
            store.check_room(client, config.max_queue)
        except QueueFull:
            raise _queue_full(config) from None
        if not files.has_room(declared):
            raise no_space()
        return None

    def queue(client: str, key: str | None, upload: Path, intake: Intake, urgency: int | None) -> dict[str, Any]:
        if urgency is None:
            urgency = wire.DRAFT_URGENCY if intake.draft else wire.URGENCY
        if not files.has_room(intake.result_bytes):
            raise no_space()
        job_id = new_id()
        files.adopt(upload, job_id)
        try:
            job = store.create(
                *(client, intake.name, intake.model, intake.steps, intake.plan, intake.notes),
                max_queue=config.max_queue,
                job_id=job_id,
                upload_key=key,
                urgency=urgency,
            )
        except BaseException as error:
            files.remove(job_id)
            if isinstance(error, QueueFull):
                raise _queue_full(config) from None
            raise
        if job.id != job_id:
            # Another upload of the same key was quicker.
            files.remove(job_id)
        return store.view(job).to_json()

    @app.get(wire.VIDEOS_PATH, **describe("jobs"))
    def jobs(client: Client, limit: Limit = wire.PAGE, after: str = "", key: str = "") -> dict[str, Any]:
        if key:
            made = store.by_key(client, key)
            found = [] if made is None else [store.view(made).to_json()]
            return {"object": "list", "data": found, "has_more": False, "key": key}
        last = store.get(after, client) if after else None
        if after and last is None:
            raise ApiError(
                Code.NOT_FOUND, "after: this backend has no such job of yours; ask for the first page again."
            )
        found = store.of_client(client, limit + 1, last and last.seq)
        data = [store.view(job).to_json() for job in found[:limit]]
        return {"object": "list", "data": data, "has_more": len(found) > limit}

    @app.get(wire.video_path("{job_id}"), **describe("job"))
    def one(job: Own) -> dict[str, Any]:
        return store.view(job).to_json()

    @app.delete(wire.video_path("{job_id}"), **describe("cancel"))
    def cancel(job: Own, keep: bool = False) -> dict[str, Any]:
        now = store.request_cancel(job.id) or job
        if now.status is Status.IN_PROGRESS:
            executor.cancel(job.id)
        elif job.ended and not keep:
            delete(job)
            return {**store.view(now).to_json(), "deleted": True}
        return store.view(now).to_json()

    def delete(job: JobRow) -> None:
        try:
            store.delete(job.id)
        except sqlite3.Error as error:
            if not is_disk_full(error):
                raise
            # The files make the room that the store needs to forget the job.
            files.remove(job.id)
            store.delete(job.id)
        files.remove(job.id)

    @app.get(wire.video_path("{job_id}", "content"), **describe("content"))
    def content(job: Own, variant: str = "video") -> Response:
        if variant not in wire.VARIANTS:
            raise ApiError(
                Code.BAD_REQUEST, f"There is no variant '{variant[:40]}'; ask for video or frames.", "variant"
            )
        if job.status is not Status.COMPLETED:
            why = job.error.message if job.error else f"it is {job.status.replace('_', ' ')}."
            raise ApiError(Code.NOT_READY, f"The job has no result: {why}")
        path = files.video(job.id) if variant == "video" else files.frames_zip(job.id)
        if not path.is_file():
            message = "The result's files are gone from the backend's disk. Generate it again."
            raise ApiError(Code.NOT_READY, message)
        ending, kind = wire.VARIANTS[variant]
        stem = re.sub(r"[^\w.-]+", "_", job.name).strip("._") or "shot"
        return FileResponse(path, media_type=kind, filename=stem + ending)

    @app.get(wire.video_path("{job_id}", "preview"), **describe("preview"))
    def preview(job: Own) -> Response:
        return _preview(files, job.id)

    @app.get(wire.video_path("{job_id}", "events"), **describe("events"))
    async def events(job: Own) -> Response:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return EventSourceResponse(follow(store, job), ping=wire.HEARTBEAT_SECONDS, headers=headers)


def _guarded(answer: Callable[[], Response], guard: Callable[[Request], Awaitable[None]]) -> Any:
    async def call(request: Request) -> Response:
        await guard(request)
        return answer()

    return call


def _preview(files: JobFiles, job_id: str) -> Response:
    try:
        data = files.preview(job_id).read_bytes()
    except FileNotFoundError:
        return Response(status_code=204)
    return Response(data, media_type="image/png", headers={"Cache-Control": "no-store"})


def _queue_full(config: ServerConfig) -> ApiError:
    message = (
        f"Too many jobs wait at this backend already: {config.max_queue} in all are shared among those who send them. "
        "Send the shot again later."
    )
    return ApiError(Code.QUEUE_FULL, message)
