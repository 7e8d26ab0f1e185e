"""Formulas of one variable, from text to arithmetic on arrays, without ever running the text.

A formula is parsed with `ast` and every node is checked against a whitelist; what passes becomes a tree of numpy calls.
There are no names but those below, no attributes, subscripts, comparisons, strings or keyword arguments:

==============  ====================================================================
variable        ``x``, the raw value
numbers         integers and decimals, all float64
constants       ``pi``, ``e``, and the profile's own
operators       ``+ - * / **``, unary ``+ -``, brackets
one argument    ``sqrt exp log log10 abs sin cos tan asin acos atan floor ceil``
two arguments   ``atan2``
two to eight    ``min max``
==============  ====================================================================

``log`` is natural, angles are radians. Infinite *intermediate* values are followed as IEEE 754 has them (so that
``1 / (1 + exp(x))`` is 0 far to the right); an infinite result is a failure. Where a function or operator has no value
(division by zero, the root of a negative, the logarithm of zero), the reading has failed, whatever is done with that
value afterwards.

numpy chooses the code for ``exp``, ``sin`` and their like by the processor, so that two machines may differ in the last
bit: the physical values of formulas are sent, not derived again (`shared.conversion.ProfileTable.derivable`).
"""

from __future__ import annotations

import ast
import keyword
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shared.errors import ProfileError
from shared.readings import Float64
from shared.tables import nearest_hint

LENGTH_MAX = 1_000
"""Characters of an expression."""
NODES_MAX = 200
DEPTH_MAX = 30
CONSTANTS_MAX = 50
ARGUMENTS_MAX = 8

Bool: TypeAlias = NDArray[np.bool_]
Value: TypeAlias = Any
"""float64, an array (n,) or a scalar where nothing depends on x."""
Node: TypeAlias = Callable[[Float64, Bool], Value]
"""Evaluates to a value, and marks in the mask the rows that have none."""
Operation: TypeAlias = Callable[..., Value]
Undefined: TypeAlias = Callable[..., Any]
"""Of the same arguments as its operation: true where that has no value."""


def _power_undefined(base: Value, exponent: Value) -> Value:
    negative = (base < 0) & np.isfinite(exponent) & (exponent != np.floor(exponent))
    return negative | ((base == 0) & (exponent < 0))


_BINARY: dict[type[ast.operator], tuple[Operation, Undefined | None]] = {
    ast.Add: (np.add, None),
    ast.Sub: (np.subtract, None),
    ast.Mult: (np.multiply, None),
    ast.Div: (np.divide, lambda _, divisor: divisor == 0),
    ast.Pow: (np.power, _power_undefined),
}
_UNARY: dict[type[ast.unaryop], Operation] = {ast.UAdd: np.positive, ast.USub: np.negative}
_ONE_ARGUMENT: dict[str, tuple[Operation, Undefined | None]] = {
    "sqrt": (np.sqrt, lambda x: x < 0),
    "exp": (np.exp, None),
    "log": (np.log, lambda x: x <= 0),
    "log10": (np.log10, lambda x: x <= 0),
    "abs": (np.abs, None),
    "sin": (np.sin, None),
    "cos": (np.cos, None),
    "tan": (np.tan, None),
    "asin": (np.arcsin, lambda x: np.abs(x) > 1),
    "acos": (np.arccos, lambda x: np.abs(x) > 1),
    "atan": (np.arctan, None),
    "floor": (np.floor, None),
    "ceil": (np.ceil, None),
}
_TWO_ARGUMENTS: dict[str, Operation] = {"atan2": np.arctan2}
_SEVERAL_ARGUMENTS: dict[str, Operation] = {"min": np.minimum, "max": np.maximum}

FUNCTIONS = (*_ONE_ARGUMENT, *_TWO_ARGUMENTS, *_SEVERAL_ARGUMENTS)
CONSTANTS = {"pi": math.pi, "e": math.e}
VARIABLE = "x"


@dataclass(frozen=True, slots=True)
class Formula:
    """A checked expression, ready to be evaluated."""

    expression: str
    evaluate_node: Node

    def evaluate(self, x: Float64) -> tuple[Float64, Bool]:
        """The formula's values.

        Args:
            x: float64 (n,)

        Returns: float64 (n,), not finite where the result overflows; bool (n,), true where there is no value.
        """
        undefined = np.zeros(x.shape, np.bool_)
        with np.errstate(all="ignore"):
            value = self.evaluate_node(x, undefined)
        return np.array(np.broadcast_to(value, x.shape), np.float64), undefined


