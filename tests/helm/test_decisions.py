"""What the chart's README says of its decisions, each seen in what the chart makes."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import unittest
from pathlib import Path

import yaml

from chart import CHART, README, containers, read_yaml, render

REDIS = {"redis": {"bundled": {"enabled": True, "password": "0123456789abcdef"}}}


def strategy(*layers):
    return render(*layers).one("Deployment")["spec"]["strategy"]


class Ending(unittest.TestCase):
    def test_the_grace_period_is_the_sum_of_what_an_end_takes(self) -> None:
        drain = {"drain": {"preStopSeconds": 7, "delaySeconds": 3, "periodSeconds": 60, "marginSeconds": 12}}
        webhook = {"config": {"WEBHOOK_URL": "http://application"}}
        for values, seconds in [
            ({}, 35),
            (drain, 82),
            (webhook, 40),
            (webhook | {"config": {"WEBHOOK_URL": "http://application", "WEBHOOK_TIMEOUT": "1500ms"}}, 37),
            ({"secrets": {"WEBHOOK_URL": {"existingSecret": "x"}}, "config": {"WEBHOOK_TIMEOUT": "2 m"}}, 155),
            ({"config": {"WEBHOOK_TIMEOUT": "2m"}}, 35),
            ({"extraEnv": [{"name": "WEBHOOK_URL_FILE", "value": "/etc/url"}]}, 40),
            ({"terminationGracePeriodSeconds": 300}, 300),
        ]:
            with self.subTest(values=values):
                self.assertEqual(render(values).node["spec"]["terminationGracePeriodSeconds"], seconds)

    def test_before_sigterm_a_pod_sleeps_and_where_it_cannot_the_node_waits_as_long_after_it(self) -> None:
        values = {"drain": {"preStopSeconds": 7, "delaySeconds": 3}}
        new, old = render(values, version="1.30"), render(values, version="1.29")
        self.assertEqual(new.container["lifecycle"], {"preStop": {"sleep": {"seconds": 7}}})
        self.assertEqual(new.env["DRAIN_DELAY"], "3s")
        self.assertNotIn("lifecycle", old.container)
        self.assertEqual(old.env["DRAIN_DELAY"], "10s")
        self.assertEqual(new.node["spec"]["terminationGracePeriodSeconds"], old.node["spec"]["terminationGracePeriodSeconds"])
        self.assertNotIn("lifecycle", render({"drain": {"preStopSeconds": 0}}).container)

    def test_vendors_versions_are_understood(self) -> None:
        for version in ("v1.30.4-gke.1000", "v1.31.0-eks-a1b2c3", "1.30", "v1.33.1+k3s1"):
            self.assertIn("lifecycle", render(version=version).container, version)


class Rollout(unittest.TestCase):
    def test_a_rollout_takes_no_node_away_before_there_is_another(self) -> None:
        rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
        self.assertEqual(strategy(REDIS), rolling)
        self.assertEqual(strategy(REDIS, {"rollout": {"maxSurge": "25%"}})["rollingUpdate"]["maxSurge"], "25%")

    def test_the_next_node_is_stopped_when_the_clients_of_the_one_before_have_moved(self) -> None:
        def ready(*layers):
            return render(*layers).one("Deployment")["spec"]["minReadySeconds"]

        drain = {"drain": {"preStopSeconds": 7, "delaySeconds": 3, "periodSeconds": 60}}
        self.assertEqual((ready(REDIS), ready(REDIS, drain)), (25, 70))
        self.assertEqual(ready(REDIS, {"rollout": {"minReadySeconds": 0}}), 0)
        self.assertEqual(ready(drain), 0, "one node alone has nobody to wait for")

    def test_without_redis_two_nodes_never_run_at_once(self) -> None:
        self.assertEqual(strategy(), {"type": "Recreate"})

    def test_an_autoscaler_s_number_is_left_alone(self) -> None:
        self.assertEqual(render().one("Deployment")["spec"]["replicas"], 1)
        for values in ({"autoscaling": {"enabled": True}}, {"replicas": None}):
            self.assertNotIn("replicas", render(REDIS, values).one("Deployment")["spec"])

    def test_a_new_version_of_the_chart_alone_rolls_nothing(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            newer = shutil.copytree(CHART, Path(directory) / "carillon")
            about = read_yaml((newer / "Chart.yaml").read_text())
            (newer / "Chart.yaml").write_text(yaml.safe_dump(about | {"version": "9.9.9"}))
            now, then = render(REDIS), render(REDIS, chart=newer)
            self.assertNotEqual(now.one("Deployment")["metadata"], then.one("Deployment")["metadata"])
            for kind in ("Deployment", "StatefulSet"):
                self.assertEqual(now.one(kind)["spec"], then.one(kind)["spec"])


class Probes(unittest.TestCase):
    def test_they_ask_the_port_that_has_neither_tls_nor_proxy_protocol(self) -> None:
        rendered = render({"tls": {"existingSecret": "x", "http": True}, "config": {"PROXY_PROTOCOL": True}})
        container = rendered.container
        for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
            self.assertEqual(container[probe]["httpGet"], {"path": path, "port": "metrics"})

    def test_one_that_is_not_wanted_is_left_out(self) -> None:
        container = render({"probes": {"startup": None}}).container
        self.assertNotIn("startupProbe", container)
        self.assertIn("livenessProbe", container)


class Pods(unittest.TestCase):
    def test_openshift_chooses_the_user(self) -> None:
        mine = {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None, "fsGroupChangePolicy": None}}
        for name, pod in render(REDIS, mine).pods():
            contexts = [pod["spec"]["securityContext"], *(each["securityContext"] for each in containers(pod))]
            for context in contexts:
                self.assertEqual({"runAsUser", "runAsGroup", "fsGroup"} & set(context), set(), name)
            self.assertIs(contexts[0]["runAsNonRoot"], True, name)

    def test_the_test_pod_runs_where_nodes_may(self) -> None:
        where = {"nodeSelector": {"kubernetes.io/arch": "arm64"}, "tolerations": [{"key": "push", "operator": "Exists"}]}
        spec = render(where).one("Pod")["spec"]
        self.assertEqual({name: spec[name] for name in where}, where)

    def test_what_there_is_no_value_for_is_said_in_the_pod_s_own_words(self) -> None:
        aliases = [{"ip": "192.0.2.7", "hostnames": ["redis.example.org"]}]
        self.assertEqual(render({"extraPodSpec": {"hostAliases": aliases}}).node["spec"]["hostAliases"], aliases)


class Parents(unittest.TestCase):
    def test_a_chart_of_charts_may_turn_it_on_and_off(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            parent = Path(directory) / "shop"
            shutil.copytree(CHART, parent / "charts" / "carillon")
            version = read_yaml((CHART / "Chart.yaml").read_text())["version"]
            dependency = {"name": "carillon", "version": version, "condition": "carillon.enabled"}
            about = {"apiVersion": "v2", "name": "shop", "version": "1.0.0", "dependencies": [dependency]}
            (parent / "Chart.yaml").write_text(yaml.safe_dump(about))
            for on in (True, False):
                rendered = render({"carillon": {"enabled": on}, "global": {"region": "eu"}}, chart=parent)
                self.assertEqual(len(rendered.of("Deployment")), int(on))


class Services(unittest.TestCase):
    def test_backends_reach_nodes_that_are_not_ready_and_clients_do_not(self) -> None:
        rendered = render()
        self.assertIs(rendered.one("Service", "-backends")["spec"]["publishNotReadyAddresses"], True)
        self.assertIs(rendered.one("Service", "-nodes")["spec"]["publishNotReadyAddresses"], True)
        self.assertNotIn("publishNotReadyAddresses", rendered.one("Service", "demo-carillon")["spec"])
        chosen = render({"backends": {"publishNotReadyAddresses": False}})
        self.assertIs(chosen.one("Service", "-backends")["spec"]["publishNotReadyAddresses"], False)

    def test_tls_changes_the_clients_port_and_protocol(self) -> None:
        def port(values):
            port = render(values).one("Service", "demo-carillon")["spec"]["ports"][0]
            return port["port"], port.get("appProtocol")

        tls = {"tls": {"existingSecret": "x"}}
        self.assertEqual(port({}), (80, "kubernetes.io/ws"))
        self.assertEqual(port(tls), (443, "kubernetes.io/wss"))
        self.assertEqual(port({"service": {"port": 8090, "appProtocol": ""}}), (8090, None))


class Secrets(unittest.TestCase):
    def test_they_are_files_and_variables_that_are_paths_name_them(self) -> None:
        rendered = render({"secrets": {"HTTP_TOKEN": {"value": "a"}, "JWT_JWKS": {"existingSecret": "keys", "key": "jwks.json"},
                                       "REDIS_URL": {"existingSecret": "redis"}, "REDIS_CA": {"existingSecret": "redis"}}})
        files = {name: path for name, path in rendered.env.items() if path.startswith("/etc/carillon")}
        self.assertEqual(files, {f"{name}": f"/etc/carillon/secrets/{name.removesuffix('_FILE')}" for name in
                                 ("HTTP_TOKEN_FILE", "JWT_JWKS", "REDIS_URL_FILE", "REDIS_CA")})
        volume, = rendered.node["spec"]["volumes"]
        sources = {source["secret"]["name"]: source["secret"]["items"] for source in volume["projected"]["sources"][:2]}
        self.assertEqual(sources["keys"], [{"key": "jwks.json", "path": "JWT_JWKS"}])
        mount, = rendered.container["volumeMounts"]
        self.assertNotIn("subPath", mount)

    def test_a_changed_value_rolls_the_nodes_where_they_don_t_follow_it_unless_that_is_not_wanted(self) -> None:
        def pod(name, value, **more):
            return render({"secrets": {"HTTP_TOKEN": {"value": "t"}}}, {"secrets": {name: {"value": value}}}, more).node

        for name in ("REDIS_URL", "WEBHOOK_URL"):
            a, b = (f"redis://{host}" if name == "REDIS_URL" else f"http://{host}/" for host in "ab")
            self.assertEqual(pod(name, a), pod(name, a))
            self.assertNotEqual(pod(name, a), pod(name, b))
            self.assertEqual(pod(name, a, rollOnSecretChange=False), pod(name, b, rollOnSecretChange=False))
        for name in ("HTTP_TOKEN", "METRICS_TOKEN", "JWT_SECRET", "WEBHOOK_SECRET", "PRIVATE_CHANNELS"):
            self.assertEqual(pod(name, "a"), pod(name, "b"))
            self.assertNotIn("annotations", pod(name, "a")["metadata"])
        self.assertNotIn("annotations", render({"secrets": {"REDIS_URL": {"existingSecret": "x"}}}).node["metadata"])

    def test_a_changed_password_of_the_bundled_redis_always_rolls_the_nodes(self) -> None:
        """They look at its URL at their start only, and Redis has the new one at once."""
        def pod(password, **more):
            return render({"redis": {"bundled": {"enabled": True, "password": password}}}, more).node

        for rolls in (True, False):
            self.assertEqual(pod("a" * 16, rollOnSecretChange=rolls), pod("a" * 16, rollOnSecretChange=rolls))
            self.assertNotEqual(pod("a" * 16, rollOnSecretChange=rolls), pod("b" * 16, rollOnSecretChange=rolls))

    def test_every_variable_that_names_a_file_is_the_path_of_the_secret_s(self) -> None:
        table = README.read_text().split("<!-- config:begin -->")[1].split("<!-- config:end -->")[0]
        names = re.findall(r"^\| `([A-Z_]+)`[^|]*\|[^|]*\| (?:A file|File) with ", table, re.M)
        self.assertLessEqual({"JWT_JWKS", "REDIS_CA", "WEBHOOK_CA"}, set(names))
        for name in names:
            self.assertEqual(render({"secrets": {name: {"existingSecret": "x"}}}).env[name], f"/etc/carillon/secrets/{name}")

    def test_prometheus_gets_the_token_from_where_it_is(self) -> None:
        monitor = {"metrics": {"serviceMonitor": {"enabled": True}}}
        for secret, credentials in [
            ({"value": "x"}, {"name": "demo-carillon", "key": "METRICS_TOKEN"}),
            ({"existingSecret": "mine"}, {"name": "mine", "key": "METRICS_TOKEN"}),
            ({"existingSecret": "mine", "key": "metrics"}, {"name": "mine", "key": "metrics"}),
        ]:
            endpoint, = render(monitor, {"secrets": {"METRICS_TOKEN": secret}}).one("ServiceMonitor")["spec"]["endpoints"]
            self.assertEqual(endpoint["authorization"], {"type": "Bearer", "credentials": credentials})
        endpoint, = render(monitor).one("ServiceMonitor")["spec"]["endpoints"]
        self.assertNotIn("authorization", endpoint)

    def test_a_redis_of_the_chart_s_own_gets_a_password(self) -> None:
        secret = render({"redis": {"bundled": {"enabled": True}}}).one("Secret", "-redis")["stringData"]
        self.assertEqual(len(secret["password"]), 32)
        self.assertIn(f">{secret['password']} ", secret["users.acl"])
        self.assertEqual(secret["REDIS_URL"], f"redis://:{secret['password']}@demo-carillon-redis:6379")


class Values(unittest.TestCase):
    def test_numbers_and_flags_are_written_as_the_program_reads_them(self) -> None:
        env = render({"config": {"MAX_CONNECTIONS": 12345678, "METHOD_ESCAPE_HTML": True, "AUTH_MAX_AGE": 0}}).env
        self.assertEqual((env["MAX_CONNECTIONS"], env["METHOD_ESCAPE_HTML"], env["AUTH_MAX_AGE"]), ("12345678", "true", "0"))

    def test_an_image_is_named_by_digest_tag_or_the_chart_s_version(self) -> None:
        digest = "sha256:" + "0" * 64
        version = read_yaml((CHART / "Chart.yaml").read_text())["appVersion"]
        for image, name in [({}, f"carillon:{version}"), ({"tag": "edge"}, "carillon:edge"),
                            ({"tag": "edge", "digest": digest}, f"carillon@{digest}"),
                            ({"repository": "example.org:5000/a/b"}, f"example.org:5000/a/b:{version}")]:
            self.assertEqual(render({"image": image}).container["image"], name)

    def test_own_labels_never_take_the_place_of_selectors(self) -> None:
        rendered = render({"commonLabels": {"app.kubernetes.io/name": "other", "team": "push"}, "podLabels": {"team": "edge"}})
        labels = rendered.node["metadata"]["labels"]
        self.assertEqual((labels["app.kubernetes.io/name"], labels["team"]), ("carillon", "edge"))


class Scaling(unittest.TestCase):
    def test_it_goes_by_cpu_and_connections_up_fast_and_down_slowly(self) -> None:
        spec = render(REDIS, {"autoscaling": {"enabled": True, "targetConnections": 2000000}}).one("HorizontalPodAutoscaler")["spec"]
        cpu, connections = spec["metrics"]
        self.assertEqual(cpu["containerResource"]["target"], {"type": "Utilization", "averageUtilization": 60})
        self.assertEqual(connections["pods"], {"metric": {"name": "carillon_connections_open"},
                                               "target": {"type": "AverageValue", "averageValue": "2000000"}})
        down = spec["behavior"]["scaleDown"]
        self.assertEqual(down["policies"], [{"type": "Pods", "value": 1, "periodSeconds": 300}])
        self.assertGreater(down["stabilizationWindowSeconds"], spec["behavior"]["scaleUp"]["stabilizationWindowSeconds"])


class Proxies(unittest.TestCase):
    def test_ingress_nginx_waits_longer_than_pings_and_never_sends_a_push_twice(self) -> None:
        hosts = {"enabled": True, "hosts": [{"host": "a.example"}], "annotations": {"own": "1"}}
        rendered = render({"ingress": hosts, "apiIngress": hosts, "secrets": {"HTTP_TOKEN": {"value": "x"}}})
        clients, api = [rendered.one("Ingress", name)["metadata"]["annotations"] for name in ("demo-carillon", "-backends")]
        prefix = "nginx.ingress.kubernetes.io/"
        self.assertEqual((clients[prefix + "proxy-read-timeout"], clients[prefix + "proxy-send-timeout"]), ("3600", "3600"))
        self.assertEqual(api[prefix + "proxy-next-upstream"], "off")
        self.assertEqual((clients["own"], api["own"]), ("1", "1"))
        plain = render({"ingress": hosts | {"nginx": False}}).one("Ingress")
        self.assertEqual(plain["metadata"]["annotations"], {"own": "1"})

    def test_routes_of_sockets_have_no_time_out(self) -> None:
        route = render({"httpRoute": {"enabled": True, "parentRefs": [{"name": "x"}]}}).one("HTTPRoute")
        self.assertEqual(route["spec"]["rules"][0]["timeouts"], {"request": "0s"})


class Networks(unittest.TestCase):
    def test_nodes_connect_to_redis_the_application_and_name_servers_alone(self) -> None:
        def egress(*layers):
            policy = render({"networkPolicy": {"enabled": True}}, *layers).one("NetworkPolicy", "demo-carillon")
            return [[port["port"] for port in rule["ports"]] for rule in policy["spec"]["egress"]]

        webhook = {"config": {"WEBHOOK_URL": "http://application"}}
        url = {"secrets": {"REDIS_URL": {"existingSecret": "x"}}}
        self.assertEqual(egress(), [[53, 53]])
        self.assertEqual(egress(REDIS), [[53, 53], [6379]])
        self.assertEqual(egress(url, {"networkPolicy": {"redisPorts": [6379, 26379]}}), [[53, 53], [6379, 26379]])
        self.assertEqual(egress(webhook), [[53, 53], [80, 443]])
        self.assertEqual(egress({"extraEnv": [{"name": "WEBHOOK_URL", "value": "http://x"}]}), [[53, 53], [80, 443]])

    def test_only_nodes_reach_the_bundled_redis(self) -> None:
        policy = render(REDIS).one("NetworkPolicy")
        sources = [source["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
                   for rule in policy["spec"]["ingress"] for source in rule["from"]]
        self.assertEqual((sources, policy["spec"]["egress"]), (["node"], []))


class Rules(unittest.TestCase):
    def test_alerts_can_be_left_out_and_labelled(self) -> None:
        def rules(**values):
            made = render({"metrics": {"rules": {"enabled": True, **values}}}).one("PrometheusRule")
            return [rule for group in made["spec"]["groups"] for rule in group["rules"]]

        everything = rules()
        alerts = [rule["alert"] for rule in everything if "alert" in rule]
        self.assertEqual(everything, [rule for group in read_yaml((CHART / "files/rules.yaml").read_text())["groups"]
                                      for rule in group["rules"]])
        fewer = rules(disabled=alerts[:1], alertLabels={"team": "push"})
        self.assertEqual([rule["alert"] for rule in fewer if "alert" in rule], alerts[1:])
        for rule in fewer:
            self.assertEqual(rule.get("labels", {}).get("team"), "push" if "alert" in rule else None)


class Watching(unittest.TestCase):
    def test_nodes_are_told_apart_by_their_pods_and_the_job_is_the_release(self) -> None:
        for kind, key, endpoints in (("ServiceMonitor", "serviceMonitor", "endpoints"),
                                     ("PodMonitor", "podMonitor", "podMetricsEndpoints")):
            spec = render({"metrics": {key: {"enabled": True}}}).one(kind)["spec"]
            relabelling, = spec[endpoints][0]["relabelings"]
            self.assertEqual(relabelling, {"sourceLabels": ["__meta_kubernetes_pod_name"], "targetLabel": "instance"})
            self.assertEqual(spec["jobLabel"], "app.kubernetes.io/instance")

    def test_the_dashboard_is_the_project_s(self) -> None:
        data = render({"metrics": {"dashboard": {"enabled": True}}}).one("ConfigMap", "-dashboard")["data"]
        self.assertEqual(json.loads(data["demo-carillon.json"]), json.loads((CHART / "files/dashboard.json").read_text()))


class Notes(unittest.TestCase):
    def test_they_tell_the_first_push_and_what_is_open(self) -> None:
        notes = render().notes
        self.assertIn("-- /carillon push --api http://127.0.0.1:8080/ --channel news 'Hello'", notes)
        self.assertIn("WARNING: whoever reaches the HTTP API may push", notes)
        guarded = render({"secrets": {"HTTP_TOKEN": {"value": "x"}}}).notes
        self.assertIn("--token-file /etc/carillon/secrets/HTTP_TOKEN", guarded)
        self.assertNotIn("WARNING", guarded)

    def test_they_warn_of_figures_that_the_world_can_read(self) -> None:
        token = {"secrets": {"HTTP_TOKEN": {"value": "x"}}}
        outside = ({"apiIngress": {"enabled": True, "hosts": [{"host": "a.example"}]}}, {"backends": {"type": "LoadBalancer"}},
                   {"apiHttpRoute": {"enabled": True, "parentRefs": [{"name": "x"}]}})
        for values in outside:
            self.assertIn("WARNING: /metrics of the HTTP API is open", render(token, values).notes)
            self.assertNotIn("WARNING", render(token, values, {"secrets": {"METRICS_TOKEN": {"existingSecret": "x"}}}).notes)

    def test_they_name_the_addresses(self) -> None:
        host = {"enabled": True, "hosts": [{"host": "push.example.org", "paths": [{"path": "/live"}]}]}
        notes = render({"ingress": host | {"tls": [{"hosts": ["push.example.org"]}]}}).notes
        self.assertIn("wss://push.example.org/live", notes)
        self.assertIn("set config.TRUSTED_PROXIES", notes)

    def test_they_say_that_clients_need_a_token(self) -> None:
        self.assertIn("clients need a token: auth=", render({"config": {"AUTH_REQUIRED": True}}).notes)
        self.assertNotIn("clients need a token", render().notes)


if __name__ == "__main__":
    unittest.main()
