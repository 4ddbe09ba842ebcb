"""Every measured number in README and the guides stands in the output of the bench that it names.

`numbers.py` checks; `numbers.py measure NAME…` runs benches and keeps their output in benches/figures.

- A measured number is one with a unit of measurement (ns, ×, allocations, bytes over …, an `N of M`): limits and settings (60
  seconds, 15 minutes) have none of these. It may stand only in a table row that names its bench in backquotes, or in a block that
  a program writes; and its page names the command and the date.
- Each number of such a row is found in benches/figures/NAME.txt, whose first line is the date that the page gives.
- The table of the peers and the plot name their command and date, and are as their programs write them.
"""

import re
import subprocess
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parent.parent
FIGURES = ROOT / "benches" / "figures"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MEASURED = re.compile(
    r"\d(?:[\d.,]*\d)?\s?(?:ns|µs|×|x the|allocations?\b|bytes over|times (?:faster|slower|as))|\bratio of \d|\b\d[\d,]* of \d[\d,]*\b"
)
NUMBER = re.compile(r"\d+(?:\.\d+)?")
WRITTEN = re.compile(r"<!-- (\w+): written by `([^`]+)` -->\n(.*?)<!-- /\1 -->", re.DOTALL)
DATE = re.compile(r"\b20\d\d-\d\d-\d\d\b")
COMMAND = re.compile(r"`cargo bench [^`]*--bench NAME`")


def numbers(text: str) -> list[float]:
    # Names in backquotes have none.
    return [float(number) for number in NUMBER.findall(re.sub(r"`[^`]*`", "", text).replace(",", ""))]


def row_problems(page: str, line: str, dates: set[str]) -> list[str]:
    cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
    named = [cell.strip("`") for cell in cells if re.fullmatch(r"`\w+`", cell)]
    if len(named) != 1:
        return [f"{page}: a measured number, and no bench is named: {line.strip()}"]
    file = FIGURES / f"{named[0]}.txt"
    if not file.exists():
        return [f"{page}: there is no {file.relative_to(ROOT)}: {line.strip()}"]
    output = file.read_text()
    found = set(numbers(output))
    problems = [f"{page}: {number:g} is not in {file.relative_to(ROOT)}: {line.strip()}" for number in numbers(line) if number not in found]
    if output.splitlines()[0] not in dates:
        problems.append(f"{page}: {file.name} is of {output.splitlines()[0]}, which the page does not say")
    return problems


def written_problems(page: str, name: str, command: str, text: str) -> list[str]:
    lines = text.strip().splitlines()
    if not lines:
        return [f"{page}: the table `{name}` is empty: run {command}"]
    problems = []
    if not DATE.match(lines[0]) or f"`{command}`" not in lines[0]:
        problems.append(f"{page}: the table `{name}` does not begin with its date and `{command}`")
    rows = [line.strip().strip("|").split("|") for line in lines if line.startswith("|")]
    if len(rows) < 3 or len({len(row) for row in rows}) != 1:
        problems.append(f"{page}: the table `{name}` is not as {command} writes it")
    if any(not cell.strip() for row in rows[2:] for cell in row):
        problems.append(f"{page}: the table `{name}` has an empty cell")
    if name == "peers" and not any(line.startswith("Versions: ") for line in lines):
        problems.append(f"{page}: the table `{name}` names no versions")
    return problems


def page_problems(path: Path) -> tuple[int, list[str]]:
    page, text = path.relative_to(ROOT).as_posix(), path.read_text()
    checked, problems = 0, []
    for name, command, inside in WRITTEN.findall(text):
        checked += 1
        problems += written_problems(page, name, command, inside)
    text = WRITTEN.sub("", text)
    measured = [line for line in text.splitlines() if MEASURED.search(line)]
    for line in measured:
        checked += 1
        problems += row_problems(page, line, set(DATE.findall(text)))
    if measured and not (COMMAND.search(text) and DATE.search(text)):
        problems.append(f"{page}: measured numbers without a date, or without `cargo bench … --bench NAME`")
    return checked, problems


def plot_problems(path: Path) -> list[str]:
    if not path.exists():
        return [f"no {path.name}: run cargo bench --bench refresh"]
    text, problems = path.read_text(), []
    said = re.search(r"<desc>(\d{4}-\d\d-\d\d), cargo bench --bench (\w+)", text)
    if not said:
        problems.append(f"{path.name} does not say when and by which bench it was drawn")
    if "\n\n" in text:
        problems.append(f"{path.name} has a blank line, which ends it in the documentation")
    points = [len(line.split()) for line in re.findall(r'<polyline points="([^"]+)"', text)]
    if len(points) != 4 or min(points, default=0) < 90:
        problems.append(f"{path.name} has {points} points, not four lines of a hundred refreshes")
    return problems


def measure(names: list[str]) -> None:
    FIGURES.mkdir(exist_ok=True)
    for name in names:
        command = ["cargo", "bench", "--locked", "--quiet", "--all-features", "--bench", name]
        output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout
        (FIGURES / f"{name}.txt").write_text(f"{date.today().isoformat()}\n{output}")
        print(output)


def main() -> int:
    if sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2:])
        return 0
    checked, problems = 1, plot_problems(ROOT / "docs" / "refreshes.svg")
    for page in PAGES:
        seen, wrong = page_problems(page)
        checked += seen
        problems += wrong
    print(*problems, sep="\n")
    print(f"{max(checked - len(problems), 0)} passed, {len(problems)} failed")
    return 1 if problems or checked < 10 else 0


if __name__ == "__main__":
    sys.exit(main())
