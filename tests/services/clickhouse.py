#!/usr/bin/env python3
"""The HTTP interface of ClickHouse around its real engine, for tests, with faults on demand.

In: requests as a ClickHouse server takes them (query in the address or the body, settings and `param_…` in the
address or as form fields, `database`, `default_format`, credentials in headers). Out: the engine's own results, its
errors in the server's words, status and headers. Deliberately not here: compression of bodies other than gzip, named
sessions, roles, streaming of results, TLS. `POST /fault` breaks requests on purpose; see README.md beside this file.

Every request has an engine session of its own, so that no setting outlives it, and runs beside the others as on a
server. The folder outlives the program: a restart finds the tables, and their deduplication logs, as they were.
"""

import argparse
import base64
import email.parser
import email.policy
import gzip
import http.server
import json
import os
import random
import re
import signal
import socket
import struct
import sys
import threading
import time
import urllib.parse
import uuid
import zlib

from chdb.session import Session

# Members of the address that the server reads itself; everything else is a setting or a `param_…`.
NOT_SETTINGS = {
    "query", "database", "default_format", "user", "password", "quota_key", "query_id", "session_id",
    "session_timeout", "session_check", "close_session", "buffer_size", "wait_end_of_query", "stacktrace",
    "enable_http_compression", "http_zlib_compression_level", "client_protocol_version",
}
NOT_HERE = {"compress", "decompress", "role"}

# exceptionCodeToHTTPStatus of the server; what is not listed is 500.
STATUS = {
    **dict.fromkeys(["REQUIRED_PASSWORD"], 401),
    **dict.fromkeys(["UNKNOWN_USER", "WRONG_PASSWORD", "AUTHENTICATION_FAILED", "SET_NON_GRANTED_ROLE"], 403),
    **dict.fromkeys([
        "BAD_ARGUMENTS", "BAD_REQUEST_PARAMETER", "BAD_QUERY_PARAMETER", "CANNOT_PARSE_TEXT", "CANNOT_PARSE_ESCAPE_SEQUENCE",
        "CANNOT_PARSE_QUOTED_STRING", "CANNOT_PARSE_DATE", "CANNOT_PARSE_DATETIME", "CANNOT_PARSE_NUMBER",
        "CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING", "CANNOT_PARSE_INPUT_ASSERTION_FAILED", "ILLEGAL_COLUMN",
        "ILLEGAL_TYPE_OF_ARGUMENT", "NUMBER_OF_ARGUMENTS_DOESNT_MATCH", "UNKNOWN_ELEMENT_IN_AST",
        "UNKNOWN_TYPE_OF_AST_NODE", "TOO_DEEP_AST", "TOO_BIG_AST", "UNEXPECTED_AST_STRUCTURE", "SYNTAX_ERROR",
        "INCORRECT_DATA", "TYPE_MISMATCH", "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
    ], 400),
    **dict.fromkeys([
        "UNKNOWN_TABLE", "UNKNOWN_FUNCTION", "UNKNOWN_IDENTIFIER", "UNKNOWN_TYPE", "UNKNOWN_STORAGE",
        "UNKNOWN_DATABASE", "UNKNOWN_SETTING", "UNKNOWN_DIRECTION_OF_SORTING", "UNKNOWN_AGGREGATE_FUNCTION",
        "UNKNOWN_FORMAT", "UNKNOWN_DATABASE_ENGINE", "UNKNOWN_TYPE_OF_QUERY", "UNKNOWN_ROLE",
    ], 404),
    **dict.fromkeys(["QUERY_IS_TOO_LARGE"], 413),
    **dict.fromkeys(["NOT_IMPLEMENTED"], 501),
    **dict.fromkeys(["SOCKET_TIMEOUT", "CANNOT_SCHEDULE_TASK", "CANNOT_OPEN_FILE"], 503),
    **dict.fromkeys(["TIMEOUT_EXCEEDED"], 408),
    **dict.fromkeys(["MEMORY_LIMIT_EXCEEDED"], 507),
}

