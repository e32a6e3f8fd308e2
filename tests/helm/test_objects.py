"""What the chart makes for every values file: valid for Kubernetes, restricted, and of one piece."""

from __future__ import annotations

import functools
import unittest

import helm_python
import kubernetes_validate
from kubernetes_validate import utils as schemas

import chart
from chart import CHART, NAMESPACE, VERSIONS, Object, Rendered, containers, render, values_files
from restricted import faults

# Each of its files is read again for each object otherwise.
schemas.schema_contents = functools.cache(schemas.schema_contents)

#: Custom resources: `test_custom_resources` has their schemas.
CUSTOM = {"HTTPRoute", "ServiceMonitor", "PodMonitor", "PrometheusRule"}


@functools.cache
def of_every_file() -> dict[str, Rendered]:
    return {name: render(values) for name, values in values_files().items()}


def every(test):
    """Runs a test with what each values file makes."""

    def run(self: unittest.TestCase) -> None:
        for name, rendered in of_every_file().items():
            with self.subTest(values=name):
                test(self, rendered)

    return run


def matches(selector: Object, labels: Object) -> bool:
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def selected(rendered: Rendered, selector: Object) -> list[str]:
    return [name for name, pod in rendered.pods() if matches(selector, pod["metadata"]["labels"])]


