from __future__ import annotations

from tests.validation.clean_days import day, site

__all__ = ["day", "site"]
