"""Model files: where they are kept, how they are pulled, and how drafter bundles are exported.

Knows nothing of sessions or of the network protocol.
"""
