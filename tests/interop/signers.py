"""Who signs what Rust libraries send that nobody here wrote: the tests of the stage's package, a check each."""

import os
import re
import subprocess

from harness import HERE, report, suite


def run(target: str) -> None:
    with suite("signers"):
        command = ["cargo", "test", "--locked", "--quiet", "--test", "signers", "--", "--format=pretty"]
        environment = {**os.environ, "CARGO_TARGET_DIR": target}
        tests = subprocess.run(command, cwd=HERE / "stage", env=environment, capture_output=True, text=True)
        results = re.findall(r"^test (\w+) \.\.\. (\w+)", tests.stdout, re.MULTILINE)
        for name, result in results:
            failure = tests.stdout.partition(f"---- {name} stdout ----")[2].strip()
            report(name.replace("_", " "), None if result == "ok" else failure[:600])
        if not results:
            raise RuntimeError(tests.stderr[-600:])
