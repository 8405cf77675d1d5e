"""Goes on in the interpreter that `fetch` made, which has the engine and the clients. Fetches what is missing first."""

import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def enter():
    """Returns the cache's folder, inside its interpreter; ends with the exit code of `fetch` when there is none."""
    fetch = subprocess.run([os.path.join(HERE, "fetch")], stdout=subprocess.PIPE, text=True)
    if fetch.returncode:
        sys.exit(fetch.returncode)
    cache = fetch.stdout.strip()
    home = folder_of(cache, "clickhouse-")
    if os.path.realpath(sys.prefix) != os.path.realpath(home):
        python = os.path.join(home, "bin", "python")
        os.execv(python, [python, os.path.abspath(sys.argv[0]), *sys.argv[1:]])
    return cache


def folder_of(cache, prefix):
    """The part of the cache whose name starts so; the newest when an older one was left behind."""
    return os.path.join(cache, max(name for name in os.listdir(cache) if name.startswith(prefix)))
