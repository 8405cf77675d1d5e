"""Goes on in the interpreter that `fetch` made, which has the engine and the clients. Fetches what is missing first."""

import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def enter():
    """Returns the folder of Kafka's jars, inside the interpreter; ends with the exit code of `fetch` when it fails."""
    fetch = subprocess.run([os.path.join(HERE, "fetch")], stdout=subprocess.PIPE, text=True)
    if fetch.returncode:
        sys.exit(fetch.returncode)
    kafka, engine = fetch.stdout.split("\n")[:2]
    if os.path.realpath(sys.prefix) != os.path.realpath(engine):
        python = os.path.join(engine, "bin", "python")
        os.execv(python, [python, os.path.abspath(sys.argv[0]), *sys.argv[1:]])
    return kafka
