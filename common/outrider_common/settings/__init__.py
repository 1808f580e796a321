"""The settings: every knob with its default, its limits and its meaning.

One frozen class for each section, in a file of its own. Command-line help, error messages and
docs/configuration.md are made from their fields. Knows nothing of files, variables and flags:
`config_loading` does.
"""
