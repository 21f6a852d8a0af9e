"""A small hub on this machine: enough of the HTTP interface for the real client to talk to it."""

import hashlib
import json
import mmap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """What the server holds and how it misbehaves; `requests` is what it was asked."""

    def __init__(self) -> None:
        # "models/owner/name" -> files; large ones may stay on the disk, see `mapped`
        self.repositories: dict[str, dict[str, bytes | memoryview]] = {}
        self.known: dict[int, tuple[bytes | memoryview, tuple[str, str]]] = {}  # by id: hashes
        self.commits: dict[str, str] = {}  # of repositories at another commit than COMMIT
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, Range
        self.headers: list[dict[str, str]] = []
        self.refuse: int | None = None  # a status every request is answered with
        self.cut_after: int | None = None  # bytes after which the next body's connection is cut
        self.refuse_after_cut = False  # whether everything after the cut is answered with 503
        self.alter = 0  # how many bodies of safetensors are to be altered on the way
        self.stall = False  # never answer
        self.url = ""
        self.home = Path()  # where its client keeps its cache

    def add(self, repo: str, folder: Path, kind: str = "models") -> None:
        """Take a folder's files, subfolders too, as a repository."""
        self.repositories[f"{kind}/{repo}"] = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    def hashes(self, content: bytes | memoryview) -> tuple[str, str]:
        """`hashes`, computed once for a content."""
        if id(content) not in self.known:
            self.known[id(content)] = content, hashes(content)
        return self.known[id(content)][1]

    def bodies(self) -> list[str]:
        """The files whose content was asked for."""
        return [path.rsplit("/", 1)[1] for method, path, _ in self.requests
                if method == "GET" and "/resolve/" in path]  # fmt: skip


def mapped(path: Path) -> memoryview:
    """A file's content that is read from the disk where it is asked for."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def hashes(content: bytes | memoryview) -> tuple[str, str]:
    """A file's SHA-256 and its name as a git blob."""
    blob = hashlib.sha1(b"blob %d\0" % len(content), usedforsecurity=False)
    blob.update(content)
    return hashlib.sha256(content).hexdigest(), blob.hexdigest()


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".parquet"))


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            if "Content_Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlparse(self.path).path)
            hub.requests.append((self.command, path, self.headers.get("Range")))
            hub.headers.append(dict(self.headers))
            if hub.stall:
                time.sleep(5)
            if hub.refuse:
                self.answer(hub.refuse, b'{"error":"no"}')
            elif path.startswith("/api/"):
                self.information(path.removeprefix("/api/"))
            elif "/resolve/" in path:
                self.file(path)
            else:
                self.answer(404)

        def information(self, path: str) -> None:
            tree = "/tree/" in path
            repo, _, commit = path.partition("/tree/" if tree else "/revision/")
            if repo not in hub.repositories:
                self.answer(404, X_Error_Code="RepoNotFound")
                return
            if commit != hub.commits.get(repo, COMMIT):
                self.answer(404, X_Error_Code="RevisionNotFound")
                return
            if tree:
                self.tree(repo)
                return
            siblings = []
            for name, content in hub.repositories[repo].items():
                sha256, blob = hub.hashes(content)
                item = {"rfilename": name, "size": len(content), "blobId": blob}
                if is_large(name):
                    item["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 100}
                siblings.append(item)
            name = repo.split("/", 1)[1]
            body = {"id": name, "sha": commit, "siblings": siblings, "private": False,
                    "disabled": False, "gated": False, "downloads": 0, "likes": 0,
                    "tags": []}  # fmt: skip
            self.answer(200, json.dumps(body).encode(), Content_Type="application/json")

        def tree(self, repo: str) -> None:
            items = []
            for name, content in hub.repositories[repo].items():
                sha256, blob = hub.hashes(content)
                item = {"type": "file", "path": name, "size": len(content), "oid": blob}
                if is_large(name):
                    item["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 100}
                items.append(item)
            self.answer(200, json.dumps(items).encode(), Content_Type="application/json")

        def file(self, path: str) -> None:
            repo, _, rest = path.strip("/").partition("/resolve/")
            if not repo.startswith("datasets/"):
                repo = f"models/{repo}"
            commit, _, name = rest.partition("/")
            files = hub.repositories.get(repo)
            if files is None or commit != hub.commits.get(repo, COMMIT) or name not in files:
                code = "RepoNotFound" if files is None else "EntryNotFound"
                self.answer(404, X_Error_Code=code)
                return
            content = files[name]
            sha256, blob = hub.hashes(content)
            start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
            headers = {
                "ETag": f'"{sha256 if is_large(name) else blob}"',
                "X_Repo_Commit": commit,
                "Accept_Ranges": "bytes",
            }
            body = content[start:]
            if self.command == "GET" and hub.alter and is_large(name):
                hub.alter -= 1
                body = bytes(body[:-1]) + bytes([body[-1] ^ 1])
            if start:
                headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            if self.command == "GET" and hub.cut_after is not None and is_large(name):
                length, hub.cut_after, body = len(body), None, body[: hub.cut_after]
                self.answer(206 if start else 200, body, Content_Length=str(length), **headers)
                self.wfile.flush()
                hub.refuse = 503 if hub.refuse_after_cut else None
                self.close_connection = True
                self.connection.close()
                return
            self.answer(206 if start else 200, body, **headers)

    return Handler


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub on a free port of this machine, until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
