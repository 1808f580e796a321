"""The messages and stubs of the wire, generated from proto/outrider/v1."""