class Objects(unittest.TestCase):
    def test_lint_finds_nothing(self) -> None:
        for name, values in values_files().items():
            for version in VERSIONS:
                with self.subTest(values=name, version=version):
                    report = helm_python.lint(CHART, values, strict=True, kube_version=f"v{version}.0")
                    self.assertEqual(report["errors"], [])
                    # 1 is a remark: that the chart has no icon.
                    self.assertEqual([each for each in report["messages"] if each["severity"] > 1], [])

    def test_every_object_is_valid_for_four_versions(self) -> None:
        for name, values in values_files().items():
            for version in VERSIONS:
                for found in render(values, version=version).objects:
                    if found["kind"] in CUSTOM:
                        continue
                    with self.subTest(values=name, version=version, kind=found["kind"], name=found["metadata"]["name"]):
                        checked = kubernetes_validate.validate(found, version, strict=True)
                        self.assertEqual(checked, version)

    def test_names_that_yaml_would_take_for_something_else_stay_names(self) -> None:
        values = {"secrets": {"HTTP_TOKEN": {"existingSecret": "123", "key": "on"}, "METRICS_TOKEN": {"existingSecret": "1e3"}},
                  "priorityClassName": "7", "runtimeClassName": "off", "serviceAccount": {"create": False, "name": "0x1"},
                  "image": {"repository": "10", "tag": "20"}, "metrics": {"serviceMonitor": {"enabled": True}},
                  "redis": {"bundled": {"enabled": True, "existingSecret": "12", "priorityClassName": "8"}},
                  "ingress": {"enabled": True, "className": "no", "hosts": [{"host": "1.5"}]}}
        for release, namespace in (("true", "123"), ("null", "1e3"), ("on", "0x10")):
            rendered = render(values, release=release, namespace=namespace)
            for found in rendered.objects:
                with self.subTest(release=release, kind=found["kind"], name=found["metadata"]["name"]):
                    self.assertEqual(found["metadata"]["namespace"], namespace)
                    if found["kind"] not in CUSTOM:
                        kubernetes_validate.validate(found, VERSIONS[-1], strict=True)
            credentials = rendered.one("ServiceMonitor")["spec"]["endpoints"][0]["authorization"]["credentials"]
            self.assertEqual(credentials["name"], "1e3")

    def test_what_a_release_is_called_may_have_dots_in_it(self) -> None:
        for found in render(values_files()["everything"], {"fullnameOverride": ""}, release="push.v2").objects:
            if found["kind"] != "ConfigMap":
                self.assertRegex(found["metadata"]["name"], "^push-v2-carillon[-a-z]*$")

    def test_two_releases_in_a_namespace_are_strangers(self) -> None:
        values = {name: each for name, each in values_files().items() if name not in ("everything", "ingress")}
        for mine, yours in (("shop", "shop-two"), ("push-notifications-for-the-shop-production-eu-west-1a",
                                                   "push-notifications-for-the-shop-production-eu-west-1b")):
            for name, each in values.items():
                with self.subTest(values=name, releases=(mine, yours)):
                    one, two = render(each, release=mine), render(each, release=yours)
                    names = [{(found["kind"], found["metadata"]["name"]) for found in made.objects} for made in (one, two)]
                    self.assertEqual(names[0] & names[1], set())
                    for found in one.of("Service") + one.of("NetworkPolicy") + one.of("PodDisruptionBudget"):
                        spec = found["spec"]
                        selector = spec.get("podSelector", spec.get("selector", {}))
                        self.assertEqual(selected(two, selector.get("matchLabels", selector)), [], found["metadata"]["name"])

    @every
    def test_every_pod_is_restricted(self, rendered: Rendered) -> None:
        for name, pod in rendered.pods():
            self.assertEqual(faults(pod["spec"]), [], name)

    @every
    def test_every_pod_is_without_token_and_service_links(self, rendered: Rendered) -> None:
        accounts = {each["metadata"]["name"] for each in rendered.of("ServiceAccount")}
        for name, pod in rendered.pods():
            spec = pod["spec"]
            self.assertIs(spec["automountServiceAccountToken"], False, name)
            self.assertIs(spec["enableServiceLinks"], False, name)
            self.assertIn(spec["serviceAccountName"], accounts, name)

    @every
    def test_names_are_short_enough_and_there_once(self, rendered: Rendered) -> None:
        seen = set()
        for found in rendered.objects:
            name = found["metadata"]["name"]
            # With a hash behind it a StatefulSet's is the value of a label.
            self.assertLessEqual(len(name), 52 if found["kind"] == "StatefulSet" else 63)
            key = (found["kind"], found["metadata"].get("namespace"), name)
            self.assertNotIn(key, seen)
            seen.add(key)
            for label, value in found["metadata"].get("labels", {}).items():
                self.assertLessEqual(len(value), 63, label)

    @every
    def test_selectors_match_their_pods_and_no_others(self, rendered: Rendered) -> None:
        node = f"Deployment {rendered.one('Deployment')['metadata']['name']}"
        for kind in ("Deployment", "StatefulSet"):
            for found in rendered.of(kind):
                name = f"{kind} {found['metadata']['name']}"
                self.assertEqual(selected(rendered, found["spec"]["selector"]["matchLabels"]), [name])
        for found in rendered.of("Service") + rendered.of("NetworkPolicy") + rendered.of("PodDisruptionBudget"):
            spec = found["spec"]
            selector = spec.get("podSelector", spec.get("selector", {}))
            name = found["metadata"]["name"]
            wanted = f"StatefulSet {name}" if name.endswith("-redis") else node
            self.assertEqual(selected(rendered, selector.get("matchLabels", selector)), [wanted], name)
        for found in rendered.of("PodMonitor"):
            self.assertEqual(selected(rendered, found["spec"]["selector"]["matchLabels"]), [node])
        for found in rendered.of("ServiceMonitor"):
            selector = found["spec"]["selector"]["matchLabels"]
            services = [each["metadata"]["name"] for each in rendered.of("Service")
                        if matches(selector, each["metadata"]["labels"])]
            self.assertEqual(services, [rendered.one("Service", "-nodes")["metadata"]["name"]])
        for constraint in rendered.node["spec"].get("topologySpreadConstraints", []):
            if constraint["topologyKey"].split("/")[0].endswith("kubernetes.io"):
                self.assertEqual(selected(rendered, constraint["labelSelector"]["matchLabels"]), [node])

    @every
    def test_ports_exist_by_name_and_number(self, rendered: Rendered) -> None:
        ports = {name: {port["name"]: port["containerPort"] for each in containers(pod) for port in each.get("ports", [])}
                 for name, pod in rendered.pods()}
        for name, pod in rendered.pods():
            for each in containers(pod):
                for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                    for handler in ("httpGet", "tcpSocket"):
                        if port := each.get(probe, {}).get(handler, {}).get("port"):
                            self.assertIn(port, ports[name], f"{name}: {probe}")
        services = {}
        for found in rendered.of("Service"):
            pod, = selected(rendered, found["spec"]["selector"])
            services[found["metadata"]["name"]] = {port["name"]: port["port"] for port in found["spec"]["ports"]}
            for port in found["spec"]["ports"]:
                self.assertIn(port["targetPort"], ports[pod], found["metadata"]["name"])
        for found in rendered.of("Ingress"):
            for rule in found["spec"]["rules"]:
                for path in rule["http"]["paths"]:
                    service = path["backend"]["service"]
                    self.assertIn(service["port"]["name"], services[service["name"]])
        for found in rendered.of("HTTPRoute"):
            for rule in found["spec"]["rules"]:
                for backend in rule["backendRefs"]:
                    self.assertIn(backend["port"], services[backend["name"]].values())
        for found in rendered.of("ServiceMonitor"):
            for endpoint in found["spec"]["endpoints"]:
                self.assertIn(endpoint["port"], rendered_ports(rendered, "-nodes"))
        node = ports[f"Deployment {rendered.one('Deployment')['metadata']['name']}"]
        for found in rendered.of("PodMonitor"):
            for endpoint in found["spec"]["podMetricsEndpoints"]:
                self.assertIn(endpoint["port"], node)
        for found in rendered.of("NetworkPolicy"):
            pod, = selected(rendered, found["spec"]["podSelector"]["matchLabels"])
            for rule in found["spec"]["ingress"]:
                for port in rule.get("ports", []):
                    self.assertIn(port["port"], ports[pod])
        # What the program is told is what the container has.
        env = rendered.env
        self.assertEqual([int(env[name]) for name in ("WS_PORT", "HTTP_PORT", "METRICS_PORT")],
                         [node["websocket"], node["http"], node["metrics"]])

    @every
    def test_what_is_referred_to_is_there(self, rendered: Rendered) -> None:
        own = {each["metadata"]["name"]: set(each["stringData"]) for each in rendered.of("Secret")}
        for name, pod in rendered.pods():
            volumes = {each["name"]: each for each in pod["spec"].get("volumes", [])}
            mounted = {mount["name"] for each in containers(pod) for mount in each.get("volumeMounts", [])}
            self.assertEqual(mounted, set(volumes), name)
            for each in containers(pod):
                paths = [mount["mountPath"] for mount in each.get("volumeMounts", [])]
                self.assertEqual(len(paths), len(set(paths)), name)
            for volume in volumes.values():
                sources = [source["secret"] for source in volume.get("projected", {}).get("sources", [])]
                if "secret" in volume:
                    sources.append({"name": volume["secret"]["secretName"], "items": volume["secret"].get("items", [])})
                for source in sources:
                    if source["name"] in own:
                        self.assertLessEqual({item["key"] for item in source["items"]}, own[source["name"]], name)
                    else:
                        self.assertNotIn("demo", source["name"], "one of the chart's own that isn't there")
                paths = [item["path"] for source in sources for item in source["items"]]
                self.assertEqual(len(paths), len(set(paths)), name)
        for found in rendered.of("HorizontalPodAutoscaler"):
            self.assertEqual(found["spec"]["scaleTargetRef"]["name"], rendered.one("Deployment")["metadata"]["name"])
            for metric in found["spec"]["metrics"]:
                if metric["type"] == "ContainerResource":
                    self.assertEqual(metric["containerResource"]["container"], rendered.container["name"])
        for found in rendered.of("StatefulSet"):
            self.assertIn(found["spec"]["serviceName"], [each["metadata"]["name"] for each in rendered.of("Service")])
        for found in rendered.of("ServiceMonitor") + rendered.of("PodMonitor"):
            for endpoint in found["spec"].get("endpoints", []) + found["spec"].get("podMetricsEndpoints", []):
                if key := endpoint.get("authorization", {}).get("credentials"):
                    self.assertIn(key["key"], own.get(key["name"], {key["key"]}))

    @every
    def test_every_variable_is_one_of_the_program(self, rendered: Rendered) -> None:
        known = set(chart.documented_variables())
        names = [each["name"] for each in rendered.container["env"]]
        self.assertEqual(len(names), len(set(names)))
        for name in names:
            # Those of its own command as a client.
            if name not in ("CARILLON_API", "CARILLON_URL", "CARILLON_TOKEN_FILE"):
                self.assertIn(name.removesuffix("_FILE"), known)
        # Never a variable and its file.
        self.assertEqual([name for name in names if f"{name}_FILE" in names], [])

    @every
    def test_secrets_are_in_secrets_alone(self, rendered: Rendered) -> None:
        secret = [value for each in rendered.of("Secret") for key, value in each["stringData"].items()
                  if key != "PRIVATE_CHANNELS"]
        rest = repr([each for each in rendered.objects if each["kind"] != "Secret"]) + rendered.notes
        for value in secret:
            self.assertNotIn(value, rest)

    @every
    def test_everything_is_in_the_release_s_namespace(self, rendered: Rendered) -> None:
        for found in rendered.objects:
            # What is for Prometheus and Grafana may be where they look.
            if found["kind"] in ("ConfigMap", "ServiceMonitor", "PrometheusRule"):
                continue
            self.assertEqual(found["metadata"]["namespace"], NAMESPACE, found["kind"])


def rendered_ports(rendered: Rendered, service: str) -> list[str]:
    return [port["name"] for port in rendered.one("Service", service)["spec"]["ports"]]


if __name__ == "__main__":
    unittest.main()
