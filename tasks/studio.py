"""The studio: a page on this machine on which a musician plays along with a model.

The page is ours and short. Gradio would bring a front end of its own in which tracks cannot be soloed in time with
each other; FastAPI is here already, through Prefect, and wavesurfer.js draws the waveforms. The page polls:
a playing goes on when the page is closed, so there is no connection whose end would have to mean something.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from models.accompanist import Accompanist
from models.sampling import ConsistencySampler
from tasks.studio_desk import FULL_DISK, Busy, Desk
from tasks.studio_history import History, download_name
from tasks.studio_wanted import Wanted
from tasks.studio_waveform import piece, waveform

HOST = "127.0.0.1"
ASSETS = Path(__file__).with_name("studio_assets")
LARGEST_UPLOAD_BYTES = 1 << 30  # half an hour of 24-bit stereo at 96 kHz
PAGE_HEADERS = {
    # wavesurfer.js styles what it draws with a <style> of its own
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; media-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

Answer = Callable[[Request], Awaitable[Response]]


def serve(player: Accompanist, folder: Path, port: int, opened: Callable[[str], None]) -> None:
    """Serve the page on the loopback address until interrupted; `opened` is given its address (port 0: a free one)."""
    with _listening(port) as listening:
        app = studio(player, History(folder))
        opened(f"http://{HOST}:{listening.getsockname()[1]}/")
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


def studio(player: Accompanist, history: History) -> FastAPI:
    """The page and what it asks for. Only pages of this very address may ask for anything to be done."""
    desk = Desk(player, history)

    @asynccontextmanager
    async def open_hours(app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(desk.close)
        history.close()

    app = FastAPI(lifespan=open_hours, docs_url=None, redoc_url=None, openapi_url=None)
    app.middleware("http")(_only_this_page)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])  # against DNS rebinding
    _say_errors_in_words(app)

    @app.get("/")
    def page() -> Response:
        return FileResponse(ASSETS / "studio.html")

    @app.get("/assets/{name}")
    def asset(name: str) -> Response:
        if name not in {path.name for path in ASSETS.iterdir()}:
            raise LookupError("there is no such file")
        return FileResponse(ASSETS / name)

    @app.get("/model")
    def model() -> dict[str, Any]:
        return about_model(player)

    @app.post("/sounds")
    async def drop(request: Request, name: str) -> dict[str, Any]:
        with history.making() as scratch:
            await _receive(request, scratch / "upload")
            return await run_in_threadpool(history.keep_sound, scratch / "upload", name)

    @app.get("/sounds/{sound}/waveform")
    def heard_waveform(sound: str) -> dict[str, Any]:
        return waveform(history.heard(sound))

    @app.get("/sounds/{sound}/piece")
    def heard_piece(sound: str, start_s: float, seconds: float) -> Response:
        return Response(piece(history.heard(sound), start_s, seconds), media_type="audio/wav")

    @app.post("/playings", status_code=202)
    def play(wanted: Wanted) -> dict[str, str]:
        return {"number": desk.submit(wanted)}

    @app.get("/playings")
    def playings() -> list[dict[str, Any]]:
        jobs = desk.jobs()  # first: one that ends meanwhile is told twice, and not missed
        done = history.playings()
        ended = {playing["number"] for playing in done}
        return [job for job in jobs if job["number"] not in ended] + done

    @app.delete("/playings/{number}", status_code=204)
    def drop_playing(number: str) -> None:
        if not desk.drop(number):
            history.forget(number)

    @app.post("/playings/{number}/{name}/sound")
    def take_up(number: str, name: str) -> dict[str, Any]:
        return history.take_up(number, name)

    @app.get("/playings/{number}/{name}/waveform")
    def part_waveform(number: str, name: str) -> dict[str, Any]:
        return waveform(history.part(number, name))

    @app.get("/playings/{number}/{name}/piece")
    def part_piece(number: str, name: str, start_s: float, seconds: float) -> Response:
        return Response(piece(history.part(number, name), start_s, seconds), media_type="audio/wav")

    @app.get("/playings/{number}/{name}")
    def part(number: str, name: str) -> Response:
        return FileResponse(history.part(number, name), media_type="audio/wav", filename=download_name(number, name))

    return app


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise ValueError(f"port {port} cannot be had: {error.strerror}; give another one with --port") from error


def about_model(player: Accompanist) -> dict[str, Any]:
    """What the page must know of the arm: its name, its own controls, and whether it takes prompts."""
    controls, sampler = player.controls, player.controls.sampler
    return {
        "arm": player.model.arm.name,
        "hears_styles": player.model.clap is not None,
        "steps": len(sampler.levels) if isinstance(sampler, ConsistencySampler) else sampler.steps,
        "guide_context": controls.guidance.context,
        "guide_clap": controls.guidance.clap,
        "stereo_width": controls.stereo_width,
    }


async def _receive(request: Request, path: Path) -> None:
    """The body as a file, as it comes; refused as soon as it is too large."""
    received = 0
    with path.open("wb") as file:
        async for piece in request.stream():
            received += len(piece)
            if received > LARGEST_UPLOAD_BYTES:
                raise HTTPException(413, f"the file has more than {LARGEST_UPLOAD_BYTES >> 20} MB; cut it into parts")
            file.write(piece)


async def _only_this_page(request: Request, answer: Answer) -> Response:
    """Another site's page in the same browser may neither ask for something to be done nor show this one."""
    own = f"http://{request.headers.get('host')}"
    if request.method not in ("GET", "HEAD") and request.headers.get("origin") != own:
        return JSONResponse({"detail": "only the studio's own page may ask for this"}, 403)
    response = await answer(request)
    response.headers.update(PAGE_HEADERS)
    return response


def _say_errors_in_words(app: FastAPI) -> None:
    """Every refusal is {"detail": a sentence}, which the page shows as it is."""

    def said(status: int) -> Callable[[Request, Exception], Response]:
        return lambda request, error: JSONResponse({"detail": str(error.args[0])}, status)

    app.exception_handler(LookupError)(said(404))
    app.exception_handler(ValueError)(said(400))
    app.exception_handler(Busy)(said(429))
    app.exception_handler(ClientDisconnect)(lambda request, error: Response(status_code=400))  # nobody reads it

    @app.exception_handler(OSError)
    def disk(request: Request, error: OSError) -> Response:
        full = error.errno == errno.ENOSPC
        return JSONResponse({"detail": FULL_DISK if full else str(error)}, 507 if full else 500)

    @app.exception_handler(RequestValidationError)
    def refused(request: Request, error: RequestValidationError) -> Response:
        said = "; ".join(f"{str(one['loc'][-1]).replace('_', ' ')}: {one['msg']}" for one in error.errors())
        return JSONResponse({"detail": said}, 422)
