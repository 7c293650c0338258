"""Which machine this is, who runs here, and folders that nobody else may touch. Light: of the package only study.problems."""