CONTENT_TYPES = [
    (re.compile(r"TabSeparatedWithNames|TSVWithNames"), "text/tab-separated-values; charset=UTF-8; header=present"),
    (re.compile(r"TabSeparated|TSV"), "text/tab-separated-values; charset=UTF-8"),
    (re.compile(r"CSV"), "text/csv; charset=UTF-8"),
    (re.compile(r"JSON\w*EachRow"), "application/x-ndjson; charset=UTF-8"),
    (re.compile(r"JSON"), "application/json; charset=UTF-8"),
    (re.compile(r"ArrowStream|Arrow|RowBinary|Native|Parquet"), "application/octet-stream"),
]


class Refused(Exception):
    """An error in the server's form: `Code: N. DB::Exception: text. (NAME)`."""

    def __init__(self, text, status=None):
        super().__init__(text)
        code = re.search(r"Code: (\d+)\.", text)
        names = re.findall(r"\(([A-Z][A-Z0-9_]+)\)", text)
        self.code = int(code.group(1)) if code else 1001
        self.status = status or STATUS.get(names[-1] if names else "", 500)


def refusal(code, name, text, status=None):
    return Refused(f"Code: {code}. DB::Exception: {text}. ({name})", status)


# --- statements -----------------------------------------------------------------------------------------------------

TOKEN = re.compile(
    rb"""(?P<space>\s+|--[^\n]*|\#[!\ ][^\n]*|/\*.*?\*/)
       | (?P<quoted>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`(?:[^`\\]|\\.|``)*`|\$(\w*)\$.*?\$\3\$)
       | (?P<word>[A-Za-z_]\w*)
       | (?P<other>.)""",
    re.S | re.X,
)


class Statement:
    """One statement: its text, its format, and the rows of an insert, which follow the text in whatever bytes."""

    def __init__(self, text):
        self.format = None
        self.rows = None
        self.insert = False
        words, end = [], None
        for token in TOKEN.finditer(text):
            if token["space"]:
                continue
            if end is not None and not self.rows_follow(words):
                if token[0] != b";":
                    raise refusal(
                        62, "SYNTAX_ERROR",
                        f"Syntax error (Multi-statements are not allowed): failed at position {end + 1} (end of query)",
                    )
                continue
            if token[0] == b";":
                end = token.start()
                continue
            word = token["word"].upper().decode() if token["word"] else ""
            if words and words[-1] == "FORMAT" and word:
                self.format = token[0].decode()
                if words[0] == "INSERT" and self.rows_follow(words):
                    # The text before FORMAT; one space or line end, and at most one semicolon, separate the rows.
                    self.insert = True
                    self.rows = re.sub(rb"\A[ \t]*;?[ \t]*\r?\n?", b"", text[token.end():], count=1)
                    text = text[: self.before_format]
                    end = None
                    break
            if word == "FORMAT":
                self.before_format = token.start()
            words.append(word)
            if word == "VALUES" and words[0] == "INSERT" and self.rows_follow(words):
                end = None
                break
        self.kind = words[0] if words else ""
        self.text = (text[:end] if end is not None else text).decode("utf-8", "surrogateescape").strip()
        self.writes = self.kind == "INSERT"

    @staticmethod
    def rows_follow(words):
        return bool(words) and words[0] == "INSERT" and "SELECT" not in words and "INFILE" not in words


# --- the engine -----------------------------------------------------------------------------------------------------

