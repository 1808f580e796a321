"""The type of the fixture that opens edges."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from outrider_edge.runtime import EdgeRuntime

OpenEdge = Callable[..., AbstractAsyncContextManager[EdgeRuntime]]
