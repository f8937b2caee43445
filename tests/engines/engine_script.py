"""Runs statements on the chDB engine of this interpreter, whatever its version. Needs the standard library and chdb only.

    python engine_script.py DIRECTORY STEPS.json FIRST

STEPS is a list of statements. For each step from number FIRST on, one line of JSON is printed: its rows
or its error. An engine that an error leaves unusable ends the process there; the caller goes on after that step.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import sysconfig
import tempfile
import types
from pathlib import Path
from typing import Any

FORMAT = "JSONCompactEachRow"


def extension() -> Any:
    """The engine alone: the package around it wants pandas and pyarrow, which are another 200 MB."""
    package = types.ModuleType("chdb")
    package.__path__ = [str(Path(sysconfig.get_paths()["purelib"]) / "chdb")]
    sys.modules["chdb"] = package
    return importlib.import_module("chdb._chdb")


def main() -> None:
    directory, steps, first = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), int(sys.argv[3])
    os.environ["TZ"] = "UTC"
    said = tempfile.TemporaryFile()  # noqa: SIM115
    os.dup2(said.fileno(), 2)  # the oldest engine prints an error and returns nothing
    engine = extension()
    connection = engine.connect(directory) if hasattr(engine, "connect") else None

    def run(sql: str) -> str:
        if connection is not None:
            return str(connection.query(sql, FORMAT).bytes().decode())
        before = said.seek(0, os.SEEK_END)
        result = engine.query(sql, FORMAT, path=directory)
        said.seek(before)
        printed = said.read().decode(errors="replace")
        if problem := result.error_message() if hasattr(result, "error_message") else printed:
            raise RuntimeError(problem)
        return result.get_memview().tobytes().decode() if result.size() else ""

    for number in range(first, len(steps)):
        try:
            lines = run(steps[number]).splitlines()
        except Exception as error:
            code = re.search(r"Code: (\d+)", str(error))
            print(
                json.dumps({"step": number, "code": int(code[1]) if code else 0, "error": str(error)[:2000]}),
                flush=True,
            )
            if connection is None:
                os._exit(1)
        else:
            print(json.dumps({"step": number, "rows": [json.loads(line) for line in lines]}), flush=True)


if __name__ == "__main__":
    main()
