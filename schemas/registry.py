"""Schema ids from a Confluent-compatible registry over REST.

Source: "Schema Registry API Reference" (Confluent): subjects, schemas by id, compatibility. The subject of a topic's
values is ``<topic>-value`` (TopicNameStrategy). Ids and schemas never change once given, so both are kept for ever; that an id is
unknown is believed for a minute.

    RegistryError
    ├── RegistryUnreachableError     no answer, or an answer no registry gives
    ├── RegistryRefusedError         wrong credentials, or not allowed
    ├── NotRegisteredError           the record's schema is not registered under its subject
    └── IncompatibleSchemaError      the registry's compatibility rule forbids the schema
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from schemas import schema_text
from schemas.codec import UnknownSchemaError

TIMEOUT_SECONDS = 10.0
UNKNOWN_SECONDS = 60.0  # so long an id is not asked for again that the registry did not know
MAX_UNKNOWN = 10_000  # ids; garbage may name any
MAX_ID = (
    2**31 - 1
)  # ids are positive ints of Java; what is no int is answered with a plain 404, not with SCHEMA_NOT_FOUND
MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
SUBJECT_NOT_FOUND, VERSION_NOT_FOUND, SCHEMA_NOT_FOUND = 40401, 40402, 40403


class RegistryError(RuntimeError):
    """The registry could not do what was asked. Not a CodecError: the record at hand is not to blame."""


class RegistryUnreachableError(RegistryError):
    """The registry does not answer, or what answers is no registry."""


class RegistryRefusedError(RegistryError):
    """The registry refuses the credentials."""


class NotRegisteredError(RegistryError):
    """A record's schema is not registered."""


