r"""The form of an answer by algebra: what all writings of one value share, and no other value.

math-verify (latex2sympy) reads the LaTeX; numbers become exact fractions, or 40 digits where they
are irrational; an expression with symbols is what it evaluates to at fixed points, one for each
symbol's name; sets, tuples, intervals, matrices and relations are made of these. Two expressions
that agree there to 30 digits are equal (with probability one, as for polynomials by Schwartz and
Zippel), so equality is symmetric and transitive, and answers need not be compared in pairs.

This runs in the processes of `judges`, which may be ended at any time.
"""

import hashlib
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

import mpmath
import sympy

from lowrank.grading.forms import OTHER, Form, UnreadableError, ordered
from lowrank.grading.numerals import LONG_DECIMAL, Number

DIGITS = 40  # of an irrational number
SAME = 30  # digits that must agree
PLACES = 4  # at which what has symbols is evaluated: all positive, all negative, of either sign

_CONNECTIVE = re.compile(
    r"[\s,;]*(?:\\text\s?\{[\s,]*(?:or|and)[\s,]*\}|(?<![A-Za-z\\])(?:or|and)(?![A-Za-z])"
    r"|\\(?:lor|land|vee|wedge)(?![A-Za-z])|\\&|;)[\s,;]*"
)
_OR = re.compile(r"(?<![A-Za-z])or(?![A-Za-z])|\\lor|\\vee|\\cup")
_BUILDER = re.compile(r"\\\{\s?[A-Za-z]\s?(?:\\in\s?\\mathbb\s?\{R\}\s?)?[:|](.*)\\\}")
_MIXED = re.compile(
    r"(?<![\d.,^_}\w])(\d+)(?:\s?(\\frac\{\d+\}\{\d+\})|\s(\d+\s?/\s?\d+))(?![\d!^])"
)


def form(answer: str) -> Form:
    """The form of a tidy answer; UnreadableError where math-verify makes nothing of it.

    OTHER stands for what it reads and this module has no form for.
    """
    whole = parse(answer)
    if isinstance(whole, sympy.FiniteSet) and _relations(whole.args):
        found = _several(list(whole.args), union=bool(_OR.search(answer)))
    else:
        found = _form(whole)
    return found if _known(found) else OTHER


def _known(form: Form) -> bool:
    """Whether no part of it is without a form."""
    return not isinstance(form, tuple) or (form != OTHER and all(map(_known, form)))


def parse(answer: str) -> Any:
    """What latex2sympy makes of an answer."""
    from math_verify import parse as read

    if builder := _BUILDER.fullmatch(answer):  # {x : x > 2}
        answer = builder[1]
    answer = _CONNECTIVE.sub(", ", answer)
    answer = _MIXED.sub(lambda found: f"({found[1]}+{found[2] or found[3]})", answer)
    found = read(rf"\boxed{{{answer}}}", _targets(), parsing_timeout=None)
    if not found or isinstance(found[0], str):
        raise UnreadableError
    return found[0]


