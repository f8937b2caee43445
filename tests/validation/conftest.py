from __future__ import annotations

from clean_days import day, site

__all__ = ["day", "site"]
