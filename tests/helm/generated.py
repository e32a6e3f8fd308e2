"""Parts of the chart that are made from elsewhere: `generated.py --update` writes them anew, `test_generated.py` compares.

- `files/variables.txt`: the program's variables, from the README's table, which is what `carillon config --markdown` prints
- `files/followed.txt`: those of them that a node takes over when their files change, from the marks in the same table
- `files/dashboard.json`, `files/rules.yaml`: copies of those in `grafana/`, as a chart can't read files outside of itself
- `appVersion` in `Chart.yaml`: the version in `Cargo.toml`
- the table of values in the chart's README, from the comments in `values.yaml`
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from chart import CHART, ROOT, StrictLoader, cargo_version, documented_variables, followed_variables

COPIES = {"files/dashboard.json": ROOT / "grafana" / "dashboard.json", "files/rules.yaml": ROOT / "grafana" / "rules.yaml"}

Row = tuple[str, object, str]


def meaning_above(lines: list[str], line: int) -> str | None:
    """The comment right above a line that begins with `# -- `, as one line."""
    comment: list[str] = []
    for text in reversed(lines[:line]):
        found = re.fullmatch(r" *# ?(.*)", text)
        if not found:
            return None
        comment.insert(0, found[1].removeprefix("-- "))
        if found[1].startswith("-- "):
            return " ".join(comment)
    return None


def rows() -> Iterator[Row]:
    """Every value that has a comment of its own: its path, its default, its meaning."""
    text = (CHART / "values.yaml").read_text()
    lines = text.splitlines()
    plain = yaml.load(text, StrictLoader)

    def of(node: yaml.MappingNode, path: tuple[str, ...], value: dict[str, object]) -> Iterator[Row]:
        for key, below in node.value:
            name = (*path, key.value)
            default = value[key.value]
            if meaning := meaning_above(lines, key.start_mark.line):
                yield ".".join(name), default, meaning
            elif isinstance(below, yaml.MappingNode) and below.value:
                yield from of(below, name, default)
            else:
                raise ValueError(f"values.yaml: {'.'.join(name)} has no comment that begins with '# -- '")

    yield from of(yaml.compose(text), (), plain)


def values_table() -> str:
    table = ["| value | default | meaning |", "|---|---|---|"]
    for name, default, meaning in rows():
        shown = json.dumps(default, ensure_ascii=False)
        table.append(f"| `{name}` | `{shown}` | {meaning} |")
    return "\n".join(table) + "\n"


def with_values_table(readme: str) -> str:
    begin, end = "<!-- values:begin -->\n", "<!-- values:end -->"
    before, rest = readme.split(begin)
    _, after = rest.split(end)
    return before + begin + values_table() + end + after


def wanted() -> dict[Path, str]:
    """What the files that are made, or have a part that is made, should be."""
    files = {CHART / "files" / "variables.txt": "\n".join(documented_variables()) + "\n",
             CHART / "files" / "followed.txt": "\n".join(followed_variables()) + "\n"}
    for copy, original in COPIES.items():
        if original.exists():
            files[CHART / copy] = original.read_text()
    about = (CHART / "Chart.yaml").read_text()
    files[CHART / "Chart.yaml"] = re.sub(r'^appVersion: .*$', f'appVersion: "{cargo_version()}"', about, flags=re.M)
    files[CHART / "README.md"] = with_values_table((CHART / "README.md").read_text())
    return files


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit(__doc__)
    for path, text in wanted().items():
        path.write_text(text)
