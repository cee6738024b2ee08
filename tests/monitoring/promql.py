"""Reads PromQL as far as dashboards and alerts need it, and finds what Prometheus would refuse.

Grammar and types: https://prometheus.io/docs/prometheus/latest/querying/basics and /functions.
"""

from __future__ import annotations

import re
from enum import Enum

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<duration>\[\s*(?:\d+(?:ms|[smhdwy])|\$__rate_interval|\$__range)\s*\])
    | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<name>[A-Za-z_:][A-Za-z0-9_:]*)
    | (?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^(){},=<>])
    )""",
    re.VERBOSE,
)
AGGREGATIONS = {"sum", "avg", "min", "max", "count"}
_BINARY = (
    {"or"},
    {"and", "unless"},
    {"==", "!=", "<=", "<", ">=", ">"},
    {"+", "-"},
    {"*", "/", "%"},
)
"""Operators, those that bind least first."""


class Kind(Enum):
    """Types of expressions."""

    SCALAR = "a number"
    INSTANT = "an instant vector"
    RANGE = "a range vector"


FUNCTIONS = {
    "rate": (Kind.RANGE,),
    "irate": (Kind.RANGE,),
    "increase": (Kind.RANGE,),
    "max_over_time": (Kind.RANGE,),
    "avg_over_time": (Kind.RANGE,),
    "histogram_quantile": (Kind.SCALAR, Kind.INSTANT),
    "absent": (Kind.INSTANT,),
    "clamp_min": (Kind.INSTANT, Kind.SCALAR),
}


class PromQLError(ValueError):
    """Prometheus would refuse the query."""


def check_query(query: str) -> Kind:
    """The type of a query.

    Raises:
        PromQLError: It cannot be read, or something in it has another type than it must have.
    """
    parser = _Parser(query)
    kind = parser.expression()
    parser.expect_end()
    return kind


class _Parser:
    def __init__(self, query: str) -> None:
        self._query = query
        self._tokens: list[tuple[str, str]] = []
        end = 0
        while query[end:].strip():
            match = _TOKEN.match(query, end)
            if match is None or match.lastgroup is None:
                raise PromQLError(f"cannot read {query[end:]!r} in {query!r}")
            self._tokens.append((match.lastgroup, match[match.lastgroup]))
            end = match.end()
        self._at = 0

    @property
    def _next(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "the end")

    def _take(self) -> tuple[str, str]:
        token = self._next
        self._at += 1
        return token

    def _expect(self, text: str) -> None:
        found = self._take()[1]
        if found != text:
            raise PromQLError(f"{text!r} is wanted, and {found!r} is there, in {self._query!r}")

    def expect_end(self) -> None:
        """Nothing is left."""
        if self._next[0] != "end":
            raise PromQLError(f"{self._next[1]!r} is too much in {self._query!r}")

    def expression(self, level: int = 0) -> Kind:
        """An expression of operators that bind at least so much."""
        if level == len(_BINARY):
            return self._operand()
        left = self.expression(level + 1)
        while self._next[1] in _BINARY[level]:
            left = self._joined(left, self._take()[1], self.expression(level + 1))
        return left

    def _joined(self, left: Kind, operator: str, right: Kind) -> Kind:
        kinds = {left, right}
        if Kind.RANGE in kinds:
            raise PromQLError(f"{operator!r} on a range vector in {self._query!r}")
        if operator in _BINARY[0] | _BINARY[1] and Kind.SCALAR in kinds:
            raise PromQLError(f"{operator!r} on a number in {self._query!r}")
        if operator in _BINARY[2] and kinds == {Kind.SCALAR}:
            raise PromQLError(f"{operator!r} of numbers needs bool in {self._query!r}")
        return Kind.INSTANT if Kind.INSTANT in kinds else Kind.SCALAR

    def _operand(self) -> Kind:
        kind, text = self._take()
        if kind == "number":
            return Kind.SCALAR
        if text == "-":
            return self._operand()
        if text == "(":
            inner = self.expression()
            self._expect(")")
            return inner
        if kind != "name":
            raise PromQLError(f"{text!r} is no operand in {self._query!r}")
        if text in AGGREGATIONS:
            return self._aggregation()
        if self._next[1] == "(":
            return self._call(text)
        return self._selector()

    def _aggregation(self) -> Kind:
        has_labels = self._labels()
        self._arguments("an aggregation", (Kind.INSTANT,))
        if not has_labels:
            self._labels()
        return Kind.INSTANT

    def _labels(self) -> bool:
        """What is aggregated by, where that is said."""
        if self._next[1] not in ("by", "without"):
            return False
        self._take()
        self._expect("(")
        while self._next[1] != ")":
            kind, text = self._take()
            if kind != "name":
                raise PromQLError(f"{text!r} is no label in {self._query!r}")
            if self._next[1] != ")":
                self._expect(",")
        self._expect(")")
        return True

    def _call(self, function: str) -> Kind:
        if function not in FUNCTIONS:
            raise PromQLError(f"there is no function {function!r} known here, in {self._query!r}")
        self._arguments(function, FUNCTIONS[function])
        return Kind.INSTANT

    def _arguments(self, function: str, kinds: tuple[Kind, ...]) -> None:
        self._expect("(")
        for index, kind in enumerate(kinds):
            if index:
                self._expect(",")
            found = self.expression()
            if found is not kind:
                raise PromQLError(
                    f"{function} wants {kind.value}, not {found.value}, in {self._query!r}"
                )
        self._expect(")")

    def _selector(self) -> Kind:
        if self._next[1] == "{":
            self._take()
            while self._next[1] != "}":
                self._matcher()
                if self._next[1] != "}":
                    self._expect(",")
            self._expect("}")
        if self._next[0] == "duration":
            self._take()
            return Kind.RANGE
        return Kind.INSTANT

    def _matcher(self) -> None:
        label, operator, value = self._take(), self._take(), self._take()
        if label[0] != "name" or operator[1] not in ("=", "!=", "=~", "!~") or value[0] != "string":
            raise PromQLError(f"no label is matched in {self._query!r}")
        if operator[1] in ("=~", "!~"):
            re.compile(value[1][1:-1])
