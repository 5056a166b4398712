"""Calls of other functions of the application: what a chain of functions is made of."""

import gc
import json
import re
from dataclasses import dataclass

from componentize_py_types import Err, Ok
from wit_world.imports import outgoing_handler
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import Fields, IncomingBody, IncomingResponse, OutgoingRequest, Scheme_Http

# A name that can stand in a host name; whatever else is asked for is no function.
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
ANSWER_BYTES_MAX = 1 << 16


# What is there before the first request is not looked through again.
gc.freeze()


@dataclass
class NotRelayed(Exception):
    """The next function gave no answer that can be used; the text says why."""

    reason: str


def pass_on(path: str) -> dict:
    """`/relay/two/three` asks the function `two` for `/relay/three`, and so on; the last one asks nobody."""
    name, _, rest = path.removeprefix("/relay").strip("/").partition("/")
    if not name:
        return {"functions": 1}
    if not NAME.fullmatch(name):
        raise NotRelayed("no such function")
    answer = json.loads(fetch(f"{name}.forerun.internal", f"/relay/{rest}"))
    # An exception, such as that at the end of a stream, and the frame it was caught in may hold each other, and with
    # them what the host gave. It wants that back before the VM can serve another request.
    gc.collect()
    return {"functions": answer["functions"] + 1}


def fetch(host: str, path: str) -> bytes:
    request = OutgoingRequest(Fields.from_list([]))
    request.set_scheme(Scheme_Http())
    request.set_authority(host)
    request.set_path_with_query(path)
    try:
        future = outgoing_handler.handle(request, None)
    except Err as error:
        raise NotRelayed(f"{host} cannot be called: {error.value}") from error
    with future, future.subscribe() as ready:
        ready.block()
        outcome = future.get()
    if not isinstance(outcome, Ok) or not isinstance(outcome.value, Ok):
        raise NotRelayed(f"{host} does not answer")
    with outcome.value.value as response:
        if response.status() != 200:
            raise NotRelayed(f"{host} answers {response.status()}")
        return read(response)


def read(response: IncomingResponse) -> bytes:
    body = bytearray()
    incoming = response.consume()
    with incoming.stream() as stream:
        while len(body) <= ANSWER_BYTES_MAX:
            try:
                body += stream.blocking_read(ANSWER_BYTES_MAX)
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    break
                raise NotRelayed("the answer broke off") from error
    with IncomingBody.finish(incoming):
        # The trailers are not looked at, and given back.
        return bytes(body)
