"""Rootstock: every base model is trained once, under the name of what determined its weights.

Imports go downward only: `study` (light) is read by everything; `tasks` say what is trained, `engine` how,
`store` keeps the result, `results` reads what was published.
"""

__version__ = "0.1.0"
