# mypy: allow-untyped-decorators, allow-untyped-defs
"""What kernels do with rows: load, blend, spread, softmax. Each is unrolled for its shape at compile time.

Shapes: N pixels, V vertices, S columns, E corners of a simplex.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as numba_intrinsic

from tagseg.refine.lanes import FLOAT, INT, CornersType, Emit, RowType, emitting, split, vectors_of

intrinsic: Any = numba_intrinsic  # numba types the function that describes it, not the one that kernels call
GROUP = 16  # lanes of one step of the softmax


def grouped_pixels(columns: int) -> int:
    """Pixels that fill the vectors of one step of the softmax."""
    return GROUP // columns if GROUP % columns == 0 else 1


@intrinsic
def group(_context: Any, shape: Any) -> Any:
    """Pixels that `softmax` handles in one step."""
    return types.intp(shape), emitting(lambda _: ir.IntType(64)(grouped_pixels(shape.columns)))


@intrinsic
def zero_row(_context: Any, shape: Any) -> Any:
    """A row of zeros."""
    return RowType(shape.columns)(shape), emitting(
        lambda emit: emit.pack([ir.Constant(v, [0.0] * v.count) for v in vectors_of(shape.columns)])
    )


@intrinsic
def zero_corners(_context: Any, shape: Any) -> Any:
    """Corners of zeros."""
    return CornersType(shape.columns, shape.corners)(shape), emitting(
        lambda emit: emit.pack([ir.Constant(v, [0.0] * v.count) for v in vectors_of(shape.columns) * shape.corners])
    )


@intrinsic
def load(_context: Any, shape: Any, array_NS: Any, row: Any) -> Any:
    """array_NS[row]."""
    return RowType(shape.columns)(shape, array_NS, row), emitting(
        lambda emit: emit.pack(emit.load(emit.data(1), emit.integer(2), shape.columns))
    )


@intrinsic
def store(_context: Any, array_NS: Any, row: Any, value: Any) -> Any:
    """array_NS[row] = value."""
    return types.none(array_NS, row, value), emitting(
        lambda emit: emit.store(emit.data(0), emit.integer(1), value.columns, emit.vectors(2))
    )


@intrinsic
def prefetch(_context: Any, table_M2: Any, place: Any) -> Any:
    """Begin to fetch table_M2[place] (int64) into the cache."""

    def make(emit: Emit) -> None:
        pointer = emit.builder.bitcast(emit.address(emit.data(0), emit.integer(1), 2, 0), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, INT, INT, INT])
        function = cgutils.get_or_insert_function(emit.builder.module, kind, "llvm.prefetch.p0")
        emit.builder.call(function, [pointer, INT(0), INT(3), INT(1)])

    return types.none(table_M2, place), emitting(make)


@intrinsic
def add(_context: Any, a: Any, b: Any) -> Any:
    """Sum of two rows."""

    def make(emit: Emit) -> Any:
        return emit.pack([emit.builder.fadd(x, y) for x, y in zip(emit.vectors(0), emit.vectors(1), strict=True)])

    return a(a, b), emitting(make)


@intrinsic
def add_scaled(_context: Any, factor: Any, a: Any, b: Any) -> Any:
    """Rows: factor * a + b."""

    def make(emit: Emit) -> Any:
        pairs = zip(emit.vectors(1), emit.vectors(2), strict=True)
        return emit.pack([emit.fma(emit.splat(emit.args[0], x.type.count), x, y) for x, y in pairs])

    return a(types.float32, a, b), emitting(make)


@intrinsic
def gather(_context: Any, shape: Any, array_VS: Any, vertex_NE: Any, simplex: Any) -> Any:
    """Rows of the vertices of a simplex."""

    def make(emit: Emit) -> Any:
        base, indices, s = emit.data(1), emit.data(2), emit.integer(3)
        vectors: list[Any] = []
        for k in range(shape.corners):
            vectors += emit.load(base, emit.vertex(indices, s, shape.corners, k), shape.columns)
        return emit.pack(vectors)

    return CornersType(shape.columns, shape.corners)(shape, array_VS, vertex_NE, simplex), emitting(make)


@intrinsic
def blend(_context: Any, row: Any, corners: Any, weight_NE: Any, pixel: Any) -> Any:
    """Row + the sum of the corners times their weights: what a pixel reads."""

    def make(emit: Emit) -> Any:
        out, vectors, weights, p = emit.vectors(0), emit.vectors(1), emit.data(2), emit.integer(3)
        for k in range(corners.corners):
            w = emit.weight(weights, p, corners.corners, k)
            for i, old in enumerate(out):
                out[i] = emit.fma(emit.splat(w, old.type.count), vectors[k * len(out) + i], old)
        return emit.pack(out)

    return row(row, corners, weight_NE, pixel), emitting(make)


@intrinsic
def spread(_context: Any, corners: Any, weight_NE: Any, pixel: Any, row: Any) -> Any:
    """Corners + the row times their weights: what a pixel gives."""

    def make(emit: Emit) -> Any:
        vectors, weights, p, rows = emit.vectors(0), emit.data(1), emit.integer(2), emit.vectors(3)
        for k in range(corners.corners):
            w = emit.weight(weights, p, corners.corners, k)
            for i, part in enumerate(rows):
                j = k * len(rows) + i
                vectors[j] = emit.fma(emit.splat(w, part.type.count), part, vectors[j])
        return emit.pack(vectors)

    return corners(corners, weight_NE, pixel, row), emitting(make)


@intrinsic
def add_corners(_context: Any, array_VS: Any, vertex_NE: Any, simplex: Any, corners: Any) -> Any:
    """Add rows to the vertices of a simplex."""

    def make(emit: Emit) -> None:
        base, indices, s, vectors = emit.data(0), emit.data(1), emit.integer(2), emit.vectors(3)
        count = len(split(corners.columns))
        for k in range(corners.corners):
            vertex = emit.vertex(indices, s, corners.corners, k)
            old = emit.load(base, vertex, corners.columns)
            new = [emit.builder.fadd(a, b) for a, b in zip(old, vectors[k * count : (k + 1) * count], strict=True)]
            emit.store(base, vertex, corners.columns, new)

    return types.none(array_VS, vertex_NE, simplex, corners), emitting(make)


@intrinsic
def blend_packed(_context: Any, row: Any, array_VS: Any, packed_N8: Any, pixel: Any) -> Any:
    """Row + the sum of a pixel's three vertices times their weights, packed as int32, int32, int32, float x 3 ..."""

    def make(emit: Emit) -> Any:
        out, base, packed, p = emit.vectors(0), emit.data(1), emit.data(2), emit.integer(3)
        for k in range(3):
            w = emit.weight(packed, p, 8, 3 + k)
            rows = emit.load(base, emit.packed_vertex(packed, p, k), row.columns)
            out = [emit.fma(emit.splat(w, old.type.count), new, old) for new, old in zip(rows, out, strict=True)]
        return emit.pack(out)

    return row(row, array_VS, packed_N8, pixel), emitting(make)


