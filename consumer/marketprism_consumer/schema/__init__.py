"""The eight tables: their columns, their views, and the DDL that makes both. Pure."""