@lru_cache(maxsize=1)
def _targets() -> list[Any]:
    """LaTeX alone, and units left in place: taking any number out of a text that it cannot parse
    is how math-verify reads 7 in `3, 5, , 7`; taking off units how it reads 4 in 4t."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig

    config = NormalizationConfig(basic_latex=True, malformed_operators=True, nits=True, boxed="all")
    return [LatexExtractionConfig(normalization_config=config)]


def same(first: str, second: str) -> bool:
    """What math-verify itself says of two answers; it is not symmetric, equality is."""
    from math_verify import verify

    parsed = [parse(first)], [parse(second)]
    return any(verify(a, b, timeout_seconds=None) for a, b in (parsed, parsed[::-1]))


# --- forms of what sympy has ------------------------------------------------------------------


def _form(whole: Any) -> Form:
    match whole:
        case sympy.Eq() if isinstance(whole.rhs, (sympy.Set, sympy.Tuple)):
            return _form(whole.rhs)  # x \in {1, 2}
        case sympy.Interval():
            ends = _form(whole.start), _form(whole.end)
            return "interval", *ends, bool(whole.left_open), bool(whole.right_open)
        case sympy.FiniteSet():
            return _set([_form(part) for part in whole.args])
        case sympy.Union():
            return "union", *ordered([_form(part) for part in whole.args])
        case sympy.Tuple():
            return "tuple", *(_form(part) for part in whole)
        case sympy.Set():
            return _set_form(whole)
        case sympy.MatrixBase():
            return "matrix", *whole.shape, *(_form(part) for part in whole)
        case sympy.core.relational.Relational():
            return _relation(whole)
        case sympy.And():
            return _several(list(getattr(whole, "_unsorted_args", whole.args)), union=False)
        case sympy.logic.boolalg.BooleanAtom():
            return "truth", bool(whole)
        case sympy.Expr():
            return _expression(whole)
    return OTHER


def _set(parts: list[Form]) -> Form:
    """A set of one element is that element."""
    parts = ordered(set(parts))
    return parts[0] if len(parts) == 1 else ("set", *parts)


def _set_form(whole: sympy.Set) -> Form:
    if whole is sympy.S.EmptySet:
        return ("set",)
    if whole is sympy.S.Reals:
        return _form(sympy.Interval(-sympy.oo, sympy.oo))
    done = whole.doit() if not isinstance(whole, sympy.Complement) else _complement(whole)
    if isinstance(done, (sympy.Interval, sympy.FiniteSet, sympy.Union)):
        return _form(done)
    return OTHER


def _complement(whole: sympy.Complement) -> sympy.Set:
    first, second = whole.args
    if first is sympy.S.Reals:
        first = sympy.Interval(-sympy.oo, sympy.oo)
    return sympy.Complement(first, second)


def _expression(whole: sympy.Expr) -> Form:
    if isinstance(whole, sympy.Float):
        digits = re.sub(r"e.*|\D", "", str(whole)).strip("0")
        return Number(Fraction(str(sympy.Rational(str(whole)))), len(digits) >= LONG_DECIMAL)
    exact = _exact(whole)
    if exact.is_Rational:
        return Number(Fraction(int(exact.p), int(exact.q)))
    if exact in (sympy.oo, -sympy.oo, sympy.zoo, sympy.nan):
        return "limit", str(exact)
    exact = _named_functions(exact)
    values = [_value(exact, place) for place in range(PLACES if _symbols(exact) else 1)]
    if None in values:
        return OTHER
    keys = [_key(value) for value in values]
    return ("expression", *keys) if len(set(keys)) > 1 else _constant(values[0])


def _exact(expression: sympy.Expr) -> sympy.Expr:
    """Carried out, with decimals as the fractions that they are."""
    decimals = {part: sympy.Rational(str(part)) for part in expression.atoms(sympy.Float)}
    return expression.xreplace(decimals).doit()


def _constant(value: mpmath.mpc) -> Form:
    real, imaginary = _exactly(value.real), _exactly(value.imag)
    return ("complex", real, imaginary) if imaginary.value else real


def _exactly(value: mpmath.mpf) -> Number:
    """The simple fraction that a value is to all its digits, else its digits."""
    sign, mantissa, exponent, _ = value._mpf_
    fraction = Fraction(int(mantissa)) * Fraction(2) ** int(exponent) * (-1) ** sign
    simple = fraction.limit_denominator(10**6)
    # A tiny number is next to zero and not zero.
    if (simple or not fraction) and abs(fraction - simple) * 10**DIGITS <= max(1, abs(fraction)):
        return Number(simple)
    with mpmath.workdps(DIGITS + 20):
        return Number(Fraction(mpmath.nstr(value, DIGITS)))


def _relation(whole: sympy.core.relational.Relational) -> Form:
    """An equation is its two sides' difference up to a factor, an inequality up to a positive one;
    an inequality in one variable the set of its solutions."""
    if not isinstance(whole, sympy.Eq) and (solved := _solutions([whole], union=False)):
        return solved
    if isinstance(whole, (sympy.Eq, sympy.Ne)):
        kind, difference = type(whole).__name__, whole.lhs - whole.rhs
    else:
        kind = (
            "strict" if isinstance(whole, (sympy.StrictGreaterThan, sympy.StrictLessThan)) else ""
        )
        difference = whole.gts - whole.lts
    exact = _named_functions(_exact(difference))
    found = [_value(exact, place) for place in range(PLACES)]
    values = [value for value in found if value is not None]
    if len(values) < PLACES:
        return OTHER
    with mpmath.workdps(DIGITS + 20):
        scale = values[0] if kind in ("Equality", "Unequality") else abs(values[0])
        if not scale:
            return "relation", kind, "of equals"
        return "relation", kind, *(_key(value / scale) for value in values)


def _relations(parts: Any) -> bool:
    kinds = (sympy.core.relational.Relational, sympy.And)
    return all(isinstance(part, kinds) and not isinstance(part, sympy.Eq) for part in parts)


def _several(parts: list[Any], union: bool) -> Form:
    """Several relations: a chain of equations is its first and last side, inequalities in one
    variable the set of their common solutions (of all their solutions if they have none)."""
    if all(isinstance(part, sympy.Eq) for part in parts):
        return _form(sympy.Eq(parts[0].lhs, parts[-1].rhs, evaluate=False))
    solved = _solutions(parts, union)
    return ("all", *ordered([_form(part) for part in parts])) if solved is None else solved


def _solutions(parts: list[Any], union: bool) -> Form | None:
    """("solutions", variable, set) of inequalities in one variable; None of others."""
    names = {str(symbol) for part in parts for symbol in part.free_symbols}
    if len(names) != 1:
        return None
    variable = sympy.Symbol(names.pop(), real=True)
    try:
        parts = [part.subs(dict.fromkeys(part.free_symbols, variable)) for part in parts]
        sets = [part.as_set() for part in parts]
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return None
    common = sympy.Intersection(*sets)
    found = sympy.Union(*sets) if union or common is sympy.S.EmptySet else common
    inside = _form(found)
    return ("solutions", str(variable), inside) if _known(inside) else None


# --- values at fixed points -------------------------------------------------------------------


def _named_functions(expression: sympy.Expr) -> sympy.Expr:
    """f(x) as a symbol of its own; as it is where x is bound, as in a sum over f(x)."""
    if expression.has(sympy.Sum, sympy.Product, sympy.Integral, sympy.Derivative, sympy.Limit):
        return expression
    applied = expression.atoms(sympy.core.function.AppliedUndef)
    return expression.xreplace({part: sympy.Symbol(str(part)) for part in applied})


def _symbols(expression: sympy.Expr) -> list[Any]:
    return [symbol for symbol in expression.free_symbols if str(symbol) != "i"]


def _point(name: str, place: int) -> sympy.Float:
    """Where a symbol is evaluated: of size 0.2 to 2, the same for equal names."""
    digest = hashlib.sha256(f"{place} {name}".encode()).digest()
    size = Fraction(int.from_bytes(digest[:16], "big"), 2**128) * Fraction(9, 5) + Fraction(1, 5)
    negative = place == 1 or (place > 1 and digest[16] & 1)
    return sympy.Float(sympy.Rational(-size if negative else size), DIGITS + 20)


def _value(expression: sympy.Expr, place: int) -> mpmath.mpc | None:
    """The value at a place to more than `DIGITS` digits; None if it has none. i is the unit."""
    units = {symbol: sympy.I for symbol in expression.free_symbols if str(symbol) == "i"}
    expression = expression.xreplace(units) if units else expression
    points = {symbol: _point(str(symbol), place) for symbol in _symbols(expression)}
    try:
        value = expression.evalf(DIGITS + 10, subs=points, maxn=400)
        parts = value.as_real_imag()
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return None
    if not all(isinstance(part, (sympy.Float, sympy.Rational)) for part in parts):
        return None
    with mpmath.workdps(DIGITS + 20):
        real, imaginary = (_significant(part) for part in parts)
        # What is left of a part that is zero.
        if abs(imaginary) * mpmath.mpf(10) ** DIGITS < abs(real):
            imaginary = mpmath.mpf(0)
        if abs(real) * mpmath.mpf(10) ** DIGITS < abs(imaginary):
            real = mpmath.mpf(0)
        return mpmath.mpc(real, imaginary)


def _significant(part: sympy.Number) -> mpmath.mpf:
    """A number as mpmath has it; zero if evalf found no digit of it."""
    if isinstance(part, sympy.Float) and part._prec < 10:
        return mpmath.mpf(0)
    return mpmath.mpf(sympy.Float(part, DIGITS + 20)._mpf_)


def _key(value: mpmath.mpc) -> str:
    """The digits that must agree."""
    if not mpmath.isfinite(value):
        return str(value)
    return f"{mpmath.nstr(value.real + 0, SAME)} {mpmath.nstr(value.imag + 0, SAME)}"
