from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from pipeline.core.errors import UsageError
from pipeline.runtime.security import aiokafka_arguments, confluent_config, faust_broker, faust_credentials
from pipeline.runtime.settings import KafkaSettings

SERVERS = "a:9092,b:9092"
SECRET = "correct horse"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


def _kafka(**values: Any) -> KafkaSettings:
    return KafkaSettings.model_validate(values)


def _sasl(protocol: str, mechanism: str) -> KafkaSettings:
    return _kafka(security_protocol=protocol, sasl_mechanism=mechanism, sasl_username="u", sasl_password=SECRET)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a self-signed certificate and its encrypted key."""
    folder = tmp_path_factory.mktemp("pem")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-days",
        "2",
        "-subj",
        "/CN=broker",
        "-passout",
        f"pass:{SECRET}",
    ]
    subprocess.run(
        [*command, "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True
    )
    return folder


def test_plaintext_names_the_broker_only() -> None:
    kafka = _kafka()
    assert confluent_config(kafka, SERVERS) == {"bootstrap.servers": SERVERS, "security.protocol": "PLAINTEXT"}
    assert aiokafka_arguments(kafka, SERVERS) == {"bootstrap_servers": SERVERS, "security_protocol": "PLAINTEXT"}
    assert faust_credentials(kafka) is None
    assert faust_broker(SERVERS) == ["kafka://a:9092", "kafka://b:9092"]


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_every_dialect_says_the_same(protocol: str, mechanism: str) -> None:
    kafka = _sasl(protocol, mechanism)
    config = confluent_config(kafka, SERVERS)
    assert (config["security.protocol"], config["sasl.mechanism"]) == (protocol, mechanism)
    assert (config["sasl.username"], config["sasl.password"]) == ("u", SECRET)

    arguments = aiokafka_arguments(kafka, SERVERS)
    through_faust = credentials_to_aiokafka_auth(faust_credentials(kafka))
    for name in ("security_protocol", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password"):
        assert arguments[name] == through_faust[name]
    for context in (arguments.get("ssl_context"), through_faust["ssl_context"]):
        assert isinstance(context, ssl.SSLContext) == (protocol == "SASL_SSL")


def test_tls_with_a_client_certificate(pem: Path) -> None:
    kafka = _kafka(
        security_protocol="SSL",
        ssl_ca_file=str(pem / "cert.pem"),
        ssl_certificate_file=str(pem / "cert.pem"),
        ssl_key_file=str(pem / "key.pem"),
        ssl_key_password=SECRET,
    )
    config = confluent_config(kafka, SERVERS)
    assert config["ssl.ca.location"] == config["ssl.certificate.location"] == str(pem / "cert.pem")
    AdminClient({**config, "bootstrap.servers": "127.0.0.1:1", "log_level": 0})  # librdkafka opens the files

    through_faust = credentials_to_aiokafka_auth(faust_credentials(kafka))
    assert through_faust["security_protocol"] == "SSL"
    for context in (aiokafka_arguments(kafka, SERVERS)["ssl_context"], through_faust["ssl_context"]):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert [dict(part[0] for part in ca["subject"]) for ca in context.get_ca_certs()] == [{"commonName": "broker"}]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_librdkafka_knows_the_mechanisms(mechanism: str) -> None:
    AdminClient({**confluent_config(_sasl("SASL_SSL", mechanism), "127.0.0.1:1"), "log_level": 0})


def test_missing_credentials_name_the_settings() -> None:
    for build in (lambda k: confluent_config(k, SERVERS), lambda k: aiokafka_arguments(k, SERVERS), faust_credentials):
        with pytest.raises(UsageError, match=r"kafka\.sasl_username and kafka\.sasl_password"):
            build(_kafka(security_protocol="SASL_SSL"))


def test_unusable_files_are_named(pem: Path, tmp_path: Path) -> None:
    for build in (confluent_config, aiokafka_arguments):
        with pytest.raises(UsageError, match=r"kafka\.ssl_ca_file .*/none\.pem: no such file"):
            build(_kafka(security_protocol="SSL", ssl_ca_file=str(tmp_path / "none.pem")), SERVERS)
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    with pytest.raises(UsageError, match=r"kafka\.ssl_ca_file .*/broken\.pem: "):
        aiokafka_arguments(_kafka(security_protocol="SSL", ssl_ca_file=str(broken)), SERVERS)
    wrong = {
        "ssl_certificate_file": str(pem / "cert.pem"),
        "ssl_key_file": str(pem / "key.pem"),
        "ssl_key_password": "wrong",
    }
    with pytest.raises(UsageError, match=r"kafka\.ssl_key_file .*/key\.pem") as caught:
        faust_credentials(_kafka(security_protocol="SSL", **wrong))
    assert "wrong" not in str(caught.value)
    with pytest.raises(UsageError, match=r"needs kafka\.ssl_certificate_file"):
        confluent_config(_kafka(security_protocol="SSL", ssl_key_file=str(pem / "key.pem")), SERVERS)


def test_importing_loads_neither_faust_nor_ssl() -> None:
    code = "import sys, pipeline.runtime.security; sys.exit('faust' in sys.modules or 'confluent_kafka' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
