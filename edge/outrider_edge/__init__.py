"""The edge: proposers, the session loop, text in and out, and the edge's command line.

Never imports torch, transformers or the cloud package.
"""
