"""What can't work is refused with a message that says what to do."""

from __future__ import annotations

import unittest

import helm_python

from chart import render

REDIS = {"redis": {"bundled": {"enabled": True, "password": "0123456789abcdef"}}}
TOKEN = {"secrets": {"HTTP_TOKEN": {"value": "token"}}}

#: Values, and words of the message.
REFUSED = [
    # More than one node without Redis.
    ({"replicas": 2}, "more than one node needs Redis"),
    ({"replicas": None}, "more than one node needs Redis"),
    ({"autoscaling": {"enabled": True}}, "more than one node needs Redis"),
    (REDIS | {"secrets": {"REDIS_URL": {"value": "redis://redis"}}}, "which Redis is it"),
    ({"redis": {"bundled": {"enabled": True, "password": "0123456789abcdef", "existingSecret": "x"}}}, "one of the two"),
    ({"redis": {"bundled": {"enabled": True, "password": "short"}}}, "password"),
    (REDIS | {"redis": {"bundled": {"image": {"tag": ""}}}}, "needs a tag or a digest"),
    # Times.
    ({"terminationGracePeriodSeconds": 34}, "nodes need 35 s to end in order"),
    ({"terminationGracePeriodSeconds": 60, "drain": {"periodSeconds": 60}}, "nodes need 75 s"),
    ({"terminationGracePeriodSeconds": 39, "config": {"WEBHOOK_URL": "http://x"}}, "nodes need 40 s"),
    ({"terminationGracePeriodSeconds": 94, "config": {"WEBHOOK_URL": "http://x", "WEBHOOK_TIMEOUT": "1m"}}, "need 95 s"),
    ({"terminationGracePeriodSeconds": 36, "secrets": {"WEBHOOK_URL": {"value": "http://x"}},
      "config": {"WEBHOOK_TIMEOUT": "1001ms"}}, "nodes need 37 s"),
    ({"drain": {"marginSeconds": 1}}, "marginSeconds"),
    # Names.
    ({"replica": 3}, "replica"),
    ({"image": {"repo": "x"}}, "repo"),
    ({"redis": {"url": "redis://x"}}, "url"),
    ({"config": {"MAX_CONECTIONS": 1}}, "config.MAX_CONECTIONS: the program has no variable of this name"),
    ({"secrets": {"HTTP_TOKN": {"value": "x"}}}, "secrets.HTTP_TOKN: the program has no variable"),
    ({"config": {"max_connections": 1}}, "max_connections"),
    ({"config": {"WS_PORT": 80}}, "set by the value ports.websocket"),
    ({"config": {"DRAIN_PERIOD": "60s"}}, "set by the value drain.periodSeconds"),
    ({"secrets": {"TLS_KEY": {"value": "x"}}}, "set by the value tls.existingSecret"),
    ({"config": {"HTTP_TOKEN": "x"}}, "this is a secret"),
    ({"config": {"REDIS_URL": "redis://redis"}}, "this is a secret"),
    ({"secrets": {"HTTP_TOKEN_FILE": {"value": "x"}}}, "HTTP_TOKEN_FILE"),
    ({"config": {"PRIVATE_CHANNELS": "a"}, "secrets": {"PRIVATE_CHANNELS": {"value": "b"}}}, "one of the two"),
    ({"extraEnv": [{"name": "HTTP_HOST", "value": "::"}]}, "HTTP_HOST is set by other values already"),
    (TOKEN | {"extraEnv": [{"name": "HTTP_TOKEN", "value": "x"}]}, "HTTP_TOKEN is set by other values already"),
    # Secrets are a value or a reference.
    ({"secrets": {"HTTP_TOKEN": "token"}}, "HTTP_TOKEN"),
    ({"secrets": {"HTTP_TOKEN": {"value": ""}}}, "HTTP_TOKEN"),
    ({"secrets": {"HTTP_TOKEN": {"key": "x"}}}, "HTTP_TOKEN"),
    ({"secrets": {"HTTP_TOKEN": {"value": "x", "existingSecret": "y"}}}, "HTTP_TOKEN"),
    # An open API.
    ({"backends": {"type": "LoadBalancer"}}, "would open the HTTP API"),
    ({"apiIngress": {"enabled": True, "hosts": [{"host": "a.example"}]}}, "would open the HTTP API"),
    ({"apiHttpRoute": {"enabled": True, "parentRefs": [{"name": "x"}]}}, "would open the HTTP API"),
    # Scaling.
    (REDIS | {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 4}}, "is more than maxReplicas"),
    (REDIS | {"autoscaling": {"enabled": True, "targetCPUPercent": None}}, "nothing to go by"),
    (REDIS | {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}}, "resources.requests.cpu"),
    # Services, as Kubernetes refuses them.
    ({"service": {"nodePort": 30080}}, "service.nodePort is for the types NodePort and LoadBalancer"),
    ({"service": {"externalTrafficPolicy": "Local"}}, "service.externalTrafficPolicy is for"),
    (TOKEN | {"backends": {"type": "NodePort", "loadBalancerClass": "x"}}, "backends.loadBalancerClass is for the type LoadBalancer"),
    ({"service": {"loadBalancerSourceRanges": ["10.0.0.0/8"]}}, "and service.type is ClusterIP"),
    ({"service": {"ipFamilies": ["IPv6", "IPv6"]}}, "ipFamilies"),
    # Rollouts.
    (REDIS | {"rollout": {"minReadySeconds": 600}}, "every rollout would have failed by then"),
    (REDIS | {"drain": {"periodSeconds": 600}}, "a new node counts after 605 s"),
    # The rest.
    ({"fullnameOverride": "2push"}, 'everything would be called "2push"'),
    ({"fullnameOverride": "Push"}, "Set fullnameOverride"),
    (TOKEN | {"networkPolicy": {"enabled": True}, "apiHttpRoute": {"enabled": True, "parentRefs": [{"name": "x"}]}},
     "set networkPolicy.backends to the pods of the proxy"),
    ({"extraPodSpec": {"containers": []}}, "extraPodSpec.containers: this part of the pod is the chart's"),
    ({"metrics": {"serviceMonitor": {"enabled": True, "interval": "5s"}}}, "scrapeTimeout=10s is longer than interval=5s"),
    ({"metrics": {"podMonitor": {"enabled": True, "namespace": "monitoring"}}, "secrets": {"METRICS_TOKEN": {"value": "x"}}},
     "from a Secret of its own namespace"),
    (REDIS | {"autoscaling": {"enabled": True}, "resources": None}, "resources.requests.cpu"),
    ({"ports": {"websocket": 80}}, "websocket"),
    ({"ports": {"websocket": 8080}}, "three ports"),
    ({"tls": {"http": True}}, "tls.existingSecret"),
    ({"ingress": {"enabled": True}}, "ingress.hosts"),
    ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs"),
    ({"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}}, "scraped twice"),
    ({"metrics": {"rules": {"enabled": True, "disabled": ["NoSuchAlert"]}}}, "there is no alert NoSuchAlert"),
    ({"image": {"digest": "sha256:abc"}}, "digest"),
    ({"service": {"type": "ExternalName"}}, "type"),
]

#: What is near to being refused and isn't.
TAKEN = [
    {"replicas": 0},
    REDIS | {"replicas": 2},
    REDIS | {"replicas": None},
    {"replicas": 2, "secrets": {"REDIS_URL": {"existingSecret": "redis"}}},
    {"replicas": 2, "extraEnv": [{"name": "REDIS_URL_FILE", "value": "/etc/redis-url"}]},
    {"autoscaling": {"enabled": True, "minReplicas": 1, "maxReplicas": 1}},
    {"terminationGracePeriodSeconds": 35},
    {"terminationGracePeriodSeconds": 36, "config": {"WEBHOOK_URL": "http://x", "WEBHOOK_TIMEOUT": "1s"}},
    {"extraEnv": [{"name": "NEWER_THAN_THE_CHART", "value": "1"}]},
    TOKEN | {"backends": {"type": "LoadBalancer"}},
    {"secrets": {"TOKEN": {"existingSecret": "x"}}, "backends": {"type": "NodePort"}},
    {"config": {"HEARTBEAT_INTERVAL_DEVICE": "30s"}},
    {"drain": {"periodSeconds": 600}},
    TOKEN | {"networkPolicy": {"enabled": True, "backends": [{"podSelector": {}}]},
             "apiIngress": {"enabled": True, "hosts": [{"host": "a.example"}]}},
    REDIS | {"drain": {"periodSeconds": 600}, "rollout": {"progressDeadlineSeconds": 900}},
    {"service": {"type": "NodePort", "nodePort": 30080, "externalTrafficPolicy": "Local"}},
    {"metrics": {"podMonitor": {"enabled": True, "namespace": "monitoring"}},
     "secrets": {"METRICS_TOKEN": {"existingSecret": "x"}}},
    {"metrics": {"serviceMonitor": {"enabled": True, "interval": "5s", "scrapeTimeout": "5s"}}},
]


class Refusals(unittest.TestCase):
    def test_what_cannot_work_is_refused(self) -> None:
        for values, words in REFUSED:
            with self.subTest(values=values):
                with self.assertRaises(helm_python.HelmError) as refused:
                    render(values)
                self.assertIn(words, str(refused.exception))

    def test_a_release_whose_name_no_service_may_have_is_refused(self) -> None:
        with self.assertRaisesRegex(helm_python.HelmError, 'would be called "2024-carillon"'):
            render(release="2024")
        self.assertTrue(render({"fullnameOverride": "carillon"}, release="2024").objects)

    def test_nothing_else_is(self) -> None:
        for values in TAKEN:
            with self.subTest(values=values):
                self.assertTrue(render(values).objects)


if __name__ == "__main__":
    unittest.main()
