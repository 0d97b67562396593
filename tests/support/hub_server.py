"""A small Hugging Face hub on loopback: it speaks the part of the protocol that pushing and loading weights need."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

OWNER, TOKEN = "me", "hf_of_the_owner"
LARGE = ".safetensors"  # files that go through large-file storage


@dataclass
class Repository:
    """Its branches point to commits, which hold files by name."""

    private: bool = False
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        """Let a branch point to a new commit."""
        said = json.dumps([len(self.commits), sorted((name, digest(content)) for name, content in files.items())])
        name = hashlib.sha1(said.encode()).hexdigest()
        self.commits[name], self.branches[branch] = files, name
        return name


@dataclass
class Hub:
    """What the server knows, and what it was asked: method, path, and the range of bytes if one was given."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)  # files whose downloads fail
    cuts: dict[str, int] = field(default_factory=dict)  # file -> bytes after which its next download breaks off

    def files(self, repository: str, branch: str = "main") -> dict[str, bytes]:
        """The files that a branch holds."""
        held = self.repositories[repository]
        return held.commits[held.branches[branch]]

    def downloads(self) -> list[tuple[str, str | None]]:
        """The files that were downloaded, and the range of bytes of each."""
        return [
            (path.split("/resolve/")[1].split("/", 1)[1], asked)
            for method, path, asked in self.asked
            if method == "GET" and "/resolve/" in path
        ]


