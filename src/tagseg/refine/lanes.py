# mypy: allow-untyped-decorators
"""Rows of floats as SIMD vectors inside numba kernels.

numba has no vector type, and LLVM doesn't find the vectors of these loops by itself. Here a `Row` holds the columns of
one pixel or vertex as LLVM vectors of 16, 8, 4, 2 or 1 lanes, and `Corners` the rows of the E vertices of a simplex;
LLVM turns them into what the machine has (AVX-512, AVX2, NEON ...). A kernel gets a `Shape` as an argument, and numba
compiles it once for each shape.

Shapes: N pixels or vertices, S columns, E corners of a simplex. Arrays are float32 or int32, rows contiguous.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import NativeValue, models, register_model, typeof_impl, unbox

FLOAT, INT = ir.FloatType(), ir.IntType(32)
LANES = (16, 8, 4, 2, 1)


class Shape:
    """What a kernel is compiled for.

    columns: of a row. corners: of a simplex.
    """

    def __init__(self, columns: int, corners: int) -> None:
        self.columns, self.corners = columns, corners


class ShapeType(types.Type):
    """numba's type of a `Shape`; it has no value at run time."""

    def __init__(self, columns: int, corners: int) -> None:
        self.columns, self.corners = columns, corners
        super().__init__(name=f"Shape({columns}, {corners})")


class RowType(types.Type):
    """The columns of one pixel or vertex, in registers."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        super().__init__(name=f"Row({columns})")


class CornersType(types.Type):
    """The rows of a simplex's vertices, in registers."""

    def __init__(self, columns: int, corners: int) -> None:
        self.columns, self.corners = columns, corners
        super().__init__(name=f"Corners({columns}, {corners})")


def split(columns: int) -> list[int]:
    """Widths of the vectors that make up a row."""
    sizes = []
    for size in LANES:
        while columns >= size:
            sizes.append(size)
            columns -= size
    return sizes


def vectors_of(columns: int) -> list[ir.Type]:
    """LLVM's types of a row."""
    return [ir.VectorType(FLOAT, size) for size in split(columns)]


register_model(ShapeType)(models.OpaqueModel)


@register_model(RowType)
class _RowModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: RowType) -> None:
        super().__init__(manager, kind, ir.LiteralStructType(vectors_of(kind.columns)))


@register_model(CornersType)
class _CornersModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: CornersType) -> None:
        super().__init__(manager, kind, ir.LiteralStructType(vectors_of(kind.columns) * kind.corners))


@typeof_impl.register(Shape)
def _typeof(value: Shape, _context: Any) -> ShapeType:
    return ShapeType(value.columns, value.corners)


@unbox(ShapeType)
def _unbox(_kind: ShapeType, _obj: Any, c: Any) -> NativeValue:
    return NativeValue(c.context.get_dummy_value())


