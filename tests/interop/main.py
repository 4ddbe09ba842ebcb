"""The suites in order, and the total. `main.py --target DIR [SUITE…]`"""

import argparse
import functools
import sys

import credentials
import crt
import fixtures
import fleet
import harness
import operations
import page
import policies
import program
import programs
import refresh_tokens
import refusals
import servers
import signers
import stores
import walkthrough
from harness import Stage


def suites(target: str) -> dict:
    stage = functools.cache(lambda: Stage(target))
    return {
        "walkthrough": lambda: walkthrough.run(target),
        "live": lambda: walkthrough.live(target),
        "operations": lambda: operations.run(stage()),
        "credentials": lambda: credentials.run(stage()),
        "refusals": lambda: refusals.run(stage()),
        "policies": lambda: policies.run(target),
        "program": lambda: program.run(target),
        "programs": lambda: programs.run(target),
        "page": lambda: page.run(target),
        "fixtures": lambda: fixtures.run(target),
        "crt": lambda: crt.run(target),
        "signers": lambda: signers.run(target),
        "refresh_tokens": lambda: refresh_tokens.run(target),
        "moto": lambda: servers.run_moto(target),
        "stores": lambda: stores.run(target),
        "fleet": lambda: fleet.run(target),
        "ministack": lambda: servers.run_ministack(target, stage()),
    }


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--target", required=True, help="cargo's target directory")
    arguments.add_argument("suites", nargs="*", metavar="SUITE", help="one of those that suites() names; all by default")
    options = arguments.parse_args()
    known = suites(options.target)
    unknown = set(options.suites) - set(known)
    if unknown:
        arguments.error(f"no such suite: {', '.join(unknown)}")
    for name in options.suites or known:
        try:
            known[name]()
        except Exception as error:
            harness.report(f"{name}: runs to its end", f"{type(error).__name__}: {error}"[:300])
    return harness.total()


if __name__ == "__main__":
    sys.exit(main())