class IncompatibleSchemaError(RegistryError):
    """The registry's compatibility rule forbids a schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compatibility:
    """Whether a schema may follow the latest version of its subject; ``messages`` say why not."""

    is_compatible: bool
    messages: tuple[str, ...] = ()


class Registry:
    """Client of one registry. ``url`` may hold a path; ``username`` empty means no authentication."""

    def __init__(self, url: str, *, username: str = "", password: str = "", timeout: float = TIMEOUT_SECONDS) -> None:
        self._url = url.rstrip("/")
        import httpx  # a quarter of a second that only users of a registry pay

        self._client = httpx.Client(
            timeout=timeout,
            auth=(username, password) if username else None,
            headers={"Accept": f"{MEDIA_TYPE}, application/json", "Content-Type": MEDIA_TYPE},
        )

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def id_of(self, subject: str, schema: str) -> int:
        """Return the id of ``schema`` (JSON text) under ``subject``. Raises NotRegisteredError."""
        answer = self._call("POST", f"/subjects/{quote(subject, safe='')}", {"schema": schema})
        if answer.code in (SUBJECT_NOT_FOUND, VERSION_NOT_FOUND, SCHEMA_NOT_FOUND):
            raise NotRegisteredError(f"{subject}: the schema is not registered")
        return answer.integer("id")

    def schema_of(self, schema_id: int) -> str:
        """Return the JSON text of the schema with an id. Raises UnknownSchemaError."""
        answer = self._call("GET", f"/schemas/ids/{schema_id}")
        if answer.code == SCHEMA_NOT_FOUND:
            raise UnknownSchemaError(f"schema id {schema_id} is not in the registry")
        if answer.body.get("schemaType", "AVRO") != "AVRO" or answer.body.get("references"):
            raise UnknownSchemaError(f"schema id {schema_id} is not a self-contained Avro schema")
        return answer.text("schema")

    def register(self, subject: str, schema: str) -> int:
        """Register ``schema`` under ``subject`` and return its id; nothing happens when it is there already.

        Raises IncompatibleSchemaError.
        """
        answer = self._call("POST", f"/subjects/{quote(subject, safe='')}/versions", {"schema": schema})
        if answer.status in (409, 422):
            raise IncompatibleSchemaError(f"{subject}: {answer.message}")
        return answer.integer("id")

    def compatibility(self, subject: str, schema: str) -> Compatibility:
        """Return whether ``schema`` may follow the subject's latest version; a new subject takes any."""
        path = f"/compatibility/subjects/{quote(subject, safe='')}/versions/latest"
        answer = self._call("POST", path, {"schema": schema}, verbose="true")
        if answer.code in (SUBJECT_NOT_FOUND, VERSION_NOT_FOUND):
            return Compatibility(is_compatible=True)
        messages = answer.body.get("messages") or ()
        return Compatibility(is_compatible=answer.body.get("is_compatible") is True, messages=tuple(map(str, messages)))

    def _call(self, method: str, path: str, content: Mapping[str, Any] | None = None, **query: str) -> _Answer:
        """Return the answer to one request: a success, or a failure this client has a word for."""
        import httpx

        try:
            response = self._client.request(
                method, self._url + path, content=None if content is None else json.dumps(content), params=query or None
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RegistryUnreachableError(
                f"the schema registry {self._name} does not answer ({type(error).__name__})"
            ) from error
        try:
            body = response.json()
        except ValueError:
            body = None
        if response.status_code in (401, 403):
            raise RegistryRefusedError(
                f"the schema registry {self._name} refuses the credentials (HTTP {response.status_code})"
            )
        answer = _Answer(name=self._name, status=response.status_code, body=body if isinstance(body, dict) else {})
        known = (SUBJECT_NOT_FOUND, VERSION_NOT_FOUND, SCHEMA_NOT_FOUND)
        if not response.is_success and answer.code not in known and response.status_code not in (409, 422):
            raise RegistryUnreachableError(f"the schema registry {self._name} answers HTTP {response.status_code}")
        return answer

    @property
    def _name(self) -> str:
        """The address without credentials that may be part of it."""
        import httpx

        url = httpx.URL(self._url) if "://" in self._url else None
        return f"{url.scheme}://{url.netloc.decode('ascii')}" if url else self._url


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    name: str
    status: int
    body: Mapping[str, Any]

    @property
    def code(self) -> int | None:
        """The registry's own error code; None for success."""
        return self.body.get("error_code")

    @property
    def message(self) -> str:
        return " ".join(str(self.body.get("message", f"HTTP {self.status}")).split())[:300]

    def integer(self, key: str) -> int:
        value = self.body.get(key)
        if isinstance(value, int):
            return value
        raise self._not_a_registry(key)

    def text(self, key: str) -> str:
        value = self.body.get(key)
        if isinstance(value, str):
            return value
        raise self._not_a_registry(key)

    def _not_a_registry(self, key: str) -> RegistryError:
        if self.status in (409, 422):
            return IncompatibleSchemaError(f"the schema registry {self.name}: {self.message}")
        return RegistryUnreachableError(f"{self.name} does not answer as a schema registry does ({key} is missing)")


class RegistrySchemas:
    """A `schemas.codec.SchemaSource` that asks a registry.

    ``subjects`` are the subjects of each record (``CallAudio``): a record on several topics has several, which share
    one id because the registry numbers contents. Ids and schemas are cached for ever, ids that the registry does not know for
    `UNKNOWN_SECONDS`. Threads may share it.
    """

    def __init__(
        self,
        registry: Registry,
        subjects: Mapping[str, tuple[str, ...]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._subjects = subjects
        self._clock = clock
        self._ids: dict[str, int] = {}
        self._schemas: dict[int, str] = {}
        self._unknown: dict[int, tuple[float, str]] = {}  # until when, and why; the oldest first
        self._changing = threading.Lock()

    def id_of(self, name: str) -> int:
        """Return the registry's id of record ``name``.

        Raises NotRegisteredError, RegistryUnreachableError, RegistryRefusedError; KeyError for a record on no topic.
        """
        if name not in self._ids:
            self._ids[name] = self._registry.id_of(self._subjects[name][0], schema_text(name))
        return self._ids[name]

    def schema_of(self, schema_id: int) -> str:
        """Return the schema with an id. Raises UnknownSchemaError, RegistryUnreachableError, RegistryRefusedError."""
        known = self.known_schema_of(schema_id)
        if known is not None:
            return known
        try:
            schema = self._registry.schema_of(schema_id)
        except UnknownSchemaError as error:
            self._remember_unknown(schema_id, str(error))
            raise
        self._schemas[schema_id] = schema
        return schema

    def known_schema_of(self, schema_id: int) -> str | None:
        """Return the schema with an id, None where the registry must be asked. Raises UnknownSchemaError."""
        schema = self._schemas.get(schema_id)
        if schema is not None:
            return schema
        if schema_id > MAX_ID:
            raise UnknownSchemaError(f"no registry gives schema id {schema_id}")
        until, reason = self._unknown.get(schema_id, (0.0, ""))
        if reason and self._clock() < until:
            raise UnknownSchemaError(reason)
        return None

    def _remember_unknown(self, schema_id: int, reason: str) -> None:
        now = self._clock()
        with self._changing:
            self._unknown.pop(schema_id, None)
            self._unknown[schema_id] = (now + UNKNOWN_SECONDS, reason)
            while len(self._unknown) > MAX_UNKNOWN or next(iter(self._unknown.values()))[0] <= now:
                del self._unknown[next(iter(self._unknown))]

    def close(self) -> None:
        """Close the connections; what is cached stays usable."""
        self._registry.close()

    def preload(self) -> None:
        """Ask for every record's id now, so that writing never waits for the network. Raises as `id_of`."""
        for name in self._subjects:
            self._schemas.setdefault(self.id_of(name), schema_text(name))
