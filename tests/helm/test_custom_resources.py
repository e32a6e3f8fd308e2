"""Custom resources: each against its published schema, and against its type, which knows no members but its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
import unittest
from pathlib import Path

from chart import ROOT, Object, render, values_files

HERE = ROOT / "tests" / "helm"

#: Where the class of each is, whose `validate` is made from the schema, and whose type from the same.
CLASSES = {
    "HTTPRoute": "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute",
    "ServiceMonitor": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor",
    "PodMonitor": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor",
    "PrometheusRule": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule",
}


def program(objects: list[Object]) -> str:
    """A program that is correct where the objects are of their types, and that validates them when it runs."""
    kinds = sorted({each["kind"] for each in objects})
    lines = [f'import {{ {kind}, type I{kind} }} from "{CLASSES[kind]}";' for kind in kinds]
    for number, each in enumerate(objects):
        lines.append(f"const object{number}: I{each['kind']} = {json.dumps(each)};")
        lines.append(f"new {each['kind']}(object{number}).validate();")
    return "\n".join(lines) + "\n"


def checked(objects: list[Object]) -> str:
    """What is wrong with them; nothing where they are as they should be."""
    # Beside the packages, where they are found.
    with tempfile.TemporaryDirectory(dir=HERE / "node_modules", prefix="objects-") as directory:
        source = Path(directory) / "objects.mts"
        source.write_text(program(objects))
        compiler = HERE / "node_modules" / "typescript" / "bin" / "tsc"
        options = ["--strict", "--skipLibCheck", "--module", "esnext", "--moduleResolution", "bundler", "--target", "es2022"]
        typed = subprocess.run(["node", compiler, *options, source], capture_output=True, text=True, cwd=HERE)
        ran = subprocess.run(["node", source.with_suffix(".mjs")], capture_output=True, text=True, cwd=HERE)
        return typed.stdout + (ran.stderr if ran.returncode else "")


class CustomResources(unittest.TestCase):
    def test_all_of_them_are_of_their_type_and_valid(self) -> None:
        objects = [each for values in values_files().values() for each in render(values).objects if each["kind"] in CLASSES]
        self.assertEqual({each["kind"] for each in objects}, set(CLASSES), "the values in ci/ have one of each")
        self.assertEqual(checked(objects), "")

    def test_faults_would_be_found(self) -> None:
        about = {"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "x"}}
        endpoint = {"port": "metrics", "interval": "15s"}

        def monitor(**members):
            return about | {"spec": {"selector": {}, "endpoints": [endpoint | members]}}

        # One compilation for all: each line of what it says names its object.
        said = checked([monitor(), monitor(scrapeTimeoutt="1s"), monitor(port=9090)])
        self.assertIn("scrapeTimeoutt", said)
        self.assertIn("'number' is not assignable to type 'string'", said)
        self.assertIn("interval must match pattern", checked([monitor(interval="15 s")]))


if __name__ == "__main__":
    unittest.main()
