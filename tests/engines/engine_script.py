"""Runs statements on one chDB engine, of whatever version this interpreter has. Standard library and chdb only.

    python engine_script.py DIRECTORY STEPS.json FIRST

STEPS is a list of {"sql": ..., "settings": {...}}. One line of JSON is printed for each step from number FIRST on: its
result as TSV, or the error. An old engine may end the whole process with an error: the caller then goes on after that step.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any


def extension() -> Any:
    """The engine's extension module alone: the package around it wants pandas and pyarrow, 200 MB more."""
    package = types.ModuleType("chdb")
    package.__path__ = [str(Path(sysconfig.get_paths()["purelib"]) / "chdb")]
    sys.modules["chdb"] = package
    return importlib.import_module("chdb._chdb")


def main() -> None:
    directory, steps, first = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), int(sys.argv[3])
    os.environ["TZ"] = "UTC"
    engine = extension()
    connection = engine.connect(directory) if hasattr(engine, "connect") else None

    def run(sql: str) -> str:
        if connection is not None:
            return str(connection.query(sql, "TSV").bytes().decode())
        result = engine.query(sql, "TSV", path=directory)
        message = result.error_message() if hasattr(result, "error_message") else ""
        if message:
            raise RuntimeError(message)
        return bytes(result.get_memview().tobytes()).decode() if result.size() else ""

    for number in range(first, len(steps)):
        step = steps[number]
        # An engine that reads its state anew for each query forgets a SET: the settings go with the statement.
        settings = "".join(f"SET {name} = {value}; " for name, value in step.get("settings", {}).items())
        try:
            answer = {"step": number, "result": run(settings + step["sql"])}
        except Exception as error:
            code = re.search(r"Code: (\d+)", str(error))
            answer = {"step": number, "code": int(code[1]) if code else -1, "error": str(error)[:2000]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