@intrinsic
def spread_packed(_context: Any, array_VS: Any, packed_N8: Any, pixel: Any, row: Any) -> Any:
    """Add a row times their weights to a pixel's three packed vertices."""

    def make(emit: Emit) -> None:
        base, packed, p, rows = emit.data(0), emit.data(1), emit.integer(2), emit.vectors(3)
        for k in range(3):
            vertex = emit.packed_vertex(packed, p, k)
            w = emit.weight(packed, p, 8, 3 + k)
            old = emit.load(base, vertex, row.columns)
            new = [emit.fma(emit.splat(w, a.type.count), a, b) for a, b in zip(rows, old, strict=True)]
            emit.store(base, vertex, row.columns, new)

    return types.none(array_VS, packed_N8, pixel, row), emitting(make)


@intrinsic
def softmax(_context: Any, shape: Any, message_BS: Any, i: Any, prior_NS: Any, p: Any) -> Any:
    """Turn the messages of `group(shape)` pixels, from row i on, into marginals: prior * 2^message over its sum.

    The priors are read from row p on.
    """

    def make(emit: Emit) -> None:
        columns, pixels = shape.columns, grouped_pixels(shape.columns)
        base, row, priors, first, b = emit.data(1), emit.integer(2), emit.data(3), emit.integer(4), emit.builder
        sizes = [GROUP] if pixels > 1 else split(columns)
        messages, prior = emit.load(base, row, columns, sizes), emit.load(priors, first, columns, sizes)
        values = [b.fmul(x, emit.exp2(m)) for x, m in zip(prior, messages, strict=True)]
        if pixels > 1:
            marginals = [b.fdiv(values[0], emit.sum_lanes(values[0], columns))]
        else:
            inverse = b.fdiv(FLOAT(1.0), emit.total(values))
            marginals = [b.fmul(v, emit.splat(inverse, v.type.count)) for v in values]
        emit.store(base, row, columns, marginals)

    return types.none(shape, message_BS, i, prior_NS, p), emitting(make)
