"""``maquette serve``."""

from __future__ import annotations

import argparse
import ipaddress
import json
import logging
import os
import secrets
import signal
import socket
import sqlite3
import sys
from importlib import metadata
from pathlib import Path

from ..catalogue.models import ModelError, find_specs
from ..wire import DEFAULT_PORT, MAX_QUEUE, MAX_UPLOAD
from .config import REGISTRY_ENGINES, ServerConfig
from .gpus import gpu_numbers, missing_gpus
from .upkeep import Upkeep, log_to


class ServeError(Exception):
    """The server cannot start; the message says why and what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``maquette serve``."""
    parser.description = (
        "Run a backend. A token, if there is one, comes from the environment variable MAQUETTE_TOKEN or "
        "from a file, never from the command line, where everybody on the computer could read it."
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this computer)"
    )
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of jobs and results (default: the user's)")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file that holds the token; made with a new token if missing"
    )
    parser.add_argument("--insecure", action="store_true", help="allow other computers without a token")
    parser.add_argument(
        "--models",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder with more models; may be repeated",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--device", help="device for the models, such as cuda:1 or cpu (default: the best there is)")
    where.add_argument(
        "--gpus", type=gpu_numbers, default=(), metavar="N,N...",
        help="an engine on each of these GPUs, by nvidia-smi's numbers; each runs a job at a time. 0+1,2+3: on two "
        "each, which make each film together",
    )  # fmt: skip
    parser.add_argument(
        "--executor", choices=("local", "ray"), default="local",
        help="where jobs run: on this computer, or as actors of a Ray cluster (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--ray-address", metavar="HOST:PORT", help="the cluster's head (default: one of this computer alone)"
    )
    parser.add_argument(
        "--workers", type=_positive, metavar="N",
        help="engines that share the device; each has a model in its memory (default: one, or one a GPU of --gpus or "
        "of the cluster)",
    )  # fmt: skip
    parser.add_argument(
        "--members", type=_positive, default=1, metavar="N",
        help="processes of each engine that make each film together: on the processor (on GPUs say --gpus 0+1), or "
        "with --executor ray actors with a GPU each, where the cluster has GPUs",
    )  # fmt: skip
    parser.add_argument(
        "--allow-downloads", action=argparse.BooleanOptionalAction, default=None,
        help="let Blender have published weights fetched to this computer, once the animator has agreed to their "
        "licences and sizes (default: only where nobody but this computer is let in)",
    )  # fmt: skip
    parser.add_argument(
        "--max-upload",
        type=_positive,
        default=MAX_UPLOAD >> 20,
        metavar="MIB",
        help="largest shot (default: %(default)s)",
    )
    parser.add_argument(
        "--max-queue", type=_positive, default=MAX_QUEUE, metavar="N", help="jobs that may wait (default: %(default)s)"
    )
    parser.add_argument(
        "--idle-unload", type=float, default=600.0, metavar="SECONDS",
        help="give the model's memory back after so long without a job (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--keep-days", type=_above_zero, metavar="N", help="delete results this many days after (default: keep them)"
    )
    parser.add_argument(
        "--keep-gigabytes", type=_above_zero, metavar="N", help="delete the oldest results beyond (default: keep them)"
    )
    parser.add_argument("--log-file", type=Path, metavar="FILE", help="append what is printed; kept below 2 x 16 MiB")
    parser.add_argument(
        "--users", type=Path, metavar="DIR",
        help="end when no process lives of which a file in DIR bears the number (Blender starts its own server so)",
    )  # fmt: skip
    parser.add_argument(
        "--idle-end", type=float, default=600.0, metavar="SECONDS",
        help="with --users: so long after the last of them, and once no job waits (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument("--tls-cert", type=Path, metavar="PEM", help="certificate, to be reached by https")
    parser.add_argument("--tls-key", type=Path, metavar="PEM", help="the certificate's key")
    parser.add_argument("--info-file", type=Path, metavar="JSON", help="write address and process number here once up")
    parser.add_argument("--verbose", action="store_true", help="log every request")
    parser.set_defaults(run=run_serve)


def run_serve(args: argparse.Namespace) -> int:
    """Serve until a signal. Raises ServeError when it cannot start."""
    token = _token(args.token_file)
    if not token and not args.insecure and not _is_this_computer(args.host):
        raise ServeError(
            f"--host {args.host} lets other computers in, but there is no token. Add --token-file FILE (made if "
            "missing), or --insecure if everybody who reaches this computer may use it."
        )
    for folder in args.models:
        if not folder.is_dir():
            raise ServeError(f"--models {folder}: there is no such folder.")
    try:
        find_specs(args.models)
    except ModelError as error:
        raise ServeError(f"--models: {error}.") from error
    if bool(args.tls_cert) != bool(args.tls_key):
        raise ServeError("--tls-cert and --tls-key go together.")
    if args.gpus and args.workers:
        raise ServeError("--gpus says how many engines there are: leave --workers out.")
    if args.members > 1 and args.executor == "local" and (args.gpus or str(args.device or "").startswith("cuda")):
        raise ServeError("--members is for the processor: say which GPUs work together by --gpus 0+1.")
    if args.gpus and args.executor == "ray":
        raise ServeError("--gpus is of this computer: with --executor ray say by --workers how many engines there are.")
    if args.ray_address and args.executor != "ray":
        raise ServeError("--ray-address goes with --executor ray.")
    if args.gpus and (problem := missing_gpus(args.gpus)):
        raise ServeError(problem)
    if args.allow_downloads and args.executor == "ray":
        raise ServeError(
            "--allow-downloads: in a Ray cluster weights are read on the nodes; run 'maquette models fetch' there."
        )
    cluster = ""
    if args.executor == "ray":
        from .ray_engine import ClusterError, connect, room_for

        try:
            cluster = connect(args.ray_address)
            room = room_for(args.members)
        except ClusterError as error:
            raise ServeError(str(error)) from error
        args.workers = args.workers or room
    config = ServerConfig(
        data=args.data or default_data_folder(),
        token=token,
        any_host=not _is_this_computer(args.host),
        device=args.device,
        gpus=args.gpus,
        workers=args.workers or 1,
        members=args.members,
        cluster=cluster,
        models=tuple(folder.resolve() for folder in args.models),
        engines=os.environ.get("MAQUETTE_ENGINES", REGISTRY_ENGINES),
        downloads=_downloads(args),
        max_upload=args.max_upload << 20,
        max_queue=args.max_queue,
        idle_unload=args.idle_unload,
        keep_days=args.keep_days,
        keep_gigabytes=args.keep_gigabytes,
        log_file=args.log_file and args.log_file.resolve(),
        users=args.users and args.users.resolve(),
        idle_end=args.idle_end,
    )
    if config.log_file is not None:
        log_to(config.log_file)
    serve(
        config, args.host, args.port, info_file=args.info_file, tls_cert=args.tls_cert, tls_key=args.tls_key,
        verbose=args.verbose,
    )  # fmt: skip
    return 0


def _downloads(args: argparse.Namespace) -> bool:
    if args.allow_downloads is not None:
        return bool(args.allow_downloads)
    return args.executor == "local" and _is_this_computer(args.host)


def serve(
    config: ServerConfig,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    info_file: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    verbose: bool = False,
) -> None:
    """Run a server in this process until SIGINT or SIGTERM; a job under way then waits for the next start.

    Args:
        info_file: receives ``{"address", "pid", "version"}`` once requests are answered; removed at the end.

    Raises:
        ServeError: the port, the data folder or the certificate cannot be used.
    """
    import uvicorn

    from .app import create_app
    from .connections import PatientProtocol
    from .database import StoreBroken, StoreInUse

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
    listener = _bind(host, port)
    try:
        config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        app = create_app(config, version())
    except StoreInUse as error:
        listener.close()
        raise ServeError(
            f"Another server works on {config.data}. Stop it, or give this one a folder of its own with --data."
        ) from error
    except (StoreBroken, sqlite3.Error, OSError) as error:
        listener.close()
        raise ServeError(f"The data folder {config.data} cannot be used: {error}.") from error

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                announce()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            upkeep.leave()
            await super().shutdown(sockets)

    scheme = "https" if tls_cert else "http"
    shown = f"[{host}]" if ":" in host else host
    address = f"{scheme}://{shown}:{listener.getsockname()[1]}"

    def announce() -> None:
        if info_file is not None:
            # Renamed into place: whoever waits for the file finds it complete.
            new = info_file.with_name(f"{info_file.name}.new")
            new.write_text(json.dumps({"address": address, "pid": os.getpid(), "version": version()}), "utf-8")
            os.replace(new, info_file)
        print(f"Maquette {version()} answers at {address}; jobs are kept in {config.data}", flush=True)

    try:
        settings = uvicorn.Config(
            app, log_config=None, log_level="info" if verbose else "warning", access_log=verbose, lifespan="on",
            timeout_graceful_shutdown=5, server_header=False, http=PatientProtocol,
            ssl_certfile=str(tls_cert) if tls_cert else None, ssl_keyfile=str(tls_key) if tls_key else None,
        )  # fmt: skip
        settings.load()
    except OSError as error:
        raise ServeError(f"The certificate cannot be used: {error}.") from error
    # uvicorn raises the signal again once it has stopped in order; there is nothing left to do then.
    previous = signal.signal(signal.SIGTERM, lambda *_: None)
    server = Server(settings)
    backend = app.state.backend

    def end() -> None:
        server.should_exit = True

    upkeep = Upkeep(config, backend.store, backend.files, end)
    upkeep.start()
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        upkeep.stop()
        signal.signal(signal.SIGTERM, previous)
        listener.close()
        if info_file is not None:
            info_file.unlink(missing_ok=True)


def default_data_folder() -> Path:
    """Where a server keeps its jobs when nothing else is said."""
    import platformdirs

    return Path(platformdirs.user_data_dir("maquette", appauthor=False)) / "server"


def version() -> str:
    """Of the installed package."""
    try:
        return metadata.version("maquette")
    except metadata.PackageNotFoundError:
        return "unknown"


def _bind(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        # getaddrinfo would quietly take the number modulo 65536.
        raise ServeError(f"--port {port}: a port is a number from 1 to 65535, or 0 for a free one.")
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, OverflowError, UnicodeError) as error:
        raise ServeError(f"--host {host} with --port {port} is no address to listen on ({error}).") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name != "nt":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
    except OSError as error:
        listener.close()
        raise ServeError(
            f"Port {port} of {host} cannot be used ({error.strerror}). If a backend runs there already, use that one "
            "or stop it; --port chooses another."
        ) from error
    return listener


def _token(path: Path | None) -> str:
    if path is None:
        return os.environ.get("MAQUETTE_TOKEN", "").strip()
    try:
        token = path.read_text("utf-8").strip()
    except FileNotFoundError:
        token = secrets.token_urlsafe(32)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(token + "\n")
        except OSError as error:
            raise ServeError(f"--token-file {path} cannot be made ({error.strerror}).") from error
        print(f"A new token is in {path}; enter it in Maquette's preferences in Blender.", flush=True)
    except (OSError, UnicodeDecodeError) as error:
        raise ServeError(f"--token-file {path} cannot be read ({error}).") from error
    if not token:
        raise ServeError(f"--token-file {path} is empty: write a token into it, or remove it to get a new one.")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ServeError(f"--token-file {path} must hold one word of plain characters.")
    return token


def _is_this_computer(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _above_zero(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
