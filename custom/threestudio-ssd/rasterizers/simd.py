"""Eight float32 lanes as one numba value, so that a kernel says which arithmetic is a vector instruction.

LLVM vectorises a plain loop only when it can prove that the arrays do not overlap and that nothing in the body
branches. Here each operation on a :class:`Float32x8` *is* a vector operation (AVX2 on x86, two NEON registers on
ARM), no operation is reordered or contracted behind our back, and two kernels that spell the same arithmetic get the
same bits, which is how the backward pass repeats the forward pass exactly.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 8
_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_INTS = ir.VectorType(ir.IntType(32), LANES)

# 2**f on [-1/2, 1/2], minimax in relative error: 7.5e-8, about one unit in the last place of float32.
_EXP2_COEFFICIENTS = (1.00000007, 0.693146944, 0.240221202, 0.0555071309, 0.00967554096, 0.00132764713)


class Float32x8(types.Type):
    """Numba type of eight float32 lanes."""

    def __init__(self) -> None:
        super().__init__(name="Float32x8")


class Mask8(types.Type):
    """Numba type of eight truth values, one a lane: all bits of an int32 set, or none, as CPUs compare."""

    def __init__(self) -> None:
        super().__init__(name="Mask8")


f32x8 = Float32x8()
mask8 = Mask8()


@register_model(Float32x8)
class _Float32x8Model(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _VECTOR)


@register_model(Mask8)
class _Mask8Model(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _INTS)


def _helper(codegen: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function that kernels call from one that numba calls with a typing context in front."""
    return intrinsic(codegen)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_VECTOR, [ir.Constant(_FLOAT, float(value))] * LANES)


