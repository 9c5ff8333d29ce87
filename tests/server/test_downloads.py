"""Weights that a client has a backend fetch: a real server process, a hub on this computer, both over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from maquette.backend.catalogue.models import ModelSpec
from maquette.backend.catalogue.weights_offer import WeightsOffer
from maquette.backend.cli import _parser
from maquette.backend.client import BackendError
from maquette.backend.client.command import CommandReport
from maquette.backend.client.download import RemoteFetch
from maquette.backend.models.registry import status
from maquette.backend.models.weights.fetch import place
from maquette.backend.server.config import ServerConfig
from maquette.backend.server.downloads import Downloads
from maquette.backend.server.errors import ApiError
from maquette.backend.server.serve import ServeError, _downloads, run_serve
from maquette.backend.wire import Code, Status

from ..models.weights.families import FAMILIES
from ..models.weights.hub import COMMIT, Hub, repository
from .harness import ALICE, BOB, Server, until

MODEL = "vace-1.3b"
PUBLISHER = "Wan-AI/Wan2.1-VACE-1.3B-diffusers"


class Place:
    """A hub, a server that may fetch from it, and where its weights go."""

    def __init__(self, hub: Hub, server: Server, spec: ModelSpec, folder: Path) -> None:
        self.hub, self.server, self.spec, self.folder = hub, server, spec, folder

    def run(self, commits: dict[str, str] | None = None, who: str = ALICE) -> RemoteFetch:
        return RemoteFetch(self.server.address, self.server.token, who, self.folder / "scratch", MODEL, commits)

    def ended(self, run: RemoteFetch) -> CommandReport:
        return until(lambda: (found := run.poll()).state != "running" and found, what="the download's end")


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("downloads")
    tiny = FAMILIES[MODEL]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAQUETTE_WEIGHTS", str(folder / "weights"))
        spec = tiny.describe(folder / "models")
        tiny.publish(spec, tiny.states(spec), folder / "tree")
        parts = [path.name for path in (folder / "tree").iterdir()]
        files = repository(folder / "tree", *parts)
        more = {f"tokenizer/{name}": b"{}" for name in ("special_tokens_map.json", "spiece.model")}
        with Hub({PUBLISHER: {**more, **files}}) as hub:
            arguments = ("--models", str(folder / "models"))
            with Server(folder, *arguments, HF_ENDPOINT=hub.address, HF_TOKEN="hf_bad") as server:
                yield Place(hub, server, spec, folder)


def nothing_installed(stand: Place) -> bool:
    return not stand.spec.folder.exists() and not status(stand.spec).available


def test_the_offer_comes_first_and_nothing_without_a_yes(stand):
    run = stand.run()
    assert stand.ended(run).state == "done"
    offer = WeightsOffer.from_json(run.printed())
    said = "\n".join(offer.facts())
    for words in (f"{PUBLISHER}: ", "licence: Apache-2.0; its text: http", "LICENSE.txt", "GB are free there"):
        assert words in said, words
    assert offer.commits == {PUBLISHER: COMMIT} and offer.folder == str(stand.spec.folder.parent) and not offer.lack
    assert stand.hub.asked == [] and nothing_installed(stand)
    with stand.server.client() as client:
        for commits in ({}, {"somebody/else": COMMIT}):
            with pytest.raises(BackendError, match=f"commits: must name the commit of {PUBLISHER}"):
                client.begin_download(MODEL, commits)
        with pytest.raises(BackendError, match="No download of .* was begun since"):
            client.model_download(MODEL)
        for call in (client.offer, client.model_download, client.cancel_download):
            with pytest.raises(BackendError, match="has no model 'nobody'"):
                call("nobody")
        with pytest.raises(BackendError, match="no published weights"):
            client.offer("isa-nano")
        assert client.health()["downloads"] is True
    for headers in ({}, {**stand.server.headers(), "Authorization": "Bearer no"}):
        answer = requests.post(f"{stand.server.address}/v1/models/{MODEL}/download", headers=headers, timeout=60)
        assert answer.status_code == 401
    assert stand.hub.asked == []


def test_what_goes_wrong_is_one_sentence_and_nothing_is_half_installed(stand):
    agreed = {PUBLISHER: COMMIT}
    kept, stand.hub.repositories = stand.hub.repositories, {}
    run = stand.run()
    report = stand.ended(run)
    assert report.state == "failed" and f"{PUBLISHER} is not there, or not for everybody" in report.message
    assert run.printed() is None
    stand.hub.repositories = kept
    stand.hub.gated = {PUBLISHER}
    report = stand.ended(stand.run(agreed))
    assert report.state == "failed" and "accept its licence: do so at" in report.message and nothing_installed(stand)
    stand.hub.gated = set()
    stand.hub.wrong = {"scheduler/scheduler_config.json"}
    report = stand.ended(stand.run(agreed))
    assert report.state == "failed" and "otherwise than its publisher has it" in report.message
    assert nothing_installed(stand)
    stand.hub.wrong = set()
    stand.hub.claims = {"scheduler/scheduler_config.json": 10**18}
    report = stand.ended(stand.run(agreed))
    assert report.state == "failed" and "GB are needed and" in report.message and "make room" in report.message
    stand.hub.claims = {}
    assert nothing_installed(stand) and stand.hub.infos == ["", *3 * [COMMIT]], "what was agreed to is what comes"


def test_it_can_be_cancelled_followed_by_others_and_goes_on(stand):
    agreed = {PUBLISHER: COMMIT}
    stand.hub.stall = 20
    run = stand.run(agreed)
    moving = until(lambda: (found := run.poll()).share > 0 and found, what="progress")
    assert "Fetching" in moving.label and "GB" in moving.label
    with stand.server.client(BOB) as other:
        # Whoever asks for the same follows what is under way; anything else waits.
        assert other.begin_download(MODEL, agreed).status == Status.IN_PROGRESS
        entries = {entry["id"]: entry for entry in other.models()}
        assert MODEL not in entries, "the stand-in engines name other models"
    run.cancel()
    assert stand.ended(run).state == "cancelled" and nothing_installed(stand)
    with stand.server.client(BOB) as other:
        assert other.model_download(MODEL).status == Status.CANCELLED
        assert other.cancel_download(MODEL).status == Status.CANCELLED
    folder = place(stand.spec) / PUBLISHER.replace("/", "--")
    came = {str(path.relative_to(folder)) for path in folder.rglob("*.*") if path.suffix != ".part" and path.is_file()}
    assert came, "what was finished stays"
    stand.hub.stall = None
    stand.hub.go.set()
    stand.hub.asked.clear()
    # Blender may close: the backend goes on with what was agreed to.
    leaving = stand.run(agreed)
    until(lambda: stand.hub.asked, what="the first file asked for")
    leaving.close()
    with stand.server.client() as client:
        view = until(lambda: (found := client.model_download(MODEL)).ended and found, what="the end")
        assert view.status == Status.COMPLETED and view.progress == 100
        with pytest.raises(BackendError, match="is here already"):
            client.offer(MODEL)
    assert status(stand.spec).available and not place(stand.spec).exists()
    assert not came & {path for path, _ in stand.hub.asked}, "it went on where it had stopped"


def test_who_runs_the_backend_decides():
    def allowed(*, allow: bool | None = None, host: str = "127.0.0.1", executor: str = "local") -> bool:
        return _downloads(SimpleNamespace(allow_downloads=allow, host=host, executor=executor))

    assert allowed() and not allowed(host="0.0.0.0") and not allowed(allow=False) and not allowed(executor="ray")
    assert allowed(allow=True, host="0.0.0.0")
    with pytest.raises(ServeError, match="--allow-downloads: in a Ray cluster"):
        run_serve(_parser("serve").parse_args(["serve", "--executor", "ray", "--allow-downloads"]))


def test_a_backend_that_may_not_says_what_cures_it(tmp_path: Path):
    for config, words in (
        (ServerConfig(tmp_path), "starts it with --allow-downloads, or runs 'maquette models fetch' there"),
        (ServerConfig(tmp_path, downloads=True, cluster="2 nodes"), "run 'maquette models fetch' on these"),
    ):
        downloads = Downloads(config)
        for call in (downloads.offer, lambda model: downloads.start(model, {}), downloads.view, downloads.cancel):  # noqa: B023
            with pytest.raises(ApiError, match=words) as caught:
                call(MODEL)
            assert (caught.value.status, caught.value.body["error"]["code"]) == (403, Code.NOT_ALLOWED)
