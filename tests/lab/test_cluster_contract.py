"""What mtv relies on in a target cluster. Runs against the lab's, or any other: MTV_CONTRACT_KUBECONFIG."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client, watch
from kubernetes.stream import stream

from tests.lab.conftest import Cluster, closing_client, mounted, refused, until

pytestmark = pytest.mark.lab

RESTRICTED = {"runAsNonRoot": True, "runAsUser": 107, "runAsGroup": 107, "seccompProfile": {"type": "RuntimeDefault"}}
RESTRICTED_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def call(cluster: Cluster, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
    """A call that the generated client has no good method for."""
    return cluster.api.call_api(
        path,
        method,
        header_params={"Content-Type": kind, "Accept": "application/json"},
        body=body,
        auth_settings=["BearerToken"],
        response_types_map={200: "object", 201: "object"},
        _return_http_data_only=True,
    )


def apply(cluster: Cluster, path: str, body: Any, manager: str = "one") -> Any:
    return call(cluster, "PATCH", f"{path}?fieldManager={manager}", body, "application/apply-patch+yaml")


@pytest.fixture
def populators(cluster: Cluster) -> Iterator[str]:
    """A resource type of our own with validation rules; gives its group."""
    group = f"t{uuid.uuid4().hex[:8]}.lab.example"
    rules = [{"rule": "self.min <= self.max", "message": "min must not exceed max"}]
    text = {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "text is immutable"}]}
    numbers = {"min": {"type": "integer"}, "max": {"type": "integer"}, "text": text}
    spec = {"type": "object", "properties": numbers, "required": ["min", "max"], "x-kubernetes-validations": rules}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    extensions = client.ApiextensionsV1Api(cluster.api)
    extensions.create_custom_resource_definition(
        {
            "metadata": {"name": f"populators.{group}"},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"plural": "populators", "kind": "Populator"},
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
            },
        }
    )
    objects = client.CustomObjectsApi(cluster.api)
    until(
        lambda: (
            refused(lambda: objects.list_namespaced_custom_object(group, "v1", cluster.namespace, "populators"))[0]
            == 200
        ),
        what="the new resource type",
    )
    yield group
    extensions.delete_custom_resource_definition(f"populators.{group}")


def populator(group: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": f"{group}/v1", "kind": "Populator", "metadata": {"name": name}, "spec": spec}


def test_the_version_is_one_that_kubevirt_supports(cluster: Cluster) -> None:
    version = client.VersionApi(cluster.api).get_code()
    assert (int(version.major), int(version.minor.rstrip("+"))) >= (1, 31)


def test_openapi_v3_describes_the_core_group(cluster: Cluster) -> None:
    assert "api/v1" in call(cluster, "GET", "/openapi/v3")["paths"]


def test_a_resource_type_refuses_what_its_rules_forbid(cluster: Cluster, populators: str) -> None:
    objects = client.CustomObjectsApi(cluster.api)
    where = (populators, "v1", cluster.namespace, "populators")
    create = objects.create_namespaced_custom_object
    status, message = refused(lambda: create(*where, populator(populators, "bad", min=5, max=1)))
    assert (status, "min must not exceed max" in message) == (422, True)
    create(*where, populator(populators, "good", min=1, max=5, text="hello"))
    change = {"spec": {"text": "other"}}
    status, message = refused(lambda: objects.patch_namespaced_custom_object(*where, "good", change))
    assert (status, "text is immutable" in message) == (422, True)


def test_server_side_apply_removes_what_is_no_longer_applied(cluster: Cluster, populators: str) -> None:
    path = f"/apis/{populators}/v1/namespaces/{cluster.namespace}/populators/p"
    apply(cluster, path, populator(populators, "p", min=1, max=2, text="t"))
    assert "text" not in apply(cluster, path, populator(populators, "p", min=1, max=2))["spec"]


def test_server_side_apply_names_a_conflict_between_managers(cluster: Cluster) -> None:
    path = f"/api/v1/namespaces/{cluster.namespace}/configmaps/c"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}}
    apply(cluster, path, body)
    status, _ = refused(lambda: apply(cluster, path, {**body, "data": {"a": "2"}}, manager="two"))
    assert status == 409


def test_a_service_account_token_may_do_what_its_role_says_and_no_more(cluster: Cluster) -> None:
    namespace, rbac = cluster.namespace, client.RbacAuthorizationV1Api(cluster.api)
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    cluster.core.create_namespaced_service_account(namespace, {"metadata": {"name": "mover"}})
    rbac.create_namespaced_role(namespace, {"metadata": {"name": "mover"}, "rules": rules})
    rbac.create_namespaced_role_binding(
        namespace,
        {
            "metadata": {"name": "mover"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "mover"},
            "subjects": [{"kind": "ServiceAccount", "name": "mover", "namespace": namespace}],
        },
    )
    request = {"spec": {"expirationSeconds": 600}}
    token = cluster.core.create_namespaced_service_account_token("mover", namespace, request).status.token
    settings = client.Configuration()
    settings.host, settings.ssl_ca_cert = cluster.api.configuration.host, cluster.api.configuration.ssl_ca_cert
    settings.api_key = {"authorization": f"Bearer {token}"}
    with closing_client(client.ApiClient(settings)) as api:
        mover = client.CoreV1Api(api)
        until(lambda: refused(lambda: mover.list_namespaced_pod(namespace))[0] == 200, what="the role to apply")
        assert refused(lambda: mover.list_namespaced_secret(namespace))[0] == 403
        assert refused(lambda: mover.list_namespaced_pod("kube-system"))[0] == 403


def test_a_restricted_namespace_takes_the_movers_pod_and_no_other(cluster: Cluster) -> None:
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    cluster.core.patch_namespace(cluster.namespace, label)
    status, message = refused(lambda: cluster.start("root", "true"))
    assert (status, "restricted" in message) == (403, True)
    log = cluster.run("good", "id -u", securityContext=RESTRICTED, container={"securityContext": RESTRICTED_CONTAINER})
    assert log.strip() == "107"


def test_logs_hold_both_outputs(cluster: Cluster) -> None:
    assert sorted(cluster.run("logs", "echo out; echo err >&2").split()) == ["err", "out"]


def test_a_log_can_be_followed_line_by_line_while_the_pod_runs(cluster: Cluster) -> None:
    cluster.start("follow", "echo first; while [ ! -e /go ]; do sleep 0.1; done; echo second")
    cluster.reach("follow", "Running")
    lines = watch.Watch().stream(cluster.core.read_namespaced_pod_log, "follow", cluster.namespace, follow=True)
    assert next(lines) == "first"  # the pod still waits for us
    execute(cluster, "follow", "touch /go")
    assert list(lines) == ["second"]


def execute(cluster: Cluster, name: str, script: str) -> tuple[int, str]:
    session = stream(
        cluster.core.connect_get_namespaced_pod_exec,
        name,
        cluster.namespace,
        command=["sh", "-c", script],
        stderr=True,
        stdout=True,
        _preload_content=False,
    )
    session.run_forever(timeout=30)
    code = session.returncode  # read_all() would swallow it
    output = session.read_stdout()
    session.sock.shutdown()  # close() does nothing once the server has said goodbye
    return code, output


def test_exec_gives_output_and_exit_code(cluster: Cluster) -> None:
    cluster.start("exec", "sleep 60")
    cluster.reach("exec", "Running")
    assert execute(cluster, "exec", "echo inside; exit 4") == (4, "inside\n")


def test_init_container_volumes_and_environment_reach_the_container(cluster: Cluster) -> None:
    namespace = cluster.namespace
    cluster.core.create_namespaced_secret(
        namespace, {"metadata": {"name": "s"}, "stringData": {"pw": "p", "f": "file"}}
    )
    cluster.core.create_namespaced_config_map(namespace, {"metadata": {"name": "c"}, "data": {"K": "v"}})
    work, shown = {"name": "w", "mountPath": "/w"}, {"name": "s", "mountPath": "/s", "readOnly": True}
    first = {"name": "i", "image": cluster.image, "command": ["sh", "-c", "echo init > /w/x"], "volumeMounts": [work]}
    main = {
        "volumeMounts": [work, shown],
        "envFrom": [{"configMapRef": {"name": "c"}}],
        "env": [
            {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
    }
    volumes = [{"name": "w", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "s"}}]
    script = "cat /w/x; echo $PW $K $POD; cat /s/f"
    log = cluster.run("all", script, container=main, volumes=volumes, initContainers=[first])
    assert log.split() == ["init", "p", "v", "all", "file"]


def test_exit_code_and_termination_message_are_reported(cluster: Cluster) -> None:
    cluster.start("ends", "echo because > /dev/termination-log; exit 7")
    end = cluster.terminated("ends")
    assert (end.exit_code, end.message.strip()) == (7, "because")


def test_a_sidecar_does_not_keep_the_pod_from_ending(cluster: Cluster) -> None:
    script = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
    side = {"name": "s", "image": cluster.image, "restartPolicy": "Always", "command": ["sh", "-c", script]}
    assert cluster.run("side", "echo done", initContainers=[side]).strip() == "done"


def test_what_one_pod_writes_to_a_claim_the_next_one_reads(cluster: Cluster) -> None:
    cluster.claim("data")
    cluster.run("writes", "echo kept > /data/f", **mounted("data"))
    assert cluster.run("reads", "cat /data/f", **mounted("data")).strip() == "kept"


def test_the_movers_user_may_write_its_claim(cluster: Cluster) -> None:
    cluster.claim("data")
    spec = {**mounted("data"), "securityContext": {**RESTRICTED, "fsGroup": 107}}
    assert cluster.run("writes", "echo mine > /data/f && cat /data/f", **spec).strip() == "mine"


def test_a_claim_with_a_data_source_waits_for_its_populator(cluster: Cluster, populators: str) -> None:
    core, namespace = cluster.core, cluster.namespace
    cluster.claim("wanted", dataSourceRef={"apiGroup": populators, "kind": "Populator", "name": "p"})
    cluster.claim("prime")
    volume = cluster.bound("prime").spec.volume_name  # the provisioner has come by, and left the other one alone
    wanted = core.read_namespaced_persistent_volume_claim("wanted", namespace)
    assert (wanted.status.phase, wanted.spec.data_source_ref.name) == ("Pending", "p")
    cluster.run("fills", "echo populated > /data/f", **mounted("prime"))
    reference = {"namespace": namespace, "name": "wanted", "uid": wanted.metadata.uid, "resourceVersion": None}
    core.patch_persistent_volume(volume, {"spec": {"claimRef": reference}})
    assert cluster.bound("wanted").spec.volume_name == volume
    assert cluster.run("reads", "cat /data/f", **mounted("wanted")).strip() == "populated"


def test_a_deleted_claim_takes_its_volume_with_it(cluster: Cluster) -> None:
    cluster.claim("data")
    volume = cluster.bound("data").spec.volume_name
    cluster.core.delete_namespaced_persistent_volume_claim("data", cluster.namespace)
    until(lambda: refused(lambda: cluster.core.read_persistent_volume(volume))[0] == 404, what="the volume to go")


def test_the_movers_user_reads_back_what_it_wrote_to_a_block_device(cluster: Cluster) -> None:
    if cluster.block_class is None:
        pytest.skip("this cluster has no class for block volumes (the lab: only as root)")
    cluster.claim("disk", storageClassName=cluster.block_class, volumeMode="Block")
    read = "dd if=/dev/vm bs=5 count=1 2>/dev/null"
    write = "printf MAGIC | dd of=/dev/vm bs=512 conv=notrunc,fsync 2>/dev/null"
    spec = {
        "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "disk"}}],
        "securityContext": {**RESTRICTED, "fsGroup": 107},
    }
    device = {"volumeDevices": [{"name": "d", "devicePath": "/dev/vm"}]}
    assert cluster.run("writes", f"{write}; {read}", container=device, **spec).strip() == "MAGIC"
    assert cluster.run("reads", read, container=device, **spec).strip() == "MAGIC"


def test_a_container_over_its_memory_limit_is_killed_and_says_so(cluster: Cluster, request: Any) -> None:
    if cluster.is_lab:
        part = request.getfixturevalue("lab_problems")
        if any("memory limits" in problem for problem in part):
            pytest.skip("the lab enforces no memory limits here: no rights to a cgroup")
    limits = {"resources": {"limits": {"memory": "32Mi"}}}
    # tail keeps what it reads; the amount is bounded should the limit not hold
    cluster.start("eats", "head -c 200000000 /dev/zero | tail -c 150000000 | wc -c", container=limits)
    assert cluster.terminated("eats").reason == "OOMKilled"


def test_an_unknown_image_is_named_as_the_reason(cluster: Cluster) -> None:
    cluster.start("lost", "true", container={"image": "localhost/nowhere:1", "imagePullPolicy": "Never"})
    assert until(lambda: cluster.waiting_reason("lost"), what="a reason").startswith("ErrImage")


def test_an_unknown_command_is_reported_by_name(cluster: Cluster) -> None:
    cluster.start("wrong", "", container={"command": ["no-such-program"]})
    assert "no-such-program" in cluster.terminated("wrong").message


def test_a_pod_that_is_deleted_gets_the_signal_to_end(cluster: Cluster) -> None:
    cluster.claim("data")
    script = "trap 'echo bye > /data/f; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    cluster.start("ends", script, **{**mounted("data"), "terminationGracePeriodSeconds": 30})
    until(lambda: "up" in cluster.log_so_far("ends"), what="the trap")
    cluster.core.delete_namespaced_pod("ends", cluster.namespace)
    until(lambda: refused(lambda: cluster.pod("ends"))[0] == 404, what="the pod to go")
    assert cluster.run("reads", "cat /data/f", **mounted("data")).strip() == "bye"


def test_a_job_succeeds(cluster: Cluster) -> None:
    batch = client.BatchV1Api(cluster.api)
    container = {"name": "c", "image": cluster.image, "command": ["true"]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    batch.create_namespaced_job(cluster.namespace, {"metadata": {"name": "j"}, "spec": {"template": template}})
    until(lambda: batch.read_namespaced_job("j", cluster.namespace).status.succeeded == 1, what="the job")
