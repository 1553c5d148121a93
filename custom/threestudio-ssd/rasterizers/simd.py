"""A vector of float32 lanes as one numba value, so that a kernel says which arithmetic is a vector instruction.

LLVM vectorises a plain loop only when it can prove that the arrays do not overlap and that nothing in the body
branches. Here each operation on a :class:`FloatVector` *is* a vector operation, no operation is reordered or contracted
behind our back, and two kernels that spell the same arithmetic get the same bits, which is how the backward pass
repeats the forward pass exactly.

There are sixteen lanes (one AVX-512 register) where the CPU has them, else eight (AVX2; two NEON registers on ARM).
"""

import math
import operator
import os
from collections.abc import Callable, Mapping
from typing import Any

from llvmlite import binding, ir
from numba.core import config, types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from ..errors import ConfigError

LANES_VARIABLE = "THREESTUDIO_SSD_LANES"
"""Environment variable that sets the number of lanes, 8 or 16; images have the same bits with both."""
_WIDE = ("avx512f", "avx512vl", "avx512dq", "avx512bw")


def has_wide_vectors(features: Mapping[str, bool]) -> bool:
    """Whether a CPU with these features has AVX-512 as servers and desktops have it."""
    return all(features.get(name) for name in _WIDE)


def choose_lanes(wanted: str | None, features: Mapping[str, bool]) -> int:
    """Float32 lanes of a vector.

    Args:
        wanted: What the environment asks for; None or empty: what the CPU does best.
        features: Of the CPU, by LLVM's names.

    Raises:
        ConfigError: If something other than 8 or 16 is asked for.
    """
    if not wanted:
        return 16 if has_wide_vectors(features) else 8
    if wanted not in ("8", "16"):
        raise ConfigError(what=f"{LANES_VARIABLE} is {wanted!r}", expected="8 or 16", fix=f"unset {LANES_VARIABLE}")
    return int(wanted)


def _cpu_features() -> Mapping[str, bool]:
    """Of the CPU that numba compiles for: this one, or the one that its own variables name."""
    numba_config: Any = config
    if numba_config.CPU_FEATURES is not None:
        return {name[1:]: name[0] == "+" for name in numba_config.CPU_FEATURES.split(",") if name}
    return {} if numba_config.CPU_NAME else dict(binding.get_host_cpu_features())


_FEATURES = _cpu_features()
LANES = choose_lanes(os.environ.get(LANES_VARIABLE), _FEATURES)
_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_INTS = ir.VectorType(ir.IntType(32), LANES)
_SUFFIX = f"v{LANES}f32"
DOUBLES = LANES // 2
"""float64 lanes of a vector."""
_DOUBLE = ir.DoubleType()
_DOUBLE_VECTOR = ir.VectorType(_DOUBLE, DOUBLES)
_LONGS = ir.VectorType(ir.IntType(64), DOUBLES)
_DOUBLE_SUFFIX = f"v{DOUBLES}f64"

# 2**f on [-1/2, 1/2], minimax in relative error: 7.5e-8, about one unit in the last place of float32.
_EXP2_COEFFICIENTS = (1.00000007, 0.693146944, 0.240221202, 0.0555071309, 0.00967554096, 0.00132764713)

_ROOT_HALF_BITS = 0x3FE6A09E667F3BCD
"""Of sqrt(1/2) as a float64."""


class FloatVector(types.Type):
    """Numba type of ``LANES`` float32 lanes."""

    def __init__(self) -> None:
        super().__init__(name="FloatVector")


class DoubleVector(types.Type):
    """Numba type of ``DOUBLES`` float64 lanes."""

    def __init__(self) -> None:
        super().__init__(name="DoubleVector")


class MaskVector(types.Type):
    """Numba type of ``LANES`` truth values, one a lane: all bits of an int32 set, or none, as CPUs compare."""

    def __init__(self) -> None:
        super().__init__(name="MaskVector")


floats = FloatVector()
doubles = DoubleVector()
mask_type = MaskVector()


@register_model(FloatVector)
class _FloatVectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _VECTOR)


@register_model(DoubleVector)
class _DoubleVectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _DOUBLE_VECTOR)


@register_model(MaskVector)
class _MaskVectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _INTS)


