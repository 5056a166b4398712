"""The function's entry point: turns `wasi:http` 0.2 requests into calls of the
workers and streams what they give. Knows nothing of reports or texts.

| request | answer |
|---|---|
| `GET /report?currency=EUR&since=2026-01-01` | totals of the order book as JSON |
| `GET /report/stream?pause_ms=50` | the same orders as CSV, row by row |
| `POST /analyse` | words, addresses, dates and digests of the text sent |
| `GET /draw` | a random number |
| `GET /visits?from=ada` | how often it was asked, by a counter of this module |
| `GET /relay/two/three` | calls function `two` of the application, which calls `three` |
"""

import json
import random
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import analyse
import relay
import report
from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.monotonic_clock import subscribe_duration
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingBody,
    IncomingRequest,
    Method_Get,
    Method_Post,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

# `blocking-write-and-flush` accepts at most this many bytes.
CHUNK_BYTES = 4096
# A text is held in memory as a whole while it is analysed.
TEXT_BYTES_MAX = 1 << 20
PAUSE_MS_MAX = 10_000


@dataclass
class Reply:
    """An answer whose body is produced while it is sent."""

    status: int
    content_type: str
    body: Iterable[bytes]


# A server would count for as long as it runs. A function's VM is put back after each request, so that this stays 1, unless
# the manifest has its VMs kept as they are.
visits: Counter[str] = Counter()


class BadRequest(Exception):
    """What the client sent can't be served; the text says why."""


class IncomingHandler(exports.IncomingHandler):
    """The export of every function."""

    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        target = request.path_with_query() or "/"
        try:
            reply = route(request, target)
        except (BadRequest, report.BadQuery) as error:
            reply = as_json(400, {"error": str(error)})
        except relay.NotRelayed as error:
            reply = as_json(502, {"error": error.reason})
        except Exception:
            traceback.print_exc()
            reply = as_json(500, {"error": "internal error"})
        print(f"{target} {reply.status}")
        send(reply, response_out)


class Warm(exports.Warm):
    """What a VM does that is put back to the state after the warm-up requests (`reuse = "warm"`)."""

    def renew(self) -> None:
        """The interpreter seeds its generator at its first request; that would be the same seed for all others."""
        random.seed()


def route(request: IncomingRequest, target: str) -> Reply:
    url = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    match request.method(), url.path.rstrip("/"):
        case Method_Get(), path if path.endswith("/report"):
            return as_json(200, report.summary(query))
        case Method_Get(), path if path.endswith("/report/stream"):
            return Reply(200, "text/csv; charset=utf-8", paced(report.rows(query), query))
        case Method_Post(), path if path.endswith("/analyse"):
            return as_json(200, analyse.text(read_text(request)))
        case Method_Get(), path if path.endswith("/draw"):
            return as_json(200, {"number": random.getrandbits(64)})
        case Method_Get(), path if path.endswith("/visits"):
            visits[query.get("from", "nobody")] += 1
            return as_json(200, {"visits": visits.total()})
        case Method_Get(), path if path == "/relay" or path.startswith("/relay/"):
            return as_json(200, relay.pass_on(path))
        case _:
            return as_json(404, {"error": "no such path", "try": ["/report", "/report/stream", "/analyse", "/visits", "/relay"]})


def as_json(status: int, value: object) -> Reply:
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return Reply(status, "application/json", [text.encode()])


def paced(rows: Iterable[bytes], query: dict[str, str]) -> Iterable[bytes]:
    """Waits before every row but the first, so that a client sees the stream."""
    try:
        pause_ms = min(int(query.get("pause_ms", "0")), PAUSE_MS_MAX)
    except ValueError as error:
        raise BadRequest("pause_ms is not a number") from error

    def wait_between():
        for index, row in enumerate(rows):
            if index > 0 and pause_ms > 0:
                with subscribe_duration(pause_ms * 1_000_000) as pause:
                    pause.block()
            yield row

    return wait_between()


def read_text(request: IncomingRequest) -> str:
    """The whole body, up to the limit."""
    body = bytearray()
    incoming = request.consume()
    with incoming.stream() as stream:
        while len(body) <= TEXT_BYTES_MAX:
            try:
                body += stream.blocking_read(CHUNK_BYTES * 16)
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    break
                raise BadRequest("the body broke off") from error
    IncomingBody.finish(incoming)
    if len(body) > TEXT_BYTES_MAX:
        raise BadRequest(f"the text is longer than {TEXT_BYTES_MAX} bytes")
    return body.decode(errors="replace")


def send(reply: Reply, response_out: ResponseOutparam) -> None:
    headers = Fields.from_list([("content-type", reply.content_type.encode())])
    response = OutgoingResponse(headers)
    response.set_status_code(reply.status)
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    try:
        with body.write() as stream:
            for piece in reply.body:
                for start in range(0, len(piece), CHUNK_BYTES):
                    stream.blocking_write_and_flush(piece[start : start + CHUNK_BYTES])
    except Err:
        return  # the client went away
    OutgoingBody.finish(body, None)
