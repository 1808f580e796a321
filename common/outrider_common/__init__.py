"""The pure core: speculation tree, noise, acceptance rules, wire conversion, settings and errors.

Knows nothing of sockets, threads, clocks or model runtimes.
"""
