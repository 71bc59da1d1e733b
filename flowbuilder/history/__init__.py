"""Everything that ever ran: projected into DuckDB, kept in months, searched."""
