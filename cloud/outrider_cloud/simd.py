"""Vectors of eight floats for code that numba compiles.

LLVM maps them onto the registers that the processor has. Numba's own vectoriser does not keep sums
in registers in the loops that attention needs: with these it is as fast as the memory. Knows
nothing of attention.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES: Final = 8

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INT = ir.IntType(32)
_INTS = ir.VectorType(_INT, LANES)
_BYTES = ir.IntType(8).as_pointer()
_ALIGNMENT: Final = 4

_LOWEST_EXPONENT: Final = -87.0
_LN_2_HIGH: Final = 0.693359375
_LN_2_LOW: Final = -2.12194440e-4
_LOG2_E: Final = 1.4426950408889634
_EXP_COEFFICIENTS: Final = (
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)


class _Float8(types.Type):
    def __init__(self) -> None:
        super().__init__("float8")


float8 = _Float8()


@register_model(_Float8)
class _Float8Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


@intrinsic
def load8(_context: Any, array: Any, index: Any) -> Any:
    """Eight floats of a flat array, from an index on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        loaded = builder.load(_address(context, builder, signature, args, _FLOATS.as_pointer()))
        loaded.align = _ALIGNMENT
        return loaded

    return float8(array, types.intp), generate


@intrinsic
def store8(_context: Any, array: Any, index: Any, vector: Any) -> Any:
    """Put a vector into a flat array, from an index on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _address(context, builder, signature, args, _FLOATS.as_pointer())
        builder.store(args[2], address).align = _ALIGNMENT
        return context.get_dummy_value()

    return types.void(array, types.intp, float8), generate


@intrinsic
def prefetch(_context: Any, array: Any, index: Any) -> Any:
    """Say that this place of a flat array will soon be read."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_BYTES, _INT, _INT, _INT])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        hints = [ir.Constant(_INT, hint) for hint in (0, 3, 1)]  # read, keep close, data
        builder.call(function, [_address(context, builder, signature, args, _BYTES), *hints])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def splat8(_context: Any, number: Any) -> Any:
    """The same float in all lanes."""

    def generate(_: Any, builder: Any, _signature: Any, args: Any) -> Any:
        undefined = ir.Constant(_FLOATS, ir.Undefined)
        first = builder.insert_element(undefined, args[0], ir.Constant(_INT, 0))
        return builder.shuffle_vector(first, undefined, ir.Constant(_INTS, [0] * LANES))

    return float8(types.float32), generate


@intrinsic
def lane8(_context: Any, vector: Any, lane: Any) -> Any:
    """The float in one lane."""

    def generate(_: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.extract_element(args[0], args[1])

    return types.float32(float8, types.intp), generate


def _elementwise(num_args: int, name: str, build: Callable[..., Any]) -> Any:
    def declare(_context: Any, *kinds: Any) -> Any:
        def generate(_: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return build(builder, *args)

        return float8(*[float8] * num_args), generate

    # Numba reads the parameters off the function itself, so each number of them is spelled out.
    by_arity: dict[int, Callable[..., Any]] = {
        1: lambda context, a: declare(context, a),
        2: lambda context, a, b: declare(context, a, b),
        3: lambda context, a, b, c: declare(context, a, b, c),
    }
    function = by_arity[num_args]
    function.__name__ = name
    return intrinsic(function)


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return _call(builder, "llvm.fma.v8f32", [a, b, c])


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _exp(builder: Any, x: Any) -> Any:
    """exp(x) = 2**n * exp(r), n = round(x / ln 2), as in Cephes' expf (Moshier); 0 below -87."""
    is_tiny = builder.fcmp_ordered("<", x, _constant(_LOWEST_EXPONENT))
    x = builder.select(is_tiny, _constant(_LOWEST_EXPONENT), x)
    n = _call(builder, "llvm.rint.v8f32", [builder.fmul(x, _constant(_LOG2_E))])
    r = _fma(builder, n, _constant(-_LN_2_HIGH), x)
    r = _fma(builder, n, _constant(-_LN_2_LOW), r)
    series = _constant(_EXP_COEFFICIENTS[0])
    for coefficient in _EXP_COEFFICIENTS[1:]:
        series = _fma(builder, series, r, _constant(coefficient))
    y = _fma(builder, builder.fmul(series, r), r, builder.fadd(r, _constant(1.0)))
    biased = builder.add(builder.fptosi(n, _INTS), ir.Constant(_INTS, [127] * LANES))
    power = builder.bitcast(builder.shl(biased, ir.Constant(_INTS, [23] * LANES)), _FLOATS)
    return builder.select(is_tiny, _constant(0.0), builder.fmul(y, power))


add8 = _elementwise(2, "add8", lambda builder, a, b: builder.fadd(a, b))
mul8 = _elementwise(2, "mul8", lambda builder, a, b: builder.fmul(a, b))
max8 = _elementwise(2, "max8", _larger)
fma8 = _elementwise(3, "fma8", _fma)
exp8 = _elementwise(1, "exp8", _exp)


def _constant(number: float) -> Any:
    return ir.Constant(_FLOATS, [number] * LANES)


def _call(builder: Any, name: str, args: Sequence[Any]) -> Any:
    kind = ir.FunctionType(_FLOATS, [_FLOATS] * len(args))
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def _address(context: Any, builder: Any, signature: Any, args: Any, kind: Any) -> Any:
    """Where element `args[1]` of the array `args[0]` lies."""
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.bitcast(builder.gep(array.data, [args[1]]), kind)
