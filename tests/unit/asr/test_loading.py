import hashlib
import http.server
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.asr import loading
from pipeline.asr.loading import digest_of, download_model, resolve_model
from pipeline.core.errors import NotReadyError
from pipeline.demo.assets import MODEL
from tests.unit.asr.models import shipped_model

WAYS = ("(1)", "--model small", "(2)", "--model ./folder", "(3)", "--model demo")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shipped_model(tmp_path / "my-model")


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is bound, so that nobody else takes it, and refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def refusal(name: str, **options: object) -> str:
    with pytest.raises(NotReadyError) as caught:
        resolve_model(name, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert caught.value.exit_code == 3
    assert "\n" not in text
    assert all(way in text for way in WAYS)
    assert repr(name) in text
    return text


def point_hub_at(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    endpoint = f"http://127.0.0.1:{port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_demo_is_the_shipped_folder_with_its_card() -> None:
    files = resolve_model("demo")
    assert files.name == "demo"
    assert files.folder == MODEL
    assert files.digest == hashlib.sha256((MODEL / "model.bin").read_bytes()).hexdigest()[:12]
    assert files.card["padding_seconds"] == 0.5


def test_a_local_folder_is_named_after_itself(folder: Path) -> None:
    files = resolve_model(str(folder))
    assert (files.name, files.folder, files.card) == ("my-model", folder, {})
    assert files.languages == ("en",)  # without a card a vocabulary of this size is English
    assert files.digest == resolve_model("demo").digest


def test_a_relative_folder_wins_over_a_hub_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent.parent)
    assert resolve_model(f"{folder.parent.name}/{folder.name}").folder == folder


@pytest.mark.parametrize("file", ["model.bin", "config.json", "tokenizer.json", "vocabulary.json"])
def test_an_incomplete_folder_names_the_missing_file(folder: Path, file: str) -> None:
    (folder / file).unlink()
    assert f"has no {file}" in refusal(str(folder))


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "../nowhere", "~/nowhere-at-all", "a/b/c", "models/"])
def test_a_wrong_path_is_called_one(name: str) -> None:
    assert "no such folder" in refusal(name)


def test_a_file_is_not_a_folder(folder: Path) -> None:
    assert "a file" in refusal(str(folder / "model.bin"))


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_refused(name: str) -> None:
    assert "no name" in refusal(name)


def test_an_unknown_name_lists_the_known_ones() -> None:
    text = refusal("largest")
    assert "large-v3-turbo" in text
    assert "distil-small.en" in text


