"""How functions are compiled for the CPU: at their first call, to run without Python's lock.

Floats keep the order and the rounding that is written: nothing is reassociated or contracted, and
divisions are those of IEEE 754. What was compiled is kept on disk, beside the code or in the user's
cache, where one of them can be written to (NUMBA_CACHE_DIR names another place); else every process
compiles it again.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Decorates a function that numba can compile."""
    try:
        return cast(Function, njit(nogil=True, error_model="numpy", cache=True)(function))
    except RuntimeError:  # there is no place where numba could keep it
        return cast(Function, njit(nogil=True, error_model="numpy")(function))
