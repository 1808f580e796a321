"""Makes drafters: trains a few layers to write what a target would, and says what they are worth.

Runs where there is room, once, not where a drafter or a target serves. Needs the `export` extra.
"""
