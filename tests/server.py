"""A server for tests: `server.py PORT answers|silent|leaves`."""

from __future__ import annotations

import http.server
import sys
import time


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.path}\n".encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    port, manner = int(sys.argv[1]), sys.argv[2]
    if manner == "leaves":
        sys.exit("error: no model to serve")
    if manner == "silent":
        time.sleep(3600)
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
