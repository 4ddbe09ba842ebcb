"""The shared stores against servers that others wrote: dynalite and moto for DynamoDB, Debian's Redis."""

import shutil
import socket
import subprocess
from pathlib import Path

from harness import HERE, SCRATCH, SERVERS, check, environment, equal, free_port, serve, suite, until


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def conforms(command: list, **env: str) -> None:
    ended = subprocess.run(
        [str(part) for part in command], env=environment(**env), capture_output=True, text=True, timeout=180, check=False
    )
    equal((ended.returncode, ended.stderr), (0, ""))


def run(target: str) -> None:
    stage = Path(target) / "debug" / "interop_stage"
    with suite("stores"):
        for name, command in (
            ("dynalite", ["node", HERE / "node_modules" / "dynalite" / "cli.js", "--createTableMs", "10", "--port"]),
            ("moto", [SERVERS / "moto_server", "-H", "127.0.0.1", "-p"]),
        ):
            port = free_port()
            serve([*command, port], SCRATCH / f"{name}-dynamodb.log")
            until(lambda: listens(port), name, 60)
            with check(f"DynamoDbStore conforms on {name}"):
                conforms([stage, "store", f"http://127.0.0.1:{port}"])
        with check("the Valkey example conforms on Redis"):
            server = shutil.which("valkey-server") or shutil.which("redis-server")
            if not server:
                raise RuntimeError("neither valkey-server nor redis-server is installed")
            port = free_port()
            serve([server, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", SCRATCH], SCRATCH / "redis.log")
            until(lambda: listens(port), "redis", 30)
            conforms([Path(target) / "debug" / "examples" / "valkey_store"], VALKEY_URL=f"redis://127.0.0.1:{port}/")
