"""The licences, bans and sources of deny.toml, without cargo-deny: `cargo metadata | dependencies.py deny.toml`.

The metadata of `--all-features` holds every package that some feature set brings in, development's included.
"""

import json
import re
import sys
import tomllib


def allowed(expression: str, allow: set[str]) -> bool:
    """Whether the SPDX expression can be satisfied with the allowed licences. `AND` binds tighter than `OR`."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))
    position = 0

    def peek() -> str | None:
        return tokens[position] if position < len(tokens) else None

    def take() -> str:
        nonlocal position
        position += 1
        return tokens[position - 1]

    def either() -> bool:
        answer = both()
        while peek() == "OR":
            take()
            answer = both() or answer
        return answer

    def both() -> bool:
        answer = one()
        while peek() == "AND":
            take()
            answer = one() and answer
        return answer

    def one() -> bool:
        if peek() == "(":
            take()
            answer = either()
            take()
            return answer
        licence = take()
        if peek() == "WITH":
            take()
            licence = f"{licence} WITH {take()}"
        return licence in allow

    return either() and position == len(tokens)


def banned(package: dict, rule: str) -> bool:
    """Whether `name` or `name@1.2` (as in Cargo.toml: that version and what is compatible) names the package."""
    name, _, version = rule.partition("@")
    if package["name"] != name:
        return False
    return not version or (package["version"] + ".").startswith(version + ".")


def main() -> int:
    with open(sys.argv[1], "rb") as file:
        rules = tomllib.load(file)
    packages = json.load(sys.stdin)["packages"]
    allow = set(rules["licenses"]["allow"])
    faults = []
    for package in packages:
        name = f"{package['name']} {package['version']}"
        licence = package["license"]
        if not licence or not allowed(licence, allow):
            faults.append(f"licence: {name} is under {licence or 'no licence that is named'}")
        for rule in rules["bans"]["deny"]:
            if banned(package, rule["crate"]):
                faults.append(f"ban: {name} ({rule['crate']})")
        source = package["source"]
        if source and not source.startswith("registry+https://github.com/rust-lang/crates.io-index"):
            faults.append(f"source: {name} comes from {source}")
    for fault in faults:
        print(fault)
    print(f"{len(packages)} packages, {len(faults)} faults")
    return 1 if faults or len(packages) < 2 else 0


if __name__ == "__main__":
    sys.exit(main())
