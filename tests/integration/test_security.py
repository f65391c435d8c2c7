"""The security settings against a real broker that demands TLS and SCRAM: every client dialect gets in, a stranger does not."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from pipeline.core.errors import NotReadyError
from pipeline.runtime.broker import ports, process
from pipeline.runtime.broker.config import properties_text, server_properties
from pipeline.runtime.broker.jars import ensure_jars
from pipeline.runtime.broker.java import find_java
from pipeline.runtime.broker.state import Node, new_cluster_id
from pipeline.runtime.provisioning import apply_topics, plan_topics
from pipeline.runtime.security import aiokafka_arguments, faust_broker, faust_credentials
from pipeline.runtime.settings import Settings
from topics import provision, topic

pytestmark = pytest.mark.integration
USER, PASSWORD = "callscribe", "correct horse"
MECHANISMS = {"SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256, "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512}


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Return a CA certificate for the client, and key and certificate of 127.0.0.1 in one file for the broker."""
    key, certificate, both = folder / "key.pem", folder / "ca.pem", folder / "broker.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    both.write_text(key.read_text() + certificate.read_text())
    return certificate, both


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Start a broker with a SASL_SSL listener; yield the kafka settings that open it."""
    folder = tmp_path_factory.mktemp("secure")
    ca, broker = _certificate(folder)
    chosen: set[int] = set()
    for _ in range(3):
        chosen.add(ports.free_port(taken=chosen))
    plain, controller, port = chosen
    node = Node(node_id=1, port=plain, controller_port=controller)
    properties = server_properties(node=node, nodes=[node], log_folder=folder / "log")
    properties["listeners"] += f",SECURE://127.0.0.1:{port}"
    properties["advertised.listeners"] += f",SECURE://127.0.0.1:{port}"
    properties["listener.security.protocol.map"] += ",SECURE:SASL_SSL"
    properties["sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
    properties["ssl.keystore.type"] = "PEM"
    properties["ssl.keystore.location"] = str(broker)
    module = "org.apache.kafka.common.security"
    for mechanism in MECHANISMS:
        name = f"listener.name.secure.{mechanism.lower()}.sasl.jaas.config"
        properties[name] = f"{module}.scram.ScramLoginModule required;"
    properties["listener.name.secure.plain.sasl.jaas.config"] = (
        f'{module}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    )
    file, log = folder / "node-1.properties", folder / "node-1.log"
    file.write_text(properties_text(properties))
    java, jars = find_java().executable, ensure_jars(progress=print)
    process.format_storage(java=java, jars=jars, cluster_id=new_cluster_id(), properties=file)
    command = process.broker_command(java=java, jars=jars, heap_mb=256, is_quick=True, properties=file)
    pid = process.start_detached(command, log=log, folder=folder)
    try:
        deadline = time.monotonic() + 60
        while not (ports.accepts(plain) and ports.cluster_of(f"127.0.0.1:{plain}", timeout=3.0)):
            assert process.is_node(pid, file), process.last_words(log)
            assert time.monotonic() < deadline
            time.sleep(0.05)
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{plain}"})
        users = [
            UserScramCredentialUpsertion(USER, ScramCredentialInfo(mechanism, 4096), PASSWORD.encode())
            for mechanism in MECHANISMS.values()
        ]
        for user in users:  # the broker takes one change per user and request
            for future in admin.alter_user_scram_credentials([user]).values():
                future.result()
        yield {
            "bootstrap_servers": f"127.0.0.1:{port}",
            "security_protocol": "SASL_SSL",
            "sasl_username": USER,
            "sasl_password": PASSWORD,
            "ssl_ca_file": str(ca),
        }
    finally:
        process.stop([(pid, file)], grace_seconds=10.0)


def _settings(kafka: dict[str, Any], **values: Any) -> Settings:
    return Settings.model_validate({"kafka": {**kafka, **values}, "topics": {"prefix": "secure", "partitions": 1}})


async def _send(arguments: dict[str, Any]) -> int:
    producer = AIOKafkaProducer(**arguments)
    try:
        await producer.start()
        sent = await producer.send_and_wait(topic("call.state").full_name("secure"), b"value", key=b"key")
        return int(sent.offset)
    finally:
        await producer.stop()
        await _hang_up()


async def _hang_up() -> None:
    """Close every socket: TLS says goodbye behind ``stop``, and one that the loop's end cuts short warns in a later test."""
    for transport in list(asyncio.get_running_loop()._transports.values()):  # type: ignore[attr-defined]
        transport.abort()
    await asyncio.sleep(0)


@pytest.mark.parametrize("mechanism", ["PLAIN", *MECHANISMS])
def test_every_client_gets_in(secure: dict[str, Any], mechanism: str) -> None:
    settings = _settings(secure, sasl_mechanism=mechanism)
    apply_topics(settings)  # confluent-kafka
    assert plan_topics(settings) == []

    servers = settings.kafka.bootstrap_servers
    first = asyncio.run(_send(aiokafka_arguments(settings.kafka, servers)))
    assert faust_broker(servers) == [f"kafka://{servers}"]
    through_faust = credentials_to_aiokafka_auth(faust_credentials(settings.kafka))
    assert asyncio.run(_send({"bootstrap_servers": servers, **through_faust})) == first + 1


def test_a_stranger_is_named_as_such(secure: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provision, "CONNECT_SECONDS", 5.0)
    settings = _settings(secure, sasl_password="wrong password")
    with pytest.raises(NotReadyError, match=r"[Aa]uthentication failed") as caught:
        plan_topics(settings)
    assert "wrong password" not in str(caught.value)
    with pytest.raises(KafkaError):
        asyncio.run(_send(aiokafka_arguments(settings.kafka, settings.kafka.bootstrap_servers)))


def test_a_broker_without_a_trusted_certificate_is_refused(
    secure: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provision, "CONNECT_SECONDS", 5.0)
    settings = _settings(secure, ssl_ca_file="")
    with pytest.raises(NotReadyError, match="certificate"):
        plan_topics(settings)
    context = aiokafka_arguments(settings.kafka, settings.kafka.bootstrap_servers)["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