class Emit:
    """Emits the instructions of one intrinsic: arguments unpacked, pointers computed."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.context, self.builder, self.kinds, self.args = context, builder, signature.args, args

    def data(self, i: int) -> Any:
        """Pointer to an array's data."""
        return self.context.make_array(self.kinds[i])(self.context, self.builder, self.args[i]).data

    def integer(self, i: int) -> Any:
        """An index as a 64-bit integer."""
        return self.context.cast(self.builder, self.args[i], self.kinds[i], types.intp)

    def vectors(self, i: int) -> list[Any]:
        """The vectors of a row or of corners."""
        return [self.builder.extract_value(self.args[i], k) for k in range(len(self.args[i].type.elements))]

    def pack(self, vectors: list[Any]) -> Any:
        """The way back."""
        value = ir.Constant(ir.LiteralStructType([v.type for v in vectors]), ir.Undefined)
        for k, vector in enumerate(vectors):
            value = self.builder.insert_value(value, vector, k)
        return value

    def address(self, base: Any, row: Any, columns: int, start: int) -> Any:
        """Address of array[row, start] in an array of so many columns."""
        index = self.builder.add(self.builder.mul(row, row.type(columns)), row.type(start))
        return self.builder.gep(base, [index], inbounds=True)

    def load(self, base: Any, row: Any, columns: int, sizes: list[int] | None = None) -> list[Any]:
        """The vectors of a row of an array."""
        out, start = [], 0
        for size in sizes or split(columns):
            pointer = self.address(base, row, columns, start)
            pointer = self.builder.bitcast(pointer, ir.VectorType(FLOAT, size).as_pointer())
            out.append(self.builder.load(pointer, align=4))
            start += size
        return out

    def store(self, base: Any, row: Any, columns: int, vectors: list[Any]) -> None:
        """Write the vectors of a row."""
        start = 0
        for vector in vectors:
            pointer = self.builder.bitcast(self.address(base, row, columns, start), vector.type.as_pointer())
            self.builder.store(vector, pointer, align=4)
            start += vector.type.count

    def vertex(self, base: Any, simplex: Any, corners: int, k: int) -> Any:
        """Number of a simplex's vertex."""
        return self.builder.sext(self.builder.load(self.address(base, simplex, corners, k)), ir.IntType(64))

    def packed_vertex(self, base: Any, pixel: Any, k: int) -> Any:
        """Number of a pixel's vertex in rows of 8 words."""
        pointer = self.builder.bitcast(self.address(base, pixel, 8, k), INT.as_pointer())
        return self.builder.sext(self.builder.load(pointer), ir.IntType(64))

    def weight(self, base: Any, pixel: Any, corners: int, k: int) -> Any:
        """Weight of a pixel's corner."""
        return self.builder.load(self.address(base, pixel, corners, k))

    def shuffle(self, vector: Any, lanes: list[int]) -> Any:
        """A vector of the given lanes."""
        undefined = ir.Constant(vector.type, ir.Undefined)
        return self.builder.shuffle_vector(vector, undefined, ir.Constant(ir.VectorType(INT, len(lanes)), lanes))

    def splat(self, scalar: Any, size: int) -> Any:
        """A vector with the scalar in all lanes."""
        one = self.builder.insert_element(ir.Constant(ir.VectorType(FLOAT, 1), ir.Undefined), scalar, INT(0))
        return self.shuffle(one, [0] * size)

    def constant(self, like: Any, number: float) -> Any:
        """A vector with the number in all lanes."""
        return ir.Constant(like.type, [number] * like.type.count)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """Product a * b plus c, in one instruction where the machine has it, in two where not."""
        return self.builder.fadd(self.builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))

    def sum_lanes(self, vector: Any, group: int) -> Any:
        """Every lane becomes the sum of its group of neighboring lanes."""
        step = 1
        while step < group:
            other = self.shuffle(vector, [lane ^ step for lane in range(vector.type.count)])
            vector = self.builder.fadd(vector, other)
            step *= 2
        return vector

    def total(self, vectors: list[Any]) -> Any:
        """Sum of all lanes of all vectors, as a scalar; the widest come first."""
        total = vectors[0]
        for vector in [*vectors[1:], None]:
            size = 1 if vector is None else vector.type.count
            while total.type.count > size:
                half = total.type.count // 2
                low, high = self.shuffle(total, list(range(half))), self.shuffle(total, list(range(half, 2 * half)))
                total = self.builder.fadd(low, high)
            total = total if vector is None else self.builder.fadd(total, vector)
        return self.builder.extract_element(total, INT(0))

    def exp2(self, x: Any) -> Any:
        """2^x for x <= 126, relative error 1e-7: a polynomial and the exponent's bits, no branch and no denormal."""
        ints = ir.VectorType(INT, x.type.count)
        low = self.constant(x, -125.0)
        x = self.builder.select(self.builder.fcmp_ordered("<", x, low), low, x)
        magic = self.constant(x, 1.5 * 2**23)  # adding it leaves the nearest integer in the low bits
        shifted = self.builder.fadd(x, magic)
        rest = self.builder.fsub(x, self.builder.fsub(shifted, magic))
        value = self.constant(x, EXP2[-1])
        for coefficient in EXP2[-2::-1]:
            value = self.fma(value, rest, self.constant(x, coefficient))
        exponent = self.builder.shl(self.builder.bitcast(shifted, ints), ir.Constant(ints, [23] * ints.count))
        return self.builder.bitcast(self.builder.add(self.builder.bitcast(value, ints), exponent), x.type)


# 2^f on [-1/2, 1/2], lowest power first: the least largest relative error, exact at 0
EXP2 = (1.0, 0.693147004, 0.240222424, 0.0555073358, 0.00967151299, 0.00132647273)


def emitting(make: Callable[[Emit], Any]) -> Callable[..., Any]:
    """Code generator of an intrinsic; `make` returns the value, or None for none."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = make(Emit(context, builder, signature, args))
        return context.get_dummy_value() if value is None else value

    return codegen
