"""A schema registry in a test: the REST subset of the Confluent registry that callscribe uses, over real HTTP.

Ids number contents, as in the real one: the same schema under two subjects has one id. Compatibility is BACKWARD in its
simplest form: a new field needs a default.
"""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class RegistryServer(ThreadingHTTPServer):
    """Listens on a free loopback port; ``requests`` records what was asked."""

    daemon_threads = True

    def __init__(self, *, username: str = "", password: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.requests: list[tuple[str, str]] = []
        self.subjects: dict[str, list[int]] = {}
        self.contents: list[str] = []
        self.schema_types: dict[int, str] = {}
        self.failure: tuple[int, bytes] | None = None
        self.credentials = base64.b64encode(f"{username}:{password}".encode()).decode() if username else ""
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def store(self, subject: str, schema: str) -> int:
        """Return the id of ``schema`` after adding it to ``subject``."""
        schema = json.dumps(json.loads(schema), sort_keys=True)
        if schema not in self.contents:
            self.contents.append(schema)
        number = self.contents.index(schema) + 1
        if number not in self.subjects.setdefault(subject, []):
            self.subjects[subject].append(number)
        return number

    def breaks(self, subject: str, schema: dict[str, Any]) -> list[str]:
        """Return why ``schema`` may not follow the latest of ``subject``."""
        known = {field["name"] for field in json.loads(self.contents[self.subjects[subject][-1] - 1])["fields"]}
        return [
            f"new field {f['name']} has no default"
            for f in schema["fields"]
            if f["name"] not in known and "default" not in f
        ]


class _Requests(BaseHTTPRequestHandler):
    server: RegistryServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _respond(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        self.server.requests.append((self.command, self.path))
        if self.server.failure is not None:
            status, content = self.server.failure
        elif self.server.credentials and self.headers.get("Authorization") != f"Basic {self.server.credentials}":
            status, content = 401, json.dumps({"error_code": 40101, "message": "Unauthorized"}).encode()
        else:
            status, answer = self._answer(
                [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")], body
            )
            content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, path: list[str], body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        server, schema = self.server, body.get("schema", "")
        match (self.command, *path):
            case ("GET", "schemas", "ids", number):
                if not 1 <= int(number) <= len(server.contents):
                    return 404, {"error_code": 40403, "message": "Schema not found"}
                kind = server.schema_types.get(int(number))
                return 200, {"schema": server.contents[int(number) - 1], **({"schemaType": kind} if kind else {})}
            case ("POST", "subjects", subject):
                if subject not in server.subjects:
                    return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
                text = json.dumps(json.loads(schema), sort_keys=True)
                for number in server.subjects[subject]:
                    if server.contents[number - 1] == text:
                        return 200, {"subject": subject, "id": number, "version": 1, "schema": schema}
                return 404, {"error_code": 40403, "message": "Schema not found"}
            case ("POST", "subjects", subject, "versions"):
                if subject in server.subjects and (reasons := server.breaks(subject, json.loads(schema))):
                    return 409, {"error_code": 409, "message": f"Schema being registered is incompatible: {reasons}"}
                return 200, {"id": server.store(subject, schema)}
            case ("POST", "compatibility", "subjects", subject, "versions", "latest"):
                if subject not in server.subjects:
                    return 404, {"error_code": 40401, "message": "Subject not found."}
                reasons = server.breaks(subject, json.loads(schema))
                return 200, {"is_compatible": not reasons, "messages": reasons}
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}
