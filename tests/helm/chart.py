"""The chart as the tests see it: rendered by Helm's own engine, and read as Kubernetes would."""

from __future__ import annotations

import copy
import functools
import re
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "carillon"
README = ROOT / "README.md"

#: Kubernetes's versions that the output is checked against: the oldest that the chart allows, the last without a sleep before
#: SIGTERM, one in use, the newest that there are schemas of.
VERSIONS = ("1.27", "1.29", "1.33", "1.37")

RELEASE = "demo"
NAMESPACE = "push"

Object = dict[str, Any]


class StrictLoader(yaml.SafeLoader):
    """YAML in which a key that is there twice is an error, as it is for Kubernetes."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    return yaml.load(text, StrictLoader)


def values_files() -> dict[str, Object]:
    """The values in `ci/`, by name."""
    found = {path.name.removesuffix("-values.yaml"): read_yaml(path.read_text()) or {}
             for path in sorted(CHART.glob("ci/*-values.yaml"))}
    assert found, "there are values in ci/"
    return found


def merged(*layers: Object) -> Object:
    """Values over values, as Helm takes several files."""
    result: Object = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, dict) and isinstance(result.get(key), dict):
                result[key] = merged(result[key], value)
            else:
                result[key] = copy.deepcopy(value)
    return result


class Rendered:
    """What a release consists of."""

    def __init__(self, files: dict[str, str]) -> None:
        self.notes = ""
        self.objects: list[Object] = []
        for name, text in files.items():
            if name.endswith("NOTES.txt"):
                self.notes = text
                continue
            self.objects += [document for document in yaml.load_all(text, StrictLoader) if document]

    def of(self, kind: str) -> list[Object]:
        return [found for found in self.objects if found["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> Object:
        """The only object of that kind, or the one whose name ends so."""
        found = [each for each in self.of(kind) if name is None or each["metadata"]["name"].endswith(name)]
        assert len(found) == 1, f"{len(found)} objects {kind} {name or ''}"
        return found[0]

    @property
    def node(self) -> Object:
        """The nodes' pod template."""
        return self.one("Deployment")["spec"]["template"]

    @property
    def container(self) -> Object:
        return next(each for each in self.node["spec"]["containers"] if each["name"] == "carillon")

    @property
    def env(self) -> dict[str, str]:
        return {each["name"]: each.get("value", "") for each in self.container["env"]}

    def pods(self) -> list[tuple[str, Object]]:
        """Every pod, or template of one, with the name of what it belongs to."""
        templates = [(f"{each['kind']} {each['metadata']['name']}", each["spec"]["template"])
                     for kind in ("Deployment", "StatefulSet") for each in self.of(kind)]
        return templates + [(f"Pod {each['metadata']['name']}", each) for each in self.of("Pod")]


@functools.cache
def loaded(path: Path) -> helm_python.Chart:
    return helm_python.Chart.load(path)


def render(*layers: Object, version: str = VERSIONS[-1], chart: Path = CHART,
           release: str = RELEASE, namespace: str = NAMESPACE) -> Rendered:
    """The chart with these values, for that version of Kubernetes. Raises `helm_python.HelmError`."""
    values = merged({"kubeVersion": version}, *layers)
    return Rendered(loaded(chart).render(values, name=release, namespace=namespace))


def containers(pod: Object) -> list[Object]:
    """All containers of a pod, those before the others included."""
    return pod["spec"].get("initContainers", []) + pod["spec"]["containers"]


def documented_variables() -> list[str]:
    """The program's variables, from the README's table, in its order; those of single profiles behind the one for all."""
    table = README.read_text().split("<!-- config:begin -->")[1].split("<!-- config:end -->")[0]
    found = []
    for line in table.splitlines():
        if name := re.match(r"\| `([A-Z][A-Z0-9_]*)`(?: ↻)? \|", line):
            found.append(name[1])
            _, _, own = line.partition("A profile's own value:")
            found += re.findall(r"`([A-Z][A-Z0-9_]*)`", own)
    assert len(found) > 80, "the README has a table of variables"
    return found


def followed_variables() -> list[str]:
    """Those that a node takes over when their files change: they are marked in the table."""
    found = re.findall(r"^\| `([A-Z][A-Z0-9_]*)` ↻ \|", README.read_text(), re.M)
    assert len(found) > 10, "the README marks variables"
    return found


def cargo_version() -> str:
    return re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.M)[1]