class Engine:
    """Sessions over one folder. `parallel` requests run at once, the rest wait."""

    def __init__(self, folder, parallel):
        self.folder = folder
        self.slots = threading.Semaphore(parallel)
        # The engine lives while one session is open.
        self.keep = Session(folder)
        self.version, self.timezone, self.host = (
            bytes(self.keep.query("SELECT version(), timezone(), hostName()", "TSV").bytes()).decode().strip().split("\t")
        )

    def run(self, body, sql, settings, parameters, database, default_format, readonly):
        """Runs one statement and returns (bytes, format, rows read, rows written)."""
        with self.slots:
            session = Session(self.folder)
            try:
                # A server has no implicit SELECT; the embedded engine switches it on.
                session.query("SET implicit_select = 0")
                if database:
                    session.query("USE `" + database.replace("\\", "\\\\").replace("`", "\\`") + "`")
                if settings:
                    pairs = ", ".join(f"{name} = {quoted(value)}" for name, value in settings)
                    session.query("SET " + pairs)
                if readonly:
                    session.query("SET readonly = 2")
                statement = Statement(sql + b"\n" + body if sql and body else sql or body)
                if not statement.kind:
                    raise refusal(62, "SYNTAX_ERROR", "Empty query")
                if statement.insert:
                    for name, value in parameters.items():
                        session.query(f"SET param_{name} = {quoted(value)}")
                    inserter = session.send_insert(statement.text, statement.format)
                    if statement.rows:
                        inserter.append(statement.rows)
                    return b"", statement.format, 0, inserter.finish().rows_written
                result = session.query(statement.text, default_format, params=parameters or None)
                shown = statement.format or default_format
                return bytes(result.bytes()), shown, result.rows_read(), result.rows_written() if statement.writes else 0
            except (RuntimeError, ValueError) as error:
                raise Refused(re.sub(r"\A.*?(?=Code: \d+\.)", "", str(error), flags=re.S)) from None
            finally:
                session.close()


def quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


# --- faults ---------------------------------------------------------------------------------------------------------

class Faults:
    """What to break next. The first fault that fits a request, and has tries left, breaks it."""

    KINDS = {"before", "middle", "after", "stall", "crash", "down"}

    def __init__(self):
        self.lock = threading.Lock()
        self.active = []
        self.stalled = []
        self.hits = dict.fromkeys(sorted(self.KINDS), 0)

    def add(self, wish):
        if wish.get("kind") not in self.KINDS:
            raise ValueError(f"kind is one of {', '.join(sorted(self.KINDS))}")
        unknown = set(wish) - {"kind", "times", "probability", "seconds", "match", "seed", "status", "code", "name", "message"}
        if unknown:
            raise ValueError(f"unknown members: {', '.join(sorted(unknown))}")
        fault = dict(wish)
        fault["random"] = random.Random(wish.get("seed"))
        fault["mended"] = threading.Event()
        if fault["kind"] == "down" and "seconds" in fault:
            fault["until"] = time.monotonic() + float(fault["seconds"])
        with self.lock:
            self.active.append(fault)

    def clear(self, match=None):
        with self.lock:
            mended = lambda fault: match is None or fault.get("match") == match
            self.active = [f for f in self.active if not mended(f)]
            for fault in self.stalled:
                if mended(fault):
                    fault["mended"].set()
            self.stalled = [f for f in self.stalled if not mended(f)]

    def wait(self, fault):
        """Holds a request up, until the fault is over or is taken back."""
        fault["mended"].wait(float(fault.get("seconds", 60)))

    def pick(self, sql, kinds):
        with self.lock:
            now = time.monotonic()
            self.active = [f for f in self.active if f.get("times", 1) > 0 and f.get("until", now + 1) > now]
            for fault in self.active:
                if fault["kind"] not in kinds or (fault.get("match") and fault["match"] not in sql):
                    continue
                if fault["random"].random() >= float(fault.get("probability", 1)):
                    continue
                if "times" in fault:
                    fault["times"] -= 1
                self.hits[fault["kind"]] += 1
                if fault["kind"] == "stall" and fault not in self.stalled:
                    self.stalled.append(fault)
                return fault
        return None

    def shown(self):
        with self.lock:
            active = [{k: v for k, v in f.items() if k not in ("random", "until", "mended")} for f in self.active]
            return {"active": [f for f in active if f.get("times", 1) > 0], "hits": dict(self.hits)}


# --- HTTP -----------------------------------------------------------------------------------------------------------