def _helper(codegen: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function that kernels call from one that numba calls with a typing context in front."""
    return intrinsic(codegen)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_VECTOR, [ir.Constant(_FLOAT, float(value))] * LANES)


def _broadcast(builder, scalar, vector_type):
    first = builder.insert_element(ir.Constant(vector_type, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector_type.count), [0] * vector_type.count)
    return builder.shuffle_vector(first, ir.Constant(vector_type, ir.Undefined), zeros)


def _call(builder, name: str, result, *args):
    """Call an LLVM intrinsic such as ``llvm.fma.v16f32``."""
    function_type = ir.FunctionType(result, [arg.type for arg in args])
    function = builder.module.globals.get(name) or ir.Function(builder.module, function_type, name)
    return builder.call(function, args)


def _truths(builder, mask):
    """One bit a lane, as LLVM compares."""
    return builder.icmp_signed("<", mask, ir.Constant(_INTS, [0] * LANES))


def _bits(builder, mask):
    """The lanes' bits as one integer, lane 0 the lowest."""
    return builder.bitcast(_truths(builder, mask), ir.IntType(LANES))


def _register_operator(python_operator, result, emit, *arguments) -> None:
    template = type(f"_{python_operator.__name__}", (ConcreteTemplate,), {"cases": [signature(result, *arguments)]})
    register: Any = infer_global(python_operator)
    register(template)

    def lower(context, builder, sig, args):
        pairs = zip(args, arguments, strict=True)
        wide = [_broadcast(builder, a, _DOUBLE_VECTOR) if t is types.float64 else a for a, t in pairs]
        return emit(builder, *wide)

    lower_builtin(python_operator, *arguments)(lower)


for _operator, _name in (
    (operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv"),
    (operator.iadd, "fadd"), (operator.isub, "fsub"), (operator.imul, "fmul"),
):  # fmt: skip
    _arithmetic: Callable[..., Any] = lambda builder, a, b, name=_name: getattr(builder, name)(a, b)  # noqa: E731
    _register_operator(_operator, floats, _arithmetic, floats, floats)
    for _arguments in ((doubles, doubles), (types.float64, doubles), (doubles, types.float64)):
        _register_operator(_operator, doubles, _arithmetic, *_arguments)
for _operator, _sign in ((operator.le, "<="), (operator.lt, "<")):
    _register_operator(
        _operator, mask_type,
        lambda builder, a, b, sign=_sign: builder.sext(builder.fcmp_ordered(sign, a, b), _INTS), floats, floats,
    )  # fmt: skip
_register_operator(operator.neg, doubles, lambda builder, a: builder.fneg(a), doubles)


def _address(context, builder, array_type, array, index, vector_type=_VECTOR):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector_type.as_pointer())


@_helper
def splat(typingctx, value):
    """All lanes equal to one float32."""

    def codegen(context, builder, sig, args):
        scalar = context.cast(builder, args[0], sig.args[0], types.float32)
        return _broadcast(builder, scalar, _VECTOR)

    return floats(value), codegen


@_helper
def splat_double(typingctx, value):
    """All lanes equal to one float64."""

    def codegen(context, builder, sig, args):
        return _broadcast(builder, context.cast(builder, args[0], sig.args[0], types.float64), _DOUBLE_VECTOR)

    return doubles(value), codegen


@_helper
def gather(typingctx, array, rows, first, width, column):
    """float64 of ``array[rows[first + lane], column]`` of a contiguous float32 array with ``width`` columns."""

    def codegen(context, builder, sig, args):
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        numbers = context.make_array(sig.args[1])(context, builder, args[1]).data
        first, width, column = (context.cast(builder, args[i], sig.args[i], types.intp) for i in (2, 3, 4))
        vector = ir.Constant(ir.VectorType(_FLOAT, DOUBLES), ir.Undefined)
        for lane in range(DOUBLES):
            row = builder.load(builder.gep(numbers, [builder.add(first, ir.Constant(first.type, lane))]))
            value = builder.load(builder.gep(data, [builder.add(builder.mul(row, width), column)]))
            vector = builder.insert_element(vector, value, ir.Constant(ir.IntType(32), lane))
        return builder.fpext(vector, _DOUBLE_VECTOR)

    return doubles(array, rows, first, width, column), codegen


@_helper
def load_doubles(typingctx, array, index):
    """``DOUBLES`` consecutive elements of a contiguous float64 array."""

    def codegen(context, builder, sig, args):
        at = context.cast(builder, args[1], sig.args[1], types.intp)
        return builder.load(_address(context, builder, sig.args[0], args[0], at, _DOUBLE_VECTOR), align=8)

    return doubles(array, index), codegen


@_helper
def store_doubles(typingctx, array, index, value):
    """Write ``DOUBLES`` consecutive elements of a contiguous float64 array."""

    def codegen(context, builder, sig, args):
        at = context.cast(builder, args[1], sig.args[1], types.intp)
        builder.store(args[2], _address(context, builder, sig.args[0], args[0], at, _DOUBLE_VECTOR), align=8)
        return context.get_dummy_value()

    return types.void(array, index, doubles), codegen


@_helper
def square_root(typingctx, a):
    """The square root of each float64 lane, NaN below zero."""

    def codegen(context, builder, sig, args):
        return _call(builder, f"llvm.sqrt.{_DOUBLE_SUFFIX}", _DOUBLE_VECTOR, *args)

    return doubles(doubles), codegen


@_helper
def round_down(typingctx, a):
    """The largest whole number that is not above each float64 lane."""

    def codegen(context, builder, sig, args):
        return _call(builder, f"llvm.floor.{_DOUBLE_SUFFIX}", _DOUBLE_VECTOR, *args)

    return doubles(doubles), codegen


@_helper
def round_up(typingctx, a):
    """The smallest whole number that is not below each float64 lane."""

    def codegen(context, builder, sig, args):
        return _call(builder, f"llvm.ceil.{_DOUBLE_SUFFIX}", _DOUBLE_VECTOR, *args)

    return doubles(doubles), codegen


@_helper
def is_between(typingctx, low, a, high):
    """1 in each float64 lane where low <= a <= high, 0 elsewhere."""

    def codegen(context, builder, sig, args):
        low, a, high = args
        is_inside = builder.and_(builder.fcmp_ordered("<=", low, a), builder.fcmp_ordered("<=", a, high))
        return builder.uitofp(is_inside, _DOUBLE_VECTOR)

    return doubles(doubles, doubles, doubles), codegen


@_helper
def log2(typingctx, a):
    """The binary logarithm of each float64 lane; absolute error 1e-13 for positive normal numbers."""

    def codegen(context, builder, sig, args):
        def number(value):
            return ir.Constant(_DOUBLE_VECTOR, [ir.Constant(_DOUBLE, float(value))] * DOUBLES)

        def whole(value):
            return ir.Constant(_LONGS, [value] * DOUBLES)

        bits = builder.bitcast(args[0], _LONGS)
        # mantissa in [sqrt(1/2), sqrt(2)): the exponent is of what remains when sqrt(1/2)'s bits are taken away
        shifted = builder.sub(bits, whole(_ROOT_HALF_BITS))
        exponent = builder.ashr(shifted, whole(52))
        mantissa = builder.bitcast(builder.sub(bits, builder.shl(exponent, whole(52))), _DOUBLE_VECTOR)
        s = builder.fdiv(builder.fsub(mantissa, number(1)), builder.fadd(mantissa, number(1)))
        square = builder.fmul(s, s)
        series = number(1 / 17)  # artanh(s) / s
        for power in (15, 13, 11, 9, 7, 5, 3, 1):
            series = builder.fadd(builder.fmul(series, square), number(1 / power))
        fraction = builder.fmul(builder.fmul(s, series), number(2 / math.log(2)))
        return builder.fadd(builder.sitofp(exponent, _DOUBLE_VECTOR), fraction)

    return doubles(doubles), codegen


@_helper
def double_numbers(typingctx):
    """The float64 vector 0, 1, 2, ..."""

    def codegen(context, builder, sig, args):
        return ir.Constant(_DOUBLE_VECTOR, [ir.Constant(_DOUBLE, float(i)) for i in range(DOUBLES)])

    return doubles(), codegen


@_helper
def interval_bits(typingctx, low, high):
    """A uint64 with the bits from low up to below high set in the byte of each lane, lane 0 the lowest; 0 to 8."""

    def codegen(context, builder, sig, args):
        def whole(values):
            return ir.Constant(_LONGS, list(values))

        halves = ir.VectorType(ir.IntType(32), DOUBLES)
        low, high = (builder.zext(builder.fptosi(arg, halves), _LONGS) for arg in args)
        ones = whole([1] * DOUBLES)
        bits = builder.sub(builder.shl(ones, high), builder.shl(ones, low))
        bits = builder.shl(bits, whole(8 * lane for lane in range(DOUBLES)))
        return _call(builder, f"llvm.vector.reduce.or.v{DOUBLES}i64", ir.IntType(64), bits)

    return types.uint64(doubles, doubles), codegen


@_helper
def lane_numbers(typingctx):
    """The vector 0, 1, 2, ..."""

    def codegen(context, builder, sig, args):
        return ir.Constant(_VECTOR, [ir.Constant(_FLOAT, float(i)) for i in range(LANES)])

    return floats(), codegen


@_helper
def load(typingctx, array, index):
    """``LANES`` consecutive elements of a contiguous float32 array (any alignment, no bounds check)."""

    def codegen(context, builder, sig, args):
        at = context.cast(builder, args[1], sig.args[1], types.intp)
        return builder.load(_address(context, builder, sig.args[0], args[0], at), align=4)

    return floats(array, index), codegen


@_helper
def spread(typingctx, array, index):
    """All lanes equal to one element of a contiguous float32 array (no bounds check)."""

    def codegen(context, builder, sig, args):
        at = context.cast(builder, args[1], sig.args[1], types.intp)
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return _broadcast(builder, builder.load(builder.gep(data, [at])), _VECTOR)

    return floats(array, index), codegen


@_helper
def store(typingctx, array, index, value):
    """Write ``LANES`` consecutive elements of a contiguous float32 array."""

    def codegen(context, builder, sig, args):
        at = context.cast(builder, args[1], sig.args[1], types.intp)
        builder.store(args[2], _address(context, builder, sig.args[0], args[0], at), align=4)
        return context.get_dummy_value()

    return types.void(array, index, floats), codegen


@_helper
def prefetch(typingctx, array, index):
    """Ask for the cache line of an element of a contiguous float32 array that will be read soon."""

    def codegen(context, builder, sig, args):
        at = context.cast(builder, args[1], sig.args[1], types.intp)
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.bitcast(builder.gep(data, [at]), pointer)
        function_type = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(builder.module, function_type, name)
        builder.call(function, (address, number(0), number(3), number(1)))  # read, keep close, data
        return context.get_dummy_value()

    return types.void(array, index), codegen


@_helper
def fma(typingctx, a, b, c):
    """a * b + c with one rounding."""

    def codegen(context, builder, sig, args):
        return _call(builder, f"llvm.fma.{_SUFFIX}", _VECTOR, *args)

    return floats(floats, floats, floats), codegen


@_helper
def fnma(typingctx, a, b, c):
    """c - a * b with one rounding."""

    def codegen(context, builder, sig, args):
        return _call(builder, f"llvm.fma.{_SUFFIX}", _VECTOR, builder.fneg(args[0]), args[1], args[2])

    return floats(floats, floats, floats), codegen


@_helper
def lesser(typingctx, a, b):
    """The smaller of a and b in each lane (b where a is NaN)."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered("<", *args), *args)

    return a(a, a), codegen


@_helper
def larger(typingctx, a, b):
    """The larger of a and b in each lane (b where a is NaN)."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return a(a, a), codegen


@_helper
def magnitude(typingctx, a):
    """|a| in each lane."""

    def codegen(context, builder, sig, args):
        return _call(builder, f"llvm.fabs.{_SUFFIX}", _VECTOR, *args)

    return floats(floats), codegen


@_helper
def select(typingctx, mask, if_true, if_false):
    """if_true where the mask holds, if_false elsewhere; what is not chosen may be NaN."""

    def codegen(context, builder, sig, args):
        return builder.select(_truths(builder, args[0]), args[1], args[2])

    return floats(mask_type, floats, floats), codegen


@_helper
def both(typingctx, first, second):
    """The mask of the lanes where both hold."""

    def codegen(context, builder, sig, args):
        return builder.and_(*args)

    return mask_type(mask_type, mask_type), codegen


@_helper
def any_lane(typingctx, mask):
    """Whether the mask holds in at least one lane."""

    def codegen(context, builder, sig, args):
        return builder.icmp_unsigned("!=", _bits(builder, args[0]), ir.Constant(ir.IntType(LANES), 0))

    return types.boolean(mask_type), codegen


@_helper
def mask_bits(typingctx, mask):
    """The mask as the lowest bits of a uint64, lane 0 the lowest."""

    def codegen(context, builder, sig, args):
        return builder.zext(_bits(builder, args[0]), ir.IntType(64))

    return types.uint64(mask_type), codegen


@_helper
def lowest_bit(typingctx, bits):
    """Position of the lowest set bit of a uint64 other than 0."""

    def codegen(context, builder, sig, args):
        function_type = ir.FunctionType(ir.IntType(64), [ir.IntType(64), ir.IntType(1)])
        name = "llvm.cttz.i64"
        function = builder.module.globals.get(name) or ir.Function(builder.module, function_type, name)
        return builder.call(function, (args[0], ir.Constant(ir.IntType(1), 1)))

    return types.int64(types.uint64), codegen


def _shuffled(builder, first, second, order):
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order))


