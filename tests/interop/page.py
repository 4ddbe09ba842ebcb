"""The pool's page, in headless Chromium. The screenshots of the last run are in `screenshots/`, for whoever wants to look."""

import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness import HERE, SCRATCH, environment, report, suite
from program import Running


class Foreign(BaseHTTPRequestHandler):
    """A page of another origin."""

    def do_GET(self):
        body = b"<!doctype html><title>foreign</title><body>foreign</body>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def run(target: str) -> None:
    with suite("page"):
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        if not chromium:
            return report("page: there is a Chromium", "none was found, and none could be installed (apt-get install chromium)")
        screenshots = HERE / "screenshots"
        screenshots.mkdir(exist_ok=True)
        server = ThreadingHTTPServer(("127.0.0.1", 0), Foreign)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Running(target) as pool:
            given = SCRATCH / "page.json"
            given.write_text(
                json.dumps(
                    {
                        "url": pool.url,
                        "token": pool.env["COGNITO_LOCAL_ADMIN_TOKEN"],
                        "pool": pool.pool_id,
                        "chromium": chromium,
                        "foreign": f"http://127.0.0.1:{server.server_port}/",
                        "screenshots": str(screenshots),
                    }
                )
            )
            done = subprocess.run(
                ["node", HERE / "javascript" / "page.mjs", given], env=environment(), capture_output=True, text=True, timeout=240
            )
            said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
            for answer in said:
                note = f" ({answer['note']})" if answer.get("note") else ""
                report(f"page: {answer['check']}{note}", answer.get("error"))
            if done.returncode or not said:
                report("page: page.mjs runs to its end", done.stderr[-500:])
