"""The suites in order, and the total. `main.py --target DIR [SUITE…]`"""

import argparse
import shutil
import sys

import harness
import walkthrough

SUITES = {
    "walkthrough": walkthrough.run,
}


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--target", required=True, help="cargo's target directory")
    arguments.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; all by default")
    options = arguments.parse_args()
    unknown = set(options.suites) - set(SUITES)
    if unknown:
        arguments.error(f"no such suite: {', '.join(unknown)}")
    try:
        for name in options.suites or SUITES:
            SUITES[name](options.target)
    finally:
        harness.stop_all()
        shutil.rmtree(harness.SCRATCH, ignore_errors=True)
    return harness.total()


if __name__ == "__main__":
    sys.exit(main())
