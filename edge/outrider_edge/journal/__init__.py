"""The journal of answers: what was written outlives the daemon that wrote it."""
