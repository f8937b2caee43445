"""The package with its compiled kernel, or, on a platform that has none, without it."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent))
from compile_kernel import compile_kernel, target


class KernelBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if not target():
            self.app.display_warning("no kernel for this platform: messages are decoded in Python")
            return
        library = compile_kernel()
        build_data["artifacts"].append(str(library.relative_to(self.root)))
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        build_data["pure_python"] = False
