"""Dead links of the built documentation and of the packaged README: `links.py TARGET_DIR README`.

Links within the documentation must lead to a page (and, where they name one, to an element of it); links of the README to
docs.rs must lead to a page of this build. Other hosts are not asked: the answer would change without us.
"""

import re
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

CRATE = "cognito_identity_pool"
DOCS = f"https://docs.rs/cognito-identity-pool/latest/{CRATE}/"
SOURCE = "https://docs.rs/crate/cognito-identity-pool/latest/source/"


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        # How deep inside the blanket implementations: their texts are other crates', and so are the links in them.
        self.foreign = 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "div" and (self.foreign or given.get("id") == "blanket-implementations-list"):
            self.foreign += 1
        if given.get("id"):
            self.ids.add(unquote(given["id"]))
        if tag == "a" and given.get("href") and not self.foreign:
            self.links.append(given["href"])

    def handle_endtag(self, tag):
        if tag == "div" and self.foreign:
            self.foreign -= 1


@cache
def page(path: Path) -> Page:
    return Page(path.read_text())


def problem(base: Path, link: str) -> str | None:
    target, fragment = urldefrag(unquote(link))
    path = (base.parent / target).resolve() if target else base
    if path.is_dir():
        path = path / "index.html"
    if not path.exists():
        return "no such page"
    # Line numbers of source pages are made by a script.
    if fragment and path.suffix == ".html" and not re.fullmatch(r"[\d-]+", fragment) and fragment not in page(path).ids:
        return f"no element {fragment}"
    return None


def main() -> int:
    docs, readme = Path(sys.argv[1]) / "doc" / CRATE, Path(sys.argv[2])
    checked, dead = 0, []
    for path in sorted(docs.rglob("*.html")):
        for link in set(page(path).links):
            if link.startswith(DOCS):
                found = problem(docs / "index.html", link.removeprefix(DOCS) or "index.html")
            elif link.startswith(SOURCE):
                inside = readme.parent / link.removeprefix(SOURCE)
                found = None if inside.exists() else "no such file"
            elif re.match(r"[a-z_]+:", link):
                continue
            else:
                found = problem(path, link)
            checked += 1
            if found:
                dead.append(f"{path.relative_to(docs)}: {link}: {found}")
    for link in re.findall(r"\]\(([^)\s]+)\)", readme.read_text()):
        checked += 1
        if link.startswith(DOCS):
            found = problem(docs / "index.html", link.removeprefix(DOCS) or "index.html")
        elif link.startswith(SOURCE):
            found = None if (readme.parent / link.removeprefix(SOURCE)).exists() else "no such file"
        elif re.match(r"[a-z_]+:", link):
            found = None
        else:
            found = "a relative link is dead on docs.rs and crates.io"
        if found:
            dead.append(f"{readme.name}: {link}: {found}")
    print(*dead, sep="\n")
    print(f"{checked - len(dead)} passed, {len(dead)} failed")
    return 1 if dead or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
