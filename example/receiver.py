"""A customer's side: verifies each webhook with the ``standardwebhooks`` package, and lists it.

``python -m example.receiver PORT``, with the endpoint's secret in ``WEBHOOK_SECRET``.
"""

import html
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

_PAGE = """<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=2>
<title>Received webhooks</title><style>body{{font:14px sans-serif;margin:2em}}
td,th{{padding:.3em 1em;text-align:left;vertical-align:top}}pre{{margin:0}}</style>
<h1>Received webhooks</h1><table>
<tr><th>#<th>type<th>verified<th>webhook-id<th>data{rows}</table>"""


class Handler(BaseHTTPRequestHandler):
    """Takes webhooks by POST; ``GET /log`` gives them as JSON, ``GET /`` as a page."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    secret = ""
    log: list[dict[str, Any]] = []

    def do_POST(self) -> None:  # http.server's name
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            message = Webhook(self.secret).verify(body, dict(self.headers.items()))
            is_verified = True
        except WebhookVerificationError:
            message, is_verified = json.loads(body), False
        self.log.append(
            {
                "id": self.headers["webhook-id"],
                "type": message["type"],
                "data": message["data"],
                "verified": is_verified,
                "received_at": time.time(),
            }
        )
        self._answer(204 if is_verified else 400)

    def do_GET(self) -> None:  # http.server's name
        if self.path == "/log":
            self._answer(200, "application/json", json.dumps(self.log))
            return
        rows = "".join(
            f"<tr><td>{number}<td>{html.escape(each['type'])}<td>{each['verified']}"
            f"<td>{html.escape(each['id'])}"
            f"<td><pre>{html.escape(json.dumps(each['data'], indent=1))}</pre>"
            for number, each in reversed(list(enumerate(self.log, 1)))
        )
        self._answer(200, "text/html", _PAGE.format(rows=rows))

    def _answer(self, status: int, kind: str = "text/plain", text: str = "") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's name
        """Keep the terminal for the table."""


if __name__ == "__main__":
    Handler.secret = os.environ["WEBHOOK_SECRET"]
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
