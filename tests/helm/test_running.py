"""Real nodes, told what the chart tells them: its variables, its files, its Redis, its notes, its test pod."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shlex
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from chart import ROOT, Object, Rendered, render, values_files

CARILLON = os.environ.get("CARILLON", str(ROOT / "target" / "debug" / "carillon"))

#: What is in the Secrets that the values refer to, by variable. A public key of RFC 8037, appendix A.2.
FOREIGN = {
    "JWT_SECRET": "a secret of more than thirty-two bytes",
    "JWT_JWKS": '{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"a",'
                '"x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}',
}

PATIENCE = 30.0


def free_port() -> int:
    """A port that nobody listens on, below those that the system gives to connections: none of those takes it meanwhile."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there are free ports")


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def eventually(what, process: subprocess.Popen[str] | None = None):
    """The first answer that is true; what a process that has ended meanwhile said is the failure."""
    deadline = time.monotonic() + PATIENCE
    while True:
        if answer := what():
            return answer
        if process and process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}: {process.stdout.read()}")
        if time.monotonic() >= deadline:
            if process:
                process.kill()
            raise AssertionError(f"not within {PATIENCE} s; {process.stdout.read() if process else ''}")
        time.sleep(0.02)


class Release:
    """The release's pods on this machine, one of each kind."""

    def __init__(self, values: Object) -> None:
        ports = {name: free_port() for name in ("websocket", "http", "metrics")}
        # A machine may have no IPv6.
        self.rendered: Rendered = render(values, {"ports": ports, "listenAddress": "127.0.0.1"})
        self.ports = ports
        self.redis_port = free_port()
        self.exit = contextlib.ExitStack()
        self.directory = Path(self.exit.enter_context(tempfile.TemporaryDirectory()))
        self.secrets = {each["metadata"]["name"]: each["stringData"] for each in self.rendered.of("Secret")}

    def __enter__(self) -> Release:
        try:
            for path in ("etc/carillon/tls", "run/carillon"):
                (self.directory / path).mkdir(parents=True)
            if any("secret" in volume for volume in self.rendered.node["spec"].get("volumes", [])):
                self.make_certificate()
            self.make_secrets()
            if self.rendered.of("StatefulSet"):
                self.start_redis()
            self.start_node()
        except BaseException:
            self.exit.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.exit.close()

    def here(self, text: str) -> str:
        """A path of a container as one of this machine, the bundled Redis's name as its address."""
        text = re.sub(r"^/(etc|run)/carillon", rf"{self.directory}/\1/carillon", text)
        return re.sub(r"@[a-z0-9-]+-redis:6379", f"@127.0.0.1:{self.redis_port}", text)

    def make_certificate(self) -> None:
        directory = self.directory / "etc/carillon/tls"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                        "-subj", "/CN=push.example.org", "-keyout", directory / "tls.key", "-out", directory / "tls.crt"],
                       check=True, capture_output=True)

    def make_secrets(self) -> None:
        (self.directory / "etc/carillon/secrets").mkdir()
        for volume in self.rendered.node["spec"].get("volumes", []):
            for source in volume.get("projected", {}).get("sources", []):
                for item in source["secret"]["items"]:
                    own = self.secrets.get(source["secret"]["name"])
                    path = self.directory / "etc/carillon/secrets" / item["path"]
                    path.write_text(self.here(own[item["key"]]) if own else self.foreign(item["path"]))

    def foreign(self, variable: str) -> str:
        if variable == "REDIS_URL" and self.rendered.of("StatefulSet"):
            return f"redis://127.0.0.1:{self.redis_port}"
        if variable == "REDIS_URL":
            # Nobody is there: the node runs, and is not ready.
            return "rediss-sentinel://:x@127.0.0.1:1?sentinelServiceName=mymaster&node=127.0.0.1:2"
        if variable == "REDIS_CA":
            self.make_certificate()
            return (self.directory / "etc/carillon/tls/tls.crt").read_text()
        return FOREIGN.get(variable, f"foreign {variable}")

    def process(self, command: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, env=env, cwd=self.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.exit.callback(lambda: (process.kill(), process.wait(), process.stdout.close()))
        # Whoever reads what it says would wait for ever for one that says nothing.
        watchdog = threading.Timer(4 * PATIENCE, process.kill)
        watchdog.daemon = True
        watchdog.start()
        self.exit.callback(watchdog.cancel)
        return process

    def start_redis(self) -> None:
        pod = self.rendered.one("StatefulSet")["spec"]["template"]["spec"]
        container, = pod["containers"]
        users = self.directory / "users.acl"
        secret = self.secrets.get(pod["volumes"][0]["secret"]["secretName"])
        users.write_text(secret["users.acl"] if secret else "user default on nopass ~* &* +@all\n")
        places = {"6379": str(self.redis_port), "/etc/redis/users.acl": str(users)}
        process = self.process(container["command"] + [places.get(each, each) for each in container["args"]], dict(os.environ))

        def listens() -> bool:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", self.redis_port)) == 0

        eventually(listens, process)

    def start_node(self) -> None:
        self.node = self.process([CARILLON], {name: self.here(value) for name, value in self.rendered.env.items()})
        eventually(lambda: self.asked("/livez")[0] == 200, self.node)

    def asked(self, path: str) -> tuple[int, str]:
        return get(f"http://127.0.0.1:{self.ports['metrics']}{path}")

    def url(self, text: str) -> str:
        """A URL in the cluster as one of this machine: by the Service that it names, and the port that this leads to."""
        named = urlsplit(text)
        service, = [each for each in self.rendered.of("Service") if each["metadata"]["name"] == named.hostname]
        port, = [each for each in service["spec"]["ports"] if each["port"] == (named.port or 80)]
        return f"{named.scheme}://127.0.0.1:{self.ports[port['targetPort']]}{named.path}"

    def command(self, arguments: list[str]) -> subprocess.Popen[str]:
        """The image's own command, as `kubectl exec` would run it."""
        return self.process([CARILLON, *(self.here(each) for each in arguments)], {})

    def listened(self, listener: subprocess.Popen[str]) -> None:
        assert "listening on" in listener.stdout.readline()


class Running(unittest.TestCase):
    def test_a_node_takes_what_every_values_file_tells_it(self) -> None:
        for name, values in values_files().items():
            with self.subTest(values=name), Release(values) as release:
                elsewhere = "REDIS_URL_FILE" in release.rendered.env and not release.rendered.of("StatefulSet")
                if elsewhere:
                    self.assertEqual(release.asked("/readyz")[0], 503)
                else:
                    eventually(lambda: release.asked("/readyz")[0] == 200, release.node)

    def test_the_notes_lead_to_the_first_push(self) -> None:
        for name in ("default", "bundled-redis-autoscaling"):
            with self.subTest(values=name), Release(values_files()[name]) as release:
                eventually(lambda: release.asked("/readyz")[0] == 200, release.node)
                commands = re.findall(r"exec deploy/demo-carillon -- /carillon (.+)", release.rendered.notes)
                listen, push = (shlex.split(command) for command in commands)
                listener = release.command([*listen, "--count", "1"])
                release.listened(listener)
                pushed = release.command(push)
                self.assertEqual(pushed.wait(PATIENCE), 0, pushed.stdout)
                self.assertEqual(listener.stdout.read(), "Hello\n")
                self.assertEqual(listener.wait(PATIENCE), 0)

    def test_the_test_pod_sees_a_push_arrive(self) -> None:
        with Release(values_files()["bundled-redis-autoscaling"]) as release:
            eventually(lambda: release.asked("/readyz")[0] == 200, release.node)
            spec = release.rendered.one("Pod")["spec"]
            token = release.directory / "etc/carillon/HTTP_TOKEN"
            token.write_text(release.secrets["demo-carillon"]["HTTP_TOKEN"])

            def command(container: Object) -> subprocess.Popen[str]:
                return release.command([release.url(each) if "://" in each else each for each in container["args"]])

            ready = command(spec["initContainers"][0])
            self.assertEqual((ready.wait(PATIENCE), ready.stdout.read()), (0, "ready\n"))
            listen, push = spec["containers"]
            listener = command(listen)
            release.listened(listener)
            self.assertEqual(command(push).wait(PATIENCE), 0)
            self.assertEqual(listener.stdout.read(), "first push of demo\n")
            self.assertEqual(listener.wait(PATIENCE), 0)

    def test_a_token_changes_as_the_readme_says(self) -> None:
        """The three steps of the chart's README, with what Kubernetes does to the mounted files between them."""
        with Release({"secrets": {"HTTP_TOKEN": {"value": "old"}, "TOKEN": {"value": "none-yet"}}}) as release:
            files = release.directory / "etc/carillon/secrets"

            def opens(token: str) -> bool:
                url = f"http://127.0.0.1:{release.ports['http']}/?action=countConnections&token={token}"
                return '"status": true' in get(url)[1]

            self.assertEqual((opens("old"), opens("new")), (True, False))
            (files / "TOKEN").write_text("new")
            eventually(lambda: opens("old") and opens("new"))
            (files / "HTTP_TOKEN").write_text("new")
            (files / "TOKEN").write_text("none-any-more")
            eventually(lambda: opens("new") and not opens("old"))
            env = {name: release.here(value) for name, value in release.rendered.env.items()}
            self.assertEqual(release.process([CARILLON, "reload", "--lang", "en"], env).wait(PATIENCE), 0)

    def test_a_node_that_is_stopped_closes_its_sockets_and_ends_in_order(self) -> None:
        with Release({"drain": {"periodSeconds": 1}}) as release:
            listener = release.command(["listen", "--url", f"ws://127.0.0.1:{release.ports['websocket']}/"])
            release.listened(listener)
            release.node.terminate()
            self.assertEqual(release.node.wait(release.rendered.node["spec"]["terminationGracePeriodSeconds"]), 0)
            self.assertIn("1001", listener.stdout.read())


if __name__ == "__main__":
    unittest.main()
