"""The handler of examples/python `GET /report` for functions-framework: the same report, the same answer and the same
line in the log; only what stands between it and the socket is another."""

import json
import sys
from pathlib import Path

from flask import Request, Response

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples/python/app"))

import report as order_book  # noqa: E402 (found through the line above)


def answer(request: Request) -> Response:
    text = json.dumps(order_book.summary(request.args.to_dict()), indent=2, ensure_ascii=False) + "\n"
    print(f"{request.full_path.rstrip('?')} 200")
    return Response(text, content_type="application/json")