class Hung(Exception):
    """The connection is to be closed without an answer."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def version_string(self):
        return "gatewatch-tests"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer_or_hang()

    do_POST = do_HEAD = do_DELETE = do_GET

    def answer_or_hang(self):
        try:
            self.dispatch()
        except Hung:
            self.close_connection = True
            # A reset and not an orderly end, as when a server dies.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def finish(self):
        try:
            super().finish()
        except (OSError, ValueError):
            pass  # hung up above

    def dispatch(self):
        address = urllib.parse.urlsplit(self.path)
        if address.path == "/fault":
            return self.control()
        if self.server.faults.pick("", {"down"}):
            raise Hung
        if address.path != "/" or (self.command in ("GET", "HEAD") and not address.query):
            self.read_body()  # what is left on the connection would pass for the next request
        if address.path in ("/ping", "/replicas_status") or (
            self.command in ("GET", "HEAD") and address.path == "/" and not address.query
        ):
            return self.send(200, b"Ok.\n", {"Content-Type": "text/html; charset=UTF-8"})
        if address.path != "/":
            text = f"There is no handle {address.path}\n\nUse / or /ping for health checks.\n"
            return self.send(404, text.encode(), {"Content-Type": "text/plain; charset=UTF-8"})
        started = time.monotonic()
        members = urllib.parse.parse_qsl(address.query, keep_blank_values=True, strict_parsing=False)
        sql = self.seen = next((value for name, value in members if name == "query"), "")
        query_id = next((value for name, value in members if name == "query_id" and value), str(uuid.uuid4()))
        identity = {
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Server-Display-Name": self.server.engine.host,
            "X-ClickHouse-Timezone": self.server.engine.timezone,
        }
        try:
            status, body, headers = self.query(members, sql)
        except Refused as error:
            text = str(error)
            if "(version " not in text:
                text += f" (version {self.server.engine.version} (official build))"
            status, body = error.status, text.encode("utf-8", "replace") + b"\n"
            headers = {"X-ClickHouse-Exception-Code": str(error.code), "Content-Type": "text/plain; charset=UTF-8"}
            if status == 401:
                headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
        took = (time.monotonic() - started) * 1000
        self.server.log(f"{status} {took:.1f} ms {' '.join(self.seen.split())[:300]!r}" + (f" {body[:500]!r}" if status != 200 else ""))
        self.send(status, body, {**identity, **headers})

    def query(self, members, sql):
        faults = self.server.faults
        # A fault that cuts the body must strike before the body is read, so it can only be matched by the address.
        if sql and faults.pick(sql, {"middle"}):
            self.read_body(half=True)
            raise Hung
        body = self.read_body()
        self.authenticate(dict(members))
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("multipart/form-data"):
            fields, body = form(kind, body)
            sql = sql or next((value for name, value in fields if name == "query"), "")
            members = members + [(name, value) for name, value in fields if name != "query"]
        self.seen = sql or body[:4096].decode("utf-8", "replace")
        fault = faults.pick(self.seen, {"before", "after", "stall", "crash"} | (set() if sql else {"middle"}))
        kind = fault["kind"] if fault else None
        if kind == "middle":
            raise Hung
        if kind == "before":
            code, name = fault.get("code", 241), fault.get("name", "MEMORY_LIMIT_EXCEEDED")
            raise refusal(code, name, fault.get("message", "Broken on purpose before it ran"), fault.get("status", 500))
        if kind == "stall":
            faults.wait(fault)
        if kind == "crash":
            delay = float(fault.get("seconds", 0.01)) * fault["random"].random()
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        settings, parameters = [], {}
        database, default_format = self.headers.get("X-ClickHouse-Database", ""), self.headers.get("X-ClickHouse-Format", "")
        for name, value in members:
            if name.startswith("param_"):
                parameters[name[len("param_"):]] = value
            elif name == "database":
                database = value
            elif name == "default_format":
                default_format = value
            elif name in NOT_HERE and value not in ("", "0"):
                raise refusal(48, "NOT_IMPLEMENTED", f"{name} is not part of this front")
            elif name not in NOT_SETTINGS and name not in NOT_HERE:
                if not re.fullmatch(r"\w+", name):
                    raise refusal(115, "UNKNOWN_SETTING", f"Unknown setting '{name}'")
                settings.append((name, value))
        result, shown, read, written = self.server.engine.run(
            body, sql.encode(), settings, parameters, database, default_format or "TabSeparated",
            readonly=self.command in ("GET", "HEAD"),
        )
        if kind == "crash":
            time.sleep(60)  # answers nobody: the timer ends the process
        if kind == "after":
            raise Hung
        summary = {"read_rows": str(read), "written_rows": str(written), "result_rows": str(written or read)}
        content = next((text for pattern, text in CONTENT_TYPES if pattern.match(shown)), "text/plain; charset=UTF-8")
        headers = {"Content-Type": content, "X-ClickHouse-Format": shown, "X-ClickHouse-Summary": json.dumps(summary, separators=(",", ":"))}
        return 200, result, headers

    def authenticate(self, members):
        user, password = self.headers.get("X-ClickHouse-User"), self.headers.get("X-ClickHouse-Key")
        scheme, _, rest = (self.headers.get("Authorization") or "").partition(" ")
        if user is None and scheme.lower() == "basic":
            user, _, password = base64.b64decode(rest).decode("utf-8", "replace").partition(":")
        anonymous = user is None and "user" not in members and "password" not in members
        user, password = user or members.get("user") or "default", password or members.get("password") or ""
        if self.server.users.get(user) != password:
            text = f"{user}: Authentication failed: password is incorrect, or there is no user with such name"
            raise refusal(516, "AUTHENTICATION_FAILED", text, 401 if anonymous else 403)

    def read_body(self, half=False):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while True:
                size = int(self.rfile.readline().split(b";")[0].strip() or b"0", 16)
                if half:
                    return self.rfile.read(size // 2)
                if size == 0:
                    while self.rfile.readline().strip():
                        pass
                    break
                part = self.rfile.read(size)
                if len(part) < size or not self.rfile.readline():
                    raise ConnectionResetError  # the client gave up: nothing of it may run
                parts.append(part)
            body = b"".join(parts)
        else:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size // 2 if half else size)
            if len(body) < size and not half:
                raise ConnectionResetError
        encoding = self.headers.get("Content-Encoding", "")
        if half or encoding in ("", "identity"):
            return body
        if encoding == "gzip":
            try:
                return gzip.decompress(body)
            except (OSError, EOFError, zlib.error) as error:
                raise refusal(354, "ZLIB_INFLATE_FAILED", f"inflate failed: {error}") from None
        raise refusal(48, "NOT_IMPLEMENTED", f"Content-Encoding {encoding} is not part of this front")

    def control(self):
        faults = self.server.faults
        body = self.read_body()
        if self.command == "POST":
            try:
                faults.add(json.loads(body))
            except (ValueError, AttributeError) as error:
                return self.send(400, f"{error}\n".encode(), {})
        elif self.command == "DELETE":
            members = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            faults.clear(members.get("match", [None])[0])
        self.send(200, json.dumps(faults.shown()).encode() + b"\n", {"Content-Type": "application/json"})

    def send(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


def form(content_type, body):
    """Fields of a multipart form, and the file that is the rows of an insert, if there is one."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    fields, rows = [], b""
    for part in message.iter_parts():
        content = part.get_payload(decode=True)
        if part.get_filename() is not None:
            rows = content
        else:
            fields.append((part.get_param("name", header="Content-Disposition"), content.decode()))
    return fields, rows


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port, engine, users, quiet):
        super().__init__(("127.0.0.1", port), Handler)
        self.engine, self.users, self.faults, self.quiet = engine, users, Faults(), quiet

    def log(self, text):
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def handle_error(self, *_):
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(*_)


def main():
    parser = argparse.ArgumentParser(description="ClickHouse's HTTP interface around its engine, for tests")
    parser.add_argument("--folder", required=True, help="where tables are kept")
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 picks a free one")
    parser.add_argument("--user", action="append", default=[], metavar="NAME:PASSWORD", help="who may ask; default: default without password")
    parser.add_argument("--parallel", type=int, default=4, help="statements that run at once")
    parser.add_argument("--quiet", action="store_true", help="do not log requests to standard error")
    arguments = parser.parse_args()
    users = dict(user.split(":", 1) for user in arguments.user) or {"default": ""}
    os.makedirs(arguments.folder, exist_ok=True)
    server = Server(arguments.port, Engine(arguments.folder, arguments.parallel), users, arguments.quiet)
    # Ends without waiting for running statements; the folder is as safe as after a crash.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
