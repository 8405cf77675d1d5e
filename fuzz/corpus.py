#!/usr/bin/env python3
"""Fills fuzz/corpus/ with inputs from the folders of test cases; usage: corpus.py [CORPORA].

Enters: the checked-in seeds and golden cases, and the public corpora (see GATEWATCH_CORPORA in the README), where they
are there. Leaves: one file an input, named by its content. What an input looks like is said in fuzz/src/<target>.rs.
"""

import gzip
import hashlib
import json
import os
import pathlib
import sys
import urllib.parse

FUZZ = pathlib.Path(__file__).resolve().parent
# Larger inputs teach a fuzzer nothing that smaller ones do not.
LARGEST = 64 * 1024
MOST_LINES = 60


def keep(target, content):
    if isinstance(content, str):
        content = content.encode()
    if len(content) <= LARGEST:
        folder = FUZZ / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / hashlib.sha1(content).hexdigest()).write_bytes(content)


def lines(path):
    text = path.read_bytes()
    return [line for line in text.split(b"\n")[:MOST_LINES] if line.strip()]


def cases(path):
    if not path.exists():
        return []
    read = gzip.open if path.suffix == ".gz" else open
    with read(path, "rt") as file:
        return [json.loads(line) for line in file]


def message(case, body):
    request = case["request"]
    url = urllib.parse.urlsplit(request.get("url") or request.get("target") or request.get("path") or "/")
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    fields = request.get("headers") or {}
    fields = fields.items() if isinstance(fields, dict) else fields
    head = "".join(f"{name}: {value if isinstance(value, str) else value[0]}\n" for name, value in fields)
    return f"{request['method']} {target}\n{head}\n{body}"


def main():
    corpora = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("GATEWATCH_CORPORA", ""))
    for kept in (FUZZ / "seeds").glob("*/*"):
        keep(kept.parent.name, kept.read_bytes())
    for path in [*(FUZZ.parent / "tests/golden").glob("*/input*"), FUZZ.parent / "pipelines/quickstart/traffic.ndjson"]:
        for line in lines(path):
            keep("event", line)
    for path in (FUZZ.parent / "tests/it/grammar").glob("*.cases"):
        for line in path.read_text().splitlines():
            keep("rule", line.split("|", 2)[-1].strip().replace("¦", ""))
    if not corpora.is_dir():
        return
    for path in (corpora / "access-logs").rglob("*"):
        if path.is_file():
            for line in lines(path):
                keep("event", line)
    for case in cases(corpora / "jose/wycheproof-jws-cases.jsonl"):
        keys = case.get("jwks") or {"keys": [case.get("key")]}
        keep("token", f"{json.dumps(keys)}\n{case.get('token')}")
    for case in cases(corpora / "openapi/cases.jsonl"):
        spec = (corpora / "openapi" / case["spec"]).read_text()
        body = (case.get("request") or {}).get("body") or ""
        keep("openapi", f"{spec}\0{message(case, body if isinstance(body, str) else json.dumps(body))}")
    for path in (corpora / "openapi/documents").rglob("*.yaml"):
        keep("openapi", path.read_bytes())
    for path in (corpora / "x509/crl-parse").glob("*"):
        keep("crl", path.read_bytes())
    for case in cases(corpora / "x509/client-chain-cases.jsonl.gz"):
        chain = [case["peer_certificate"], *case.get("untrusted_intermediates", [])]
        keep("certificate", "".join(chain))
        for crl in case.get("crls") or []:
            keep("crl", crl)


main()
