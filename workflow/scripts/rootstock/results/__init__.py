"""Tables, figures and pages from published results. Reads files only; trains nothing."""
