"""The fixtures of `examples/`, run by what they are for: pytest, and the test runner of Node."""

import shutil
import subprocess

from harness import CLIENTS, HERE, SCRATCH, check, environment, program, suite

EXAMPLES = HERE.parent.parent / "examples"


def run(target: str) -> None:
    env = environment(COGNITO_IDENTITY_POOL_PROGRAM=str(program(target)))

    def passes(*command, cwd) -> None:
        done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise AssertionError((done.stdout + done.stderr)[-1500:])

    with suite("fixtures"):
        # Copies, as their users have them: nothing is written beside the examples.
        with check("examples/pytest: its tests pass"):
            folder = SCRATCH / "pytest"
            shutil.copytree(EXAMPLES / "pytest", folder)
            passes(CLIENTS / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", ".", cwd=folder)
        with check("examples/javascript: its tests pass"):
            folder = SCRATCH / "fixture-javascript"
            shutil.copytree(EXAMPLES / "javascript", folder)
            (folder / "node_modules").symlink_to(HERE / "node_modules")
            passes("node", "--test", "pool.test.mjs", cwd=folder)


