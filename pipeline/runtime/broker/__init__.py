"""The embedded broker: Apache Kafka itself, for development, tests and the demo."""

from pipeline.runtime.broker.embedded import BrokerStatus, EmbeddedBroker, bootstrap_servers
from pipeline.runtime.broker.jars import KAFKA_VERSION

__all__ = ["KAFKA_VERSION", "BrokerStatus", "EmbeddedBroker", "bootstrap_servers"]