def _fold(builder, vector, width: int):
    """The first ``width`` lanes, with every ``width``-th lane after them added."""
    lanes = LANES
    while lanes > width:
        lanes //= 2
        halves = [_shuffled(builder, vector, vector, list(range(start, start + lanes))) for start in (0, lanes)]
        vector = builder.fadd(*halves)
    return vector


@_helper
def count_bits(typingctx, bits):
    """Number of set bits of a uint64."""

    def codegen(context, builder, sig, args):
        return _call(builder, "llvm.ctpop.i64", ir.IntType(64), *args)

    return types.int64(types.uint64), codegen


@_helper
def store_sums(typingctx, array, index, a, b, c, d, e, f, g, h):
    """Write the sums of the lanes of eight vectors to eight consecutive elements of a contiguous float32 array.

    Each is added up as in :func:`lane_sum`.
    """

    def codegen(context, builder, sig, args):
        def halved(first, second, width):
            """Lanes ``width`` apart added; the first vector's in one half of each group, the second's in the other."""
            group = [i for i in range(8) if i % (2 * width) < width]
            low = [i + j for i in group[::width] for j in (*range(width), *range(8, 8 + width))]
            ends = (_shuffled(builder, first, second, [i + shift for i in low]) for shift in (0, width))
            return builder.fadd(*ends)

        eights = [_fold(builder, vector, 8) for vector in args[2:]]
        fours = [halved(eights[i], eights[i + 4], 4) for i in range(4)]  # a e, b f, c g, d h
        twos = [halved(fours[i], fours[i + 2], 2) for i in range(2)]  # a c e g, b d f h
        sums = halved(twos[0], twos[1], 1)
        at = context.cast(builder, args[1], sig.args[1], types.intp)
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        builder.store(sums, builder.bitcast(builder.gep(data, [at]), sums.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, index, *([floats] * 8)), codegen


@_helper
def lane_sum(typingctx, a):
    """Sum of the lanes: halves are added until one lane is left."""

    def codegen(context, builder, sig, args):
        return builder.extract_element(_fold(builder, args[0], 1), ir.Constant(ir.IntType(32), 0))

    return types.float32(floats), codegen


@_helper
def reciprocal(typingctx, a):
    """1 / a for each lane of a in [1e-3, 1]; relative error 1e-7, not the same bits on every kind of CPU."""

    def codegen(context, builder, sig, args):
        one = _constant(1.0)
        if LANES < 16 or not has_wide_vectors(_FEATURES):
            return builder.fdiv(one, args[0])
        # a first guess of 14 bits and one step of Newton's method: a quarter of a division's time
        every_lane = ir.Constant(ir.IntType(16), 0xFFFF)
        guess = _call(builder, "llvm.x86.avx512.rcp14.ps.512", _VECTOR, args[0], _constant(0.0), every_lane)
        miss = _call(builder, f"llvm.fma.{_SUFFIX}", _VECTOR, builder.fneg(args[0]), guess, one)
        return _call(builder, f"llvm.fma.{_SUFFIX}", _VECTOR, guess, miss, guess)

    return floats(floats), codegen


@_helper
def exp2(typingctx, a):
    """2**a by a degree-5 polynomial on the fractional part; relative error 2.5e-7 for a in [-126, 127]."""

    def codegen(context, builder, sig, args):
        whole = _call(builder, f"llvm.rint.{_SUFFIX}", _VECTOR, args[0])
        fraction = builder.fsub(args[0], whole)
        value = _constant(_EXP2_COEFFICIENTS[-1])
        for coefficient in _EXP2_COEFFICIENTS[-2::-1]:
            value = _call(builder, f"llvm.fma.{_SUFFIX}", _VECTOR, value, fraction, _constant(coefficient))
        shift = ir.Constant(_INTS, [23] * LANES)
        exponent = builder.shl(builder.fptosi(whole, _INTS), shift)
        return builder.bitcast(builder.add(builder.bitcast(value, _INTS), exponent), _VECTOR)

    return floats(floats), codegen
