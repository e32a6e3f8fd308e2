"""The restricted Pod Security Standard, and what this project asks of a container beside it."""

from __future__ import annotations

from typing import Any

#: Volumes that the standard allows.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}

#: Sysctls that it allows.
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
}

SECCOMP = {"RuntimeDefault", "Localhost"}
SELINUX = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def faults(spec: dict[str, Any]) -> list[str]:
    """What of a pod's spec the standard, or the project, doesn't allow."""
    found = []
    pod = spec.get("securityContext", {})
    for host in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(host):
            found.append(host)
    for sysctl in pod.get("sysctls", []):
        if sysctl["name"] not in SYSCTLS:
            found.append(f"sysctl {sysctl['name']}")
    if pod.get("windowsOptions", {}).get("hostProcess"):
        found.append("hostProcess")
    for volume in spec.get("volumes", []):
        for kind in set(volume) - {"name"} - VOLUMES:
            found.append(f"volume {volume['name']}: {kind}")
    for container in spec.get("initContainers", []) + spec["containers"] + spec.get("ephemeralContainers", []):
        found += [f"container {container['name']}: {fault}" for fault in of_container(container, pod)]
    return found


def of_container(container: dict[str, Any], pod: dict[str, Any]) -> list[str]:
    found = []
    context = container.get("securityContext", {})
    either = {**pod, **context}
    if context.get("privileged"):
        found.append("privileged")
    if context.get("allowPrivilegeEscalation") is not False:
        found.append("privilege escalation")
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        found.append("capabilities are not dropped")
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        found.append("capabilities are added")
    if either.get("runAsNonRoot") is not True:
        found.append("may run as root")
    if either.get("runAsUser") == 0:
        found.append("runs as root")
    if either.get("seccompProfile", {}).get("type") not in SECCOMP:
        found.append("no seccomp profile")
    if context.get("procMount", "Default") != "Default":
        found.append("procMount")
    if either.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in SECCOMP:
        found.append("no AppArmor profile")
    selinux = either.get("seLinuxOptions", {})
    if selinux.get("type") not in SELINUX or selinux.get("user") or selinux.get("role"):
        found.append("SELinux options")
    if any(port.get("hostPort") for port in container.get("ports", [])):
        found.append("a port of the host")
    # The project's own.
    if context.get("readOnlyRootFilesystem") is not True:
        found.append("the root file system can be written")
    return found