def parse_formula(expression: str, constants: Mapping[str, float]) -> Formula:
    """Check an expression and make it ready.

    Args:
        constants: finite values of names that the expression may use beside its variable `x`.

    Raises: ProfileError for anything outside the whitelist and its limits, naming what and where.
    """
    if len(expression) > LENGTH_MAX:
        raise ProfileError(f"formula of {len(expression)} characters, at most {LENGTH_MAX} are read")
    if not expression.isascii():
        raise ProfileError("formula contains characters other than ASCII")
    names = {**_checked_constants(constants), **CONSTANTS}
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it is nested too deeply or not text"
        raise ProfileError(f"formula cannot be read: {reason}") from None
    return Formula(expression, _Compiler(names).compile(tree.body, 1))


def _checked_constants(constants: Mapping[str, float]) -> dict[str, float]:
    if len(constants) > CONSTANTS_MAX:
        raise ProfileError(f"{len(constants)} constants, at most {CONSTANTS_MAX} are taken")
    for name in constants:
        if not (isinstance(name, str) and name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
            raise ProfileError(f"constant {name!r} is not a name of letters, digits and underscores")
        if name == VARIABLE or name in CONSTANTS or name in FUNCTIONS:
            raise ProfileError(f"constant `{name}` has a name that already means something", hint="choose another one")
    return dict(constants)


class _Compiler:
    """Turns checked nodes into numpy calls; one instance an expression, counting what it meets."""

    def __init__(self, names: Mapping[str, float]) -> None:
        self._names = names
        self._nodes = 0

    def compile(self, node: ast.expr, depth: int) -> Node:
        self._nodes += 1
        if self._nodes > NODES_MAX or depth > DEPTH_MAX:
            raise ProfileError(f"formula is too large: at most {NODES_MAX} terms, nested at most {DEPTH_MAX} deep")
        match node:
            case ast.Constant(value=value):
                return _number(value, node)
            case ast.Name(id=name):
                return self._name(name)
            case ast.UnaryOp(op=operator, operand=operand) if type(operator) in _UNARY:
                return _apply(_UNARY[type(operator)], None, [self.compile(operand, depth + 1)])
            case ast.BinOp(left=left, op=binary, right=right) if type(binary) in _BINARY:
                operation, undefined = _BINARY[type(binary)]
                return _apply(operation, undefined, [self.compile(side, depth + 1) for side in (left, right)])
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(name, arguments, depth)
        raise ProfileError(
            f"formula may not contain `{_excerpt(node)}` (column {node.col_offset + 1})",
            hint="allowed are x, numbers, constants, + - * / **, and functions such as sqrt(x)",
        )

    def _name(self, name: str) -> Node:
        if name == VARIABLE:
            return lambda x, _: x
        if name in self._names:
            value = np.float64(self._names[name])
            return lambda _x, _: value
        known = (VARIABLE, *self._names, *FUNCTIONS)
        raise ProfileError(f"formula uses the unknown name `{name}`", hint=nearest_hint(name, known))

    def _call(self, name: str, arguments: list[ast.expr], depth: int) -> Node:
        least, most = _arity(name)
        if not least <= len(arguments) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise ProfileError(f"formula gives `{name}` {len(arguments)} arguments, it takes {wanted}")
        nodes = [self.compile(argument, depth + 1) for argument in arguments]
        if name in _ONE_ARGUMENT:
            return _apply(*_ONE_ARGUMENT[name], nodes)
        if name in _TWO_ARGUMENTS:
            return _apply(_TWO_ARGUMENTS[name], None, nodes)
        fold = _SEVERAL_ARGUMENTS[name]
        return _apply(lambda *values: reduce(fold, values), None, nodes)


def _arity(name: str) -> tuple[int, int]:
    if name in _ONE_ARGUMENT:
        return 1, 1
    if name in _TWO_ARGUMENTS:
        return 2, 2
    if name in _SEVERAL_ARGUMENTS:
        return 2, ARGUMENTS_MAX
    raise ProfileError(f"formula calls the unknown function `{name}`", hint=nearest_hint(name, FUNCTIONS))


def _number(value: object, node: ast.expr) -> Node:
    if type(value) not in (int, float):
        raise ProfileError(f"formula may not contain `{_excerpt(node)}` (column {node.col_offset + 1})")
    try:
        number = np.float64(float(value))  # type: ignore[arg-type]
    except OverflowError:
        number = np.float64(math.inf)
    if not math.isfinite(number):
        raise ProfileError(f"formula contains the number `{_excerpt(node)}`, which is too large")
    return lambda _x, _: number


def _apply(operation: Operation, undefined: Undefined | None, nodes: list[Node]) -> Node:
    if undefined is None:
        return lambda x, mask: operation(*[node(x, mask) for node in nodes])

    def marking(x: Float64, mask: Bool) -> Value:
        values = [node(x, mask) for node in nodes]
        np.logical_or(mask, undefined(*values), out=mask)
        return operation(*values)

    return marking


def _excerpt(node: ast.expr) -> str:
    try:
        text = ast.unparse(node)
    except (RecursionError, ValueError):
        text = type(node).__name__
    return text if len(text) <= 40 else f"{text[:37]}..."
