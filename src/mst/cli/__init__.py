"""Command lines come in; calls of the library, tables, files and exit codes go out."""