def test_a_hub_that_refuses_connections(closed_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_hub_at(monkeypatch, closed_port)
    for name in ("small", "some-organisation/some-model"):
        assert "cannot be reached (ConnectError)" in refusal(name, cache=str(tmp_path))


def test_a_hub_that_never_answers(silent_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_hub_at(monkeypatch, silent_port)
    begin = time.monotonic()
    assert "cannot be reached" in refusal("small", cache=str(tmp_path), hub_timeout_seconds=0.5)
    assert time.monotonic() - begin < 10


def test_the_default_wait_for_the_hub_is_short() -> None:
    assert loading.HUB_TIMEOUT_SECONDS <= 10


def test_offline_asks_nobody(silent_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_hub_at(monkeypatch, silent_port)
    assert "downloads are off" in refusal("small", cache=str(tmp_path), offline=True)


def test_a_cached_model_needs_no_hub(
    folder: Path, closed_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_hub_at(monkeypatch, closed_port)
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "cache" / "models--organisation--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    (repository / "snapshots").mkdir()
    snapshot = folder.rename(repository / "snapshots" / revision)

    files = resolve_model("organisation/model", cache=str(tmp_path / "cache"))
    assert (files.name, files.folder) == ("organisation/model", snapshot)

    (snapshot / "model.bin").unlink()  # what an interrupted download leaves behind
    assert "cannot be reached" in refusal("organisation/model", cache=str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (401, "RepoNotFound", "no such model, or no access to it"),
        (404, "", "no such model, or no access to it"),
        (403, "GatedRepo", "no such model, or no access to it"),
        (500, "", "try again later"),
    ],
)
def test_a_hub_that_says_no(
    status: int, code: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        point_hub_at(monkeypatch, server.server_port)
        try:
            text = refusal("organisation/model", cache=str(tmp_path))
        finally:
            server.shutdown()
            thread.join()
    assert f"the model hub answered HTTP {status}: {reason}" in text


class FakeHub(http.server.ThreadingHTTPServer):
    """A model hub with one repository: what the hub client asks for, and nothing else."""

    revision = "0123456789abcdef0123456789abcdef01234567"

    def __init__(self, repository: str, files: dict[str, bytes]) -> None:
        hub = self
        self.fetched: list[str] = []

        class Answers(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(has_body=True)

            def do_HEAD(self) -> None:
                self.answer(has_body=False)

            def answer(self, *, has_body: bool) -> None:
                body, found = b"", 404
                if self.path == "/" or self.path.startswith(f"/api/models/{repository}/"):
                    listed = {"id": repository, "sha": hub.revision, "siblings": [{"rfilename": f} for f in files]}
                    body, found = json.dumps(listed).encode(), 200
                name = self.path.removeprefix(f"/{repository}/resolve/{hub.revision}/")
                if name in files:
                    body, found = files[name], 200
                    hub.fetched += [name] if has_body else []
                self.send_response(found)
                self.send_header("X-Repo-Commit", hub.revision)
                self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if has_body:
                    self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Answers)


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that has the model of `folder` with a card, a recording, and a file that nobody needs."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    files["card.json"] = json.dumps({"padding_seconds": 1.5, "languages": ["en"]}).encode()
    files["self_test.flac"] = b"recording"
    files["README.md"] = b"read me"
    with FakeHub("organisation/model", files) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        point_hub_at(monkeypatch, server.server_port)
        yield server
        server.shutdown()
        thread.join()


def test_a_hub_model_is_downloaded_once_with_its_card(hub: FakeHub, tmp_path: Path) -> None:
    files = resolve_model("organisation/model", cache=str(tmp_path / "cache"))
    assert files.card == {"padding_seconds": 1.5, "languages": ["en"]}
    assert files.digest == resolve_model("demo").digest
    assert "README.md" not in hub.fetched
    hub.fetched.clear()
    again = resolve_model("organisation/model", cache=str(tmp_path / "cache"), offline=True)
    assert again == files
    assert hub.fetched == []


def test_a_hub_model_is_downloaded_into_a_folder_that_works_elsewhere(hub: FakeHub, tmp_path: Path) -> None:
    files = download_model("organisation/model", tmp_path / "model")
    assert (files.name, files.folder) == ("organisation/model", tmp_path / "model")
    assert (tmp_path / "model" / "self_test.flac").read_bytes() == b"recording"
    moved = (tmp_path / "model").rename(tmp_path / "moved")
    assert resolve_model(str(moved)).digest == files.digest


def test_what_is_local_or_has_no_hub_name_is_not_downloaded(folder: Path, tmp_path: Path) -> None:
    for name, reason in (
        ("demo", "already on this machine"),
        (str(folder), "already on this machine"),
        ("./nowhere", "no such folder"),
        ("largest", "nor a name that faster-whisper knows"),
    ):
        with pytest.raises(NotReadyError, match=reason):
            download_model(name, tmp_path / "model")


def test_a_download_without_a_hub_says_so(closed_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_hub_at(monkeypatch, closed_port)
    with pytest.raises(NotReadyError, match=r"model 'small': the model hub cannot be reached \(ConnectError\)"):
        download_model("small", tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("content", "suffix"), [("{", "json"), ("3", "json"), ('[{"a": []}]', "json")])
def test_a_damaged_vocabulary_is_named(folder: Path, content: str, suffix: str) -> None:
    (folder / "vocabulary.json").unlink()
    (folder / f"vocabulary.{suffix}").write_text(content)
    assert f"vocabulary.{suffix} is not a JSON list" in refusal(str(folder))


def test_a_field_of_the_card_that_is_wrong_is_named(folder: Path) -> None:
    (folder / "card.json").write_text(json.dumps({"padding_seconds": "much"}))
    assert "card.json: padding_seconds: Input should be a valid number" in refusal(str(folder))


def test_weights_that_are_not_the_cards_are_refused(folder: Path) -> None:
    size = (folder / "model.bin").stat().st_size
    (folder / "card.json").write_text(json.dumps({"sha256": "0" * 64, "bytes": size}))
    assert "damaged" in refusal_of_folder(folder)
    (folder / "card.json").write_text(json.dumps({"sha256": "0" * 64, "bytes": size - 1}))
    assert f"has {size} bytes" in refusal_of_folder(folder)


@pytest.mark.parametrize(
    ("content", "reason"), [("{", "is not JSON"), ("[]", "not a JSON object"), ("\udcff", "is not JSON")]
)
def test_a_broken_card_is_named(folder: Path, content: str, reason: str) -> None:
    (folder / "card.json").write_text(content, errors="surrogateescape")
    assert reason in refusal(str(folder))


def test_large_weights_are_told_apart_without_reading_them_whole(tmp_path: Path) -> None:
    size = loading.HASHED_WHOLE_BYTES + 1
    weights = tmp_path / "model.bin"
    digests = set()
    for ends in ((b"a", b"b"), (b"a", b"c"), (b"c", b"b")):
        with weights.open("wb") as file:
            file.write(ends[0])
            file.seek(size - 1)
            file.write(ends[1])
        digests.add(digest_of(weights))
    os.truncate(weights, size + 1)
    digests.add(digest_of(weights))
    assert len(digests) == 4
    assert all(len(digest) == 12 for digest in digests)
    assert digest_of(weights, {"sha256": "f" * 64, "bytes": size + 1}) == "f" * 12


def refusal_of_folder(folder: Path) -> str:
    with pytest.raises(NotReadyError) as caught:
        resolve_model(str(folder))
    return str(caught.value)
