"""The local pool's verdicts on trust policies against those of a simulator of IAM that nobody here wrote."""

import json
import subprocess
from pathlib import Path

import harness
from harness import HERE, SCRATCH, report, suite

SCRIPT = HERE / "javascript" / "policies.mjs"


def output(command: list) -> str:
    done = subprocess.run(command, env=harness.environment(), capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(done.stderr[-500:])
    return done.stdout


def run(target: str) -> None:
    with suite("policies"):
        asked, answered = SCRATCH / "policies.json", SCRATCH / "verdicts.json"
        output(["node", SCRIPT, "corpus", asked])
        answered.write_text(output([Path(target) / "debug" / "interop_stage", "judge", asked]))
        for line in output(["node", SCRIPT, "compare", asked, answered]).splitlines():
            said = json.loads(line)
            report(said["name"], said["problem"])
