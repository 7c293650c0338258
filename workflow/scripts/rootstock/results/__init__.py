"""What was published becomes tables and figures. Reads files only; trains nothing."""
