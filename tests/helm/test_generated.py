"""What is made from elsewhere is up to date, and values, schema and README have the same names."""

from __future__ import annotations

import json
import re
import unittest

import generated
from chart import CHART, ROOT, Object, read_yaml, values_files


def leaves(values: Object, path: str = "") -> list[str]:
    """The paths of all values that are no maps with names of their own."""
    found = []
    for key, value in values.items():
        found += leaves(value, f"{path}{key}.") if isinstance(value, dict) and value else [f"{path}{key}"]
    return found


class Generated(unittest.TestCase):
    def test_everything_that_is_made_is_up_to_date(self) -> None:
        for path, text in generated.wanted().items():
            with self.subTest(path=path.name):
                self.assertTrue(path.read_text() == text, f"{path.relative_to(ROOT)} is out of date: scripts/test-chart --update")

    def test_the_chart_has_no_other_copies(self) -> None:
        self.assertEqual({path.name for path in (CHART / "files").iterdir()}, {"variables.txt", "followed.txt", "dashboard.json", "rules.yaml"})

    def test_the_schema_has_every_value_and_no_other(self) -> None:
        schema = json.loads((CHART / "values.schema.json").read_text())

        def names(part: Object, path: str = "") -> list[str]:
            part = schema["$defs"][part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else part
            if "properties" not in part:
                return [path.removesuffix(".")]
            self.assertIs(part["additionalProperties"], False, path)
            return [name for key, below in part["properties"].items() for name in names(below, f"{path}{key}.")]

        described = set(names(schema)) - {"global", "enabled"}
        values = read_yaml((CHART / "values.yaml").read_text())
        free = {name for name in described if name.split(".")[-1] in
                ("podSecurityContext", "securityContext", "labels", "requests", "limits")}
        mine = {next((each for each in free if f"{name}.".startswith(f"{each}.")), name) for name in leaves(values)}
        # What there is no default of.
        optional = {name for name in described if re.search(r"resources\.claims$|timeouts\.backendRequest$|startup\.timeoutSeconds$", name)}
        self.assertEqual(described - optional, mine)

    def test_the_values_of_ci_use_every_part_of_the_chart(self) -> None:
        used = set().union(*(leaves(values) for values in values_files().values()))
        switches = {f"{name}.enabled" for name in
                    ("ingress", "apiIngress", "httpRoute", "apiHttpRoute", "networkPolicy", "redis.bundled", "autoscaling",
                     "deviceSocket", "metrics.serviceMonitor", "metrics.podMonitor", "metrics.rules", "metrics.dashboard")}
        self.assertLessEqual(switches, used)

    def test_what_the_readme_names_is_there(self) -> None:
        readme = (CHART / "README.md").read_text().split("<!-- values:begin -->")[0]
        values = {name for name, _, _ in generated.rows()}
        parts = {".".join(name.split(".")[:length]) for name in values for length in range(1, 5)}
        for name in re.findall(r"`([a-z]\w+(?:\.[A-Za-z]\w+)+)(?:=[^`]*)?`", readme):
            # Of these the names are the program's variables.
            top = name.split(".")[0]
            if top in ("config", "secrets") or top not in {each.split(".")[0] for each in values}:
                continue
            self.assertIn(name, parts)
        for name in re.findall(r"--set(?:-string)? ([^=\s]+)=", readme):
            self.assertTrue(name in parts or re.fullmatch(r"secrets\.[A-Z_]+\.value", name), name)


if __name__ == "__main__":
    unittest.main()