def _broadcast(builder, scalar, vector_type):
    first = builder.insert_element(ir.Constant(vector_type, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(_INTS, [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(vector_type, ir.Undefined), zeros)


def _call(builder, name: str, result, *args):
    """Call an LLVM intrinsic such as ``llvm.fma.v8f32``."""
    function_type = ir.FunctionType(result, [arg.type for arg in args])
    function = builder.module.globals.get(name) or ir.Function(builder.module, function_type, name)
    return builder.call(function, args)


def _register_operator(python_operator, result, emit) -> None:
    template = type(f"_{python_operator.__name__}", (ConcreteTemplate,), {"cases": [signature(result, f32x8, f32x8)]})
    register: Any = infer_global(python_operator)
    register(template)
    lower_builtin(python_operator, f32x8, f32x8)(lambda context, builder, sig, args: emit(builder, *args))


_register_operator(operator.add, f32x8, lambda builder, a, b: builder.fadd(a, b))
_register_operator(operator.sub, f32x8, lambda builder, a, b: builder.fsub(a, b))
_register_operator(operator.mul, f32x8, lambda builder, a, b: builder.fmul(a, b))
_register_operator(operator.truediv, f32x8, lambda builder, a, b: builder.fdiv(a, b))
_register_operator(operator.le, mask8, lambda builder, a, b: builder.sext(builder.fcmp_ordered("<=", a, b), _INTS))
_register_operator(operator.lt, mask8, lambda builder, a, b: builder.sext(builder.fcmp_ordered("<", a, b), _INTS))


@_helper
def splat(typingctx, value):
    """All lanes equal to one float32."""

    def codegen(context, builder, sig, args):
        scalar = context.cast(builder, args[0], sig.args[0], types.float32)
        return _broadcast(builder, scalar, _VECTOR)

    return f32x8(value), codegen


@_helper
def lane_numbers(typingctx):
    """The vector 0, 1, ... 7."""

    def codegen(context, builder, sig, args):
        return ir.Constant(_VECTOR, [ir.Constant(_FLOAT, float(i)) for i in range(LANES)])

    return f32x8(), codegen


def _address(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@_helper
def load(typingctx, array, index):
    """Eight consecutive elements of a contiguous float32 array (any alignment, no bounds check)."""

    def codegen(context, builder, sig, args):
        at = context.cast(builder, args[1], sig.args[1], types.intp)
        return builder.load(_address(context, builder, sig.args[0], args[0], at), align=4)

    return f32x8(array, index), codegen


@_helper
def store(typingctx, array, index, value):
    """Write eight consecutive elements of a contiguous float32 array."""

    def codegen(context, builder, sig, args):
        at = context.cast(builder, args[1], sig.args[1], types.intp)
        builder.store(args[2], _address(context, builder, sig.args[0], args[0], at), align=4)
        return context.get_dummy_value()

    return types.void(array, index, f32x8), codegen


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
        return _call(builder, "llvm.fma.v8f32", _VECTOR, *args)

    return f32x8(f32x8, f32x8, f32x8), codegen


@_helper
def fnma(typingctx, a, b, c):
    """c - a * b with one rounding."""

    def codegen(context, builder, sig, args):
        return _call(builder, "llvm.fma.v8f32", _VECTOR, builder.fneg(args[0]), args[1], args[2])

    return f32x8(f32x8, f32x8, f32x8), codegen


@_helper
def square_root(typingctx, a):
    """The square root of each lane, NaN below zero."""

    def codegen(context, builder, sig, args):
        return _call(builder, "llvm.sqrt.v8f32", _VECTOR, *args)

    return f32x8(f32x8), codegen


@_helper
def lesser(typingctx, a, b):
    """The smaller of a and b in each lane (b where a is NaN)."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered("<", *args), *args)

    return f32x8(f32x8, f32x8), codegen


@_helper
def magnitude(typingctx, a):
    """|a| in each lane."""

    def codegen(context, builder, sig, args):
        return _call(builder, "llvm.fabs.v8f32", _VECTOR, *args)

    return f32x8(f32x8), codegen


@_helper
def select(typingctx, mask, if_true, if_false):
    """if_true where the mask holds, if_false elsewhere; what is not chosen may be NaN."""

    def codegen(context, builder, sig, args):
        is_set = builder.icmp_signed("<", args[0], ir.Constant(_INTS, [0] * LANES))
        return builder.select(is_set, args[1], args[2])

    return f32x8(mask8, f32x8, f32x8), codegen


@_helper
def both(typingctx, first, second):
    """The mask of the lanes where both hold."""

    def codegen(context, builder, sig, args):
        return builder.and_(*args)

    return mask8(mask8, mask8), codegen


@_helper
def any_lane(typingctx, mask):
    """Whether the mask holds in at least one lane."""

    def codegen(context, builder, sig, args):
        bits = ir.IntType(32 * LANES)
        return builder.icmp_unsigned("!=", builder.bitcast(args[0], bits), ir.Constant(bits, 0))

    return types.boolean(mask8), codegen


@_helper
def mask_bits(typingctx, mask):
    """The mask as the lowest eight bits of a uint64, lane 0 the lowest."""

    def codegen(context, builder, sig, args):
        is_set = builder.icmp_signed("<", args[0], ir.Constant(_INTS, [0] * LANES))
        return builder.zext(builder.bitcast(is_set, ir.IntType(LANES)), ir.IntType(64))

    return types.uint64(mask8), codegen


@_helper
def lowest_bit(typingctx, bits):
    """Position of the lowest set bit of a uint64 other than 0."""

    def codegen(context, builder, sig, args):
        function_type = ir.FunctionType(ir.IntType(64), [ir.IntType(64), ir.IntType(1)])
        name = "llvm.cttz.i64"
        function = builder.module.globals.get(name) or ir.Function(builder.module, function_type, name)
        return builder.call(function, (args[0], ir.Constant(ir.IntType(1), 1)))

    return types.int64(types.uint64), codegen


@_helper
def lane_sums(typingctx, a, b, c, d, e, f, g, h):
    """The sums of the lanes of eight vectors, in this order; each is added up as in :func:`lane_sum`."""

    def codegen(context, builder, sig, args):
        def shuffled(first, second, order):
            return builder.shuffle_vector(first, second, ir.Constant(_INTS, order))

        def halved(first, second, width):
            """Lanes ``width`` apart added; the first vector's in one half of each group, the second's in the other."""
            group = [i for i in range(LANES) if i % (2 * width) < width]
            low = [i + j for i in group[::width] for j in (*range(width), *range(LANES, LANES + width))]
            return builder.fadd(shuffled(first, second, low), shuffled(first, second, [i + width for i in low]))

        fours = [halved(args[i], args[i + 4], 4) for i in range(4)]  # a e, b f, c g, d h
        twos = [halved(fours[i], fours[i + 2], 2) for i in range(2)]  # a c e g, b d f h
        return halved(twos[0], twos[1], 1)

    return f32x8(*([f32x8] * 8)), codegen


@_helper
def lane_sum(typingctx, a):
    """Sum of the lanes, always as ((0+4)+(2+6)) + ((1+5)+(3+7))."""

    def codegen(context, builder, sig, args):
        vector = args[0]
        for half in (4, 2, 1):
            order = [ir.Constant(ir.IntType(32), (i + half) % LANES) for i in range(LANES)]
            vector = builder.fadd(vector, builder.shuffle_vector(vector, vector, ir.Constant(_INTS, order)))
        return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    return types.float32(f32x8), codegen


@_helper
def exp2(typingctx, a):
    """2**a by a degree-5 polynomial on the fractional part; relative error 2e-7 for a in [-126, 127]."""

    def codegen(context, builder, sig, args):
        whole = _call(builder, "llvm.rint.v8f32", _VECTOR, args[0])
        fraction = builder.fsub(args[0], whole)
        value = _constant(_EXP2_COEFFICIENTS[-1])
        for coefficient in _EXP2_COEFFICIENTS[-2::-1]:
            value = _call(builder, "llvm.fma.v8f32", _VECTOR, value, fraction, _constant(coefficient))
        shift = ir.Constant(_INTS, [23] * LANES)
        exponent = builder.shl(builder.fptosi(whole, _INTS), shift)
        return builder.bitcast(builder.add(builder.bitcast(value, _INTS), exponent), _VECTOR)

    return f32x8(f32x8), codegen
