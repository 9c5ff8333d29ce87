"""The wire as OpenAPI has it (docs/openapi.json): what FastAPI cannot see by itself is said here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from .. import wire
from ..catalogue.models import ModelEntry
from ..catalogue.weights_offer import WeightsOffer
from ..wire import DownloadView, JobView


@dataclass(frozen=True)
class Runner:
    """What takes jobs from the queue."""

    alive: bool
    doing: str
    problem: str


@dataclass(frozen=True)
class Retention:
    """How long results are kept; null for until they are deleted."""

    days: float | None
    gigabytes: float | None


@dataclass(frozen=True)
class Upscale:
    """Whether films can be made larger; the reason says why not, with its cure."""

    available: bool
    reason: str


@dataclass(frozen=True)
class Health:
    """Who answers."""

    name: str
    version: str
    wire: int
    device: str
    token_required: bool
    queue: int
    engines: int
    max_upload: int
    downloads: bool
    upscale: Upscale
    runner: Runner
    retention: Retention


@dataclass(frozen=True)
class Jobs:
    """A page of jobs, newest first."""

    object: str
    data: list[JobView]
    has_more: bool
    key: str | None = None


@dataclass(frozen=True)
class Models:
    """All models."""

    object: str
    data: list[ModelEntry]


@dataclass(frozen=True)
class Refused:
    """Why: a code for programs, a message for people, and the part at fault where there is one."""

    code: str
    message: str
    field: str | None = None


@dataclass(frozen=True)
class Refusal:
    """The body of every answer of 400 and above."""

    error: Refused


_FORM = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {wire.SHOT_FIELD: {"type": "string", "format": "binary", "description": "a .shot file"}},
            "required": [wire.SHOT_FIELD],
        }
    }
}
_PNG = {"image/png": {}}

_REQUESTS: dict[str, dict[str, Any]] = {
    "health": {"summary": "Who answers; needs no token", "responses": {200: {"model": Health}}},
    "models": {"summary": "All models, available or not", "responses": {200: {"model": Models}}},
    "offer": {
        "summary": "What fetching a model's weights would bring, asked of their publishers now",
        "responses": {200: {"model": WeightsOffer}},
    },
    "begin_download": {
        "summary": "Have the weights fetched that were agreed to",
        "responses": {202: {"model": DownloadView}},
    },
    "download": {"summary": "How far a model's download is", "responses": {200: {"model": DownloadView}}},
    "cancel_download": {
        "summary": "Stop a model's download; what has come stays",
        "responses": {200: {"model": DownloadView}},
    },
    "status": {"summary": "What the page for people shows"},
    "status_preview": {
        "summary": "Newest preview of the job that runs",
        "responses": {200: {"content": _PNG}, 204: {"description": "There is none yet"}},
    },
    "create": {
        "summary": "Send a shot",
        "responses": {201: {"model": JobView}},
        "openapi_extra": {"requestBody": {"required": True, "content": _FORM}},
    },
    "jobs": {"summary": "This client's jobs", "responses": {200: {"model": Jobs}}},
    "job": {"summary": "One job", "responses": {200: {"model": JobView}}},
    "cancel": {
        "summary": "Cancel a job that waits or runs; delete one that has ended",
        "responses": {200: {"model": JobView}},
    },
    "content": {
        "summary": "The result",
        "responses": {
            200: {"content": {kind: {} for _, kind in wire.VARIANTS.values()}},
            206: {"description": "A part"},
        },
    },
    "preview": {
        "summary": "Newest preview",
        "responses": {200: {"content": _PNG}, 204: {"description": "There is none yet"}},
    },
    "events": {
        "summary": "Server-sent events, each the whole job",
        "responses": {200: {"content": {"text/event-stream": {}}}},
    },
}


def describe(name: str) -> dict[str, Any]:
    """What FastAPI's decorators are told of a request."""
    refused = {"4XX": {"model": Refusal}, "5XX": {"model": Refusal}}
    told = _REQUESTS[name]
    return {**told, "responses": {**told.get("responses", {}), **refused}, "operation_id": name, "response_model": None}


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document, with the token and the headers that every request carries."""
    if app.openapi_schema:
        return app.openapi_schema
    made = get_openapi(
        title=app.title, version=f"wire {wire.VERSION}", routes=app.routes,
        description="How Blender and a backend talk; docs/wire.md tells the rest.",
    )  # fmt: skip
    made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in made["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            if path == wire.HEALTH_PATH:
                continue
            operation["security"] = [{"token": []}, {}]
            headers = [(wire.VERSION_HEADER, True, {"const": str(wire.VERSION)})]
            if path.startswith(wire.VIDEOS_PATH):
                headers.append((wire.CLIENT_HEADER, True, {"type": "string", "format": "uuid"}))
            if operation["operationId"] == "create":
                pattern = "^[A-Za-z0-9_-]{8,64}$"
                headers.append((wire.UPLOAD_KEY_HEADER, False, {"type": "string", "pattern": pattern}))
                headers.append((wire.PRIORITY_HEADER, False, {"type": "string", "pattern": "^u=[0-7]"}))
            operation.setdefault("parameters", []).extend(
                {"name": name, "in": "header", "required": needed, "schema": schema} for name, needed, schema in headers
            )
    app.openapi_schema = made
    return made