class Refused(Exception):
    """An answer other than success."""

    def __init__(self, status: int, code: str = "", message: str = "", name: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.name = status, code, message, name


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *words: object) -> None:
        """Keep standard error for errors."""

    def do_HEAD(self) -> None:
        """Tell about a file."""
        self.answer()

    def do_GET(self) -> None:
        """Tell about a repository, or send a file."""
        self.answer()

    def do_POST(self) -> None:
        """Change a repository."""
        self.answer()

    def do_PUT(self) -> None:
        """Store a large file."""
        self.answer()

    def answer(self) -> None:
        """Find the answer to a request and send it."""
        url = urlsplit(self.path)
        self.hub.asked.append((self.command, url.path, self.headers.get("Range")))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            words = [unquote(word) for word in url.path.strip("/").split("/")]
            if words[0] == "stored":
                self.hub.stored[words[1]] = body
                self.send({})
            elif "resolve" in words:
                self.send_file(words)
            else:
                self.send(self.found(words, body, parse_qs(url.query)))
        except Refused as refused:
            said = {"X-Error-Code": refused.code} if refused.code else {}
            said |= {"X-Error-Message": refused.message} if refused.message else {}
            self.send({"error": refused.message, "url": f"{self.hub.address}/{refused.name}"}, refused.status, said)

    def found(self, words: list[str], body: bytes, query: dict[str, list[str]]) -> Any:
        """Answer everything but files."""
        if words == ["api", "validate-yaml"]:
            return {"errors": [], "warnings": []}
        if words == ["api", "repos", "create"]:
            return self.created(json.loads(body))
        if words[-3:] == ["lfs", "objects", "batch"]:
            return self.batch(json.loads(body))
        name, action = "/".join(words[2:4]), words[4:]
        held = self.readable(name)
        if not action or action[0] == "revision":
            commit = self.commit_of(held, "/".join(action[1:]) or "main")
            siblings = [{"rfilename": file} for file in held.commits[commit]]
            facts = {"private": held.private, "gated": held.gated, "siblings": siblings}
            return {"id": name, "sha": commit, "tags": [], "downloads": 0, "likes": 0, **facts}
        if action[0] == "tree":
            return [told(file, content) for file, content in held.commits[self.commit_of(held, action[1])].items()]
        self.must_own(name)
        if action[0] == "branch":
            if action[1] in held.branches:
                raise Refused(HTTPStatus.CONFLICT)
            held.branches[action[1]] = held.branches["main"]
            return {}
        if action[0] == "preupload":
            return {
                "files": [
                    {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular"}
                    | {"shouldIgnore": False, "oid": None}
                    for file in json.loads(body)["files"]
                ]
            }
        assert action[0] == "commit", (words, query)
        return self.committed(name, held, action[1], [json.loads(line) for line in body.splitlines()])

    def created(self, asked: dict[str, Any]) -> dict[str, str]:
        """Make a repository."""
        name = f"{asked.get('organization') or OWNER}/{asked['name']}"
        self.must_own(name)
        if name in self.hub.repositories:
            raise Refused(HTTPStatus.CONFLICT, message="You already created this model repo", name=name)
        self.hub.repositories[name] = Repository(private=asked.get("visibility") == "private")
        self.hub.repositories[name].commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"})
        return {"url": f"{self.hub.address}/{name}"}

    def batch(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Say where large files are to be stored."""
        objects = []
        for one in asked["objects"]:
            actions = {"upload": {"href": f"{self.hub.address}/stored/{one['oid']}"}}
            objects.append(one | ({} if one["oid"] in self.hub.stored else {"actions": actions}))
        return {"transfer": "basic", "objects": objects}

    def committed(self, name: str, held: Repository, branch: str, lines: list[dict[str, Any]]) -> dict[str, str]:
        """Add and delete files."""
        if branch not in held.branches:
            raise Refused(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        files = dict(held.commits[held.branches[branch]])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
                assert digest(files[value["path"]]) == value["oid"]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = held.commit(branch, files)
        return {"commitUrl": f"{self.hub.address}/{name}/commit/{commit}", "commitOid": commit}

    def who(self) -> str | None:
        """Return the owner's name if the request has the token, None if it has none."""
        said = self.headers.get("Authorization")
        if said not in (None, f"Bearer {TOKEN}"):
            raise Refused(HTTPStatus.UNAUTHORIZED, message="Invalid credentials in Authorization header")
        return OWNER if said else None

    def must_own(self, name: str) -> None:
        """Refuse changes of somebody else's repositories."""
        if self.who() is None:
            raise Refused(HTTPStatus.UNAUTHORIZED, message="Unauthorized")
        if name.split("/")[0] != OWNER:
            raise Refused(HTTPStatus.FORBIDDEN, message="You don't have the rights to create a model there")

    def readable(self, name: str) -> Repository:
        """Return a repository that the request may see."""
        who, held = self.who(), self.hub.repositories.get(name)
        if held is None or (held.private and who is None):
            raise Refused(HTTPStatus.UNAUTHORIZED if who is None else HTTPStatus.NOT_FOUND, "RepoNotFound")
        return held

    def commit_of(self, held: Repository, revision: str) -> str:
        """Return the commit of a branch or a commit."""
        commit = held.branches.get(revision, revision)
        if commit not in held.commits:
            raise Refused(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        return commit

    def send_file(self, words: list[str]) -> None:
        """Send a file of a repository, or a range of its bytes."""
        held = self.readable("/".join(words[:2]))
        if held.gated:
            raise Refused(HTTPStatus.FORBIDDEN, "GatedRepo", "Access to this model is restricted")
        commit, name = self.commit_of(held, words[3]), "/".join(words[4:])
        if name not in held.commits[commit]:
            raise Refused(HTTPStatus.NOT_FOUND, "EntryNotFound")
        if name in self.hub.failing and self.command == "GET":
            raise Refused(HTTPStatus.INTERNAL_SERVER_ERROR)
        content = held.commits[commit][name]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{digest(content)}"', "Accept-Ranges": "bytes"}
        asked, start, status = self.headers.get("Range"), 0, HTTPStatus.OK
        if asked:
            start, status = int(asked.removeprefix("bytes=").split("-")[0]), HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = self.hub.cuts.pop(name, None) if self.command == "GET" else None
        self.send(content[start:], status, headers, cut)

    def send(
        self, content: Any, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None, cut: int | None = None
    ) -> None:
        """Send an answer; with `cut`, break off after that many bytes."""
        sent = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent[:cut])
        if cut is not None:
            self.close_connection = True


def digest(content: bytes) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(content).hexdigest()


def told(name: str, content: bytes) -> dict[str, Any]:
    """A row of a repository's list of files."""
    large = {"lfs": {"oid": digest(content), "size": len(content), "pointerSize": 130}} if name.endswith(LARGE) else {}
    return {"type": "file", "path": name, "size": len(content), "oid": digest(content)[:40], **large}


@contextmanager
def serving_hub() -> Iterator[Hub]:
    """Serve an empty hub."""
    hub = Hub()
    with ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHandler", (Handler,), {"hub": hub})) as server:
        server.daemon_threads = True
        hub.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
