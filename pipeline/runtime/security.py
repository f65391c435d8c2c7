"""One settings block, three dialects: how each Kafka client is told where the broker is and who we are.

confluent-kafka takes librdkafka's property names, aiokafka keyword arguments, Faust a URL and a credentials object,
which it turns into aiokafka's arguments itself. Passwords stay inside what is returned; nothing here logs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import UsageError
from pipeline.runtime.settings import KafkaSettings

if TYPE_CHECKING:
    import ssl

    from faust.types.auth import CredentialsT


def confluent_config(kafka: KafkaSettings, bootstrap_servers: str) -> dict[str, Any]:
    """Return the connection part of a confluent-kafka configuration (librdkafka, CONFIGURATION.md).

    Raises UsageError naming the setting that is missing or the file that is not there.
    """
    _check(kafka)
    config: dict[str, Any] = {"bootstrap.servers": bootstrap_servers, "security.protocol": kafka.security_protocol}
    if _is_sasl(kafka):
        config |= {
            "sasl.mechanism": kafka.sasl_mechanism,
            "sasl.username": kafka.sasl_username,
            "sasl.password": kafka.sasl_password.get_secret_value(),
        }
    if _is_ssl(kafka):
        files = {
            "ssl.ca.location": kafka.ssl_ca_file,
            "ssl.certificate.location": kafka.ssl_certificate_file,
            "ssl.key.location": kafka.ssl_key_file,
            "ssl.key.password": kafka.ssl_key_password.get_secret_value(),
        }
        config |= {name: value for name, value in files.items() if value}
    return config


def aiokafka_arguments(kafka: KafkaSettings, bootstrap_servers: str) -> dict[str, Any]:
    """Return the connection keyword arguments of aiokafka's clients.

    Raises UsageError naming the setting that is missing or the file that cannot be used.
    """
    _check(kafka)
    arguments: dict[str, Any] = {"bootstrap_servers": bootstrap_servers, "security_protocol": kafka.security_protocol}
    if _is_ssl(kafka):
        arguments["ssl_context"] = ssl_context(kafka)
    if _is_sasl(kafka):
        arguments |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": kafka.sasl_password.get_secret_value(),
        }
    return arguments


def faust_broker(bootstrap_servers: str) -> list[str]:
    """Return Faust's ``broker`` setting: one URL per server.

    >>> faust_broker("a:9092, b:9092")
    ['kafka://a:9092', 'kafka://b:9092']
    """
    return [f"kafka://{server.strip()}" for server in bootstrap_servers.split(",") if server.strip()]


def faust_credentials(kafka: KafkaSettings) -> CredentialsT | None:
    """Return Faust's ``broker_credentials``, None for PLAINTEXT.

    Raises UsageError naming the setting that is missing or the file that cannot be used.
    """
    _check(kafka)
    context = ssl_context(kafka) if _is_ssl(kafka) else None
    if _is_sasl(kafka):
        from faust import SASLCredentials

        # Faust derives the protocol from the context: SASL_SSL with one, SASL_PLAINTEXT without.
        return SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.sasl_password.get_secret_value(),
            mechanism=kafka.sasl_mechanism,
            ssl_context=context,
        )
    if context is not None:
        from faust import SSLCredentials

        return SSLCredentials(context)
    return None


def ssl_context(kafka: KafkaSettings) -> ssl.SSLContext:
    """Return a TLS context that verifies the broker and its host name.

    Raises UsageError naming the file that cannot be used.
    """
    import ssl

    try:
        context = ssl.create_default_context(cafile=kafka.ssl_ca_file or None)
    except OSError as error:  # includes ssl.SSLError: the file is no certificate
        raise UsageError(
            f"kafka.ssl_ca_file {kafka.ssl_ca_file}: {error.strerror or 'not a PEM certificate'}"
        ) from None
    if kafka.ssl_certificate_file:
        try:
            # An empty password function keeps OpenSSL from asking on the terminal when the key is encrypted.
            context.load_cert_chain(
                kafka.ssl_certificate_file, kafka.ssl_key_file or None, password=kafka.ssl_key_password.get_secret_value
            )
        except OSError as error:
            files = (
                f"kafka.ssl_certificate_file {kafka.ssl_certificate_file} and kafka.ssl_key_file {kafka.ssl_key_file}"
            )
            raise UsageError(f"{files}: {error.strerror or 'not a PEM certificate and its key'}") from None
    return context


def _is_ssl(kafka: KafkaSettings) -> bool:
    return kafka.security_protocol in ("SSL", "SASL_SSL")


def _is_sasl(kafka: KafkaSettings) -> bool:
    return kafka.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")


def _check(kafka: KafkaSettings) -> None:
    if _is_sasl(kafka) and not (kafka.sasl_username and kafka.sasl_password.get_secret_value()):
        raise UsageError(
            f"kafka.security_protocol {kafka.security_protocol} needs kafka.sasl_username and kafka.sasl_password"
        )
    for name in ("ssl_ca_file", "ssl_certificate_file", "ssl_key_file"):
        file = getattr(kafka, name)
        if file and not Path(file).is_file():
            raise UsageError(f"kafka.{name} {file}: no such file")
    if kafka.ssl_key_file and not kafka.ssl_certificate_file:
        raise UsageError("kafka.ssl_key_file needs kafka.ssl_certificate_file")
