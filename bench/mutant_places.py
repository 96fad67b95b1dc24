"""Where a file can be changed by one small step, and into what: the operators of `bench/mutants.py`."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Mutant:
    """One change: what stands between two offsets of a file is replaced."""

    room: str
    file: str
    function: str  # its qualified name; empty for what runs at import
    line: int
    begin: int
    end: int
    before: str
    after: str


_COMPARE: Final = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "is not": "is",
    "is": "is not",
    "not in": "in",
    "in": "not in",
}
_BINARY: Final = {"+": "-", "-": "+", "*": "/", "/": "*", "//": "/", "%": "*", "|": "&", "&": "|"}
_SWAPPED: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
_SILENT: Final = frozenset({"log", "warnings"})  # what is only said is not what these rooms are tested for
_SHOWN: Final = frozenset(
    {"repr", "daemon", "stacklevel", "exc_info"}
)  # keywords that change what a developer sees
_TYPES: Final = frozenset(
    {"isinstance", "issubclass", "cast"}
)  # `A & B` of two types is a mistake, no mutant


class Places(ast.NodeVisitor):
    """All places of one file where a mutant can be made, as (function, begin, end, after)."""

    def __init__(self, text: str) -> None:
        self.text, self.found = text, list[tuple[str, int, int, str]]()
        self._scope: list[str] = []  # of the qualified name of where we are
        self._function = ""
        self._table = False  # numbers of a table of data: a test could but repeat them
        lines = text.encode().splitlines(keepends=True)
        self._starts = [0]
        for line in lines:
            self._starts.append(self._starts[-1] + len(line))
        self._bytes = text.encode()

    def _at(self, line: int, column: int) -> int:
        return self._starts[line - 1] + column

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._at(node.lineno, node.col_offset), self._at(node.end_lineno, node.end_col_offset)

    def _said(self, node: ast.expr | ast.stmt) -> str:
        begin, end = self._span(node)
        return self._bytes[begin:end].decode()

    def _replace(self, node: ast.expr | ast.stmt, after: str) -> None:
        self._found(*self._span(node), after)

    def _found(self, begin: int, end: int, after: str) -> None:
        self.found.append((self._function, begin, end, after))

    def _between(self, left: ast.expr, right: ast.expr, words: dict[str, str]) -> None:
        """Swap the operator that stands between two expressions."""
        begin, end = self._span(left)[1], self._span(right)[0]
        gap = self._bytes[begin:end].decode()
        word = gap.strip(" ()\n\\")
        if word in words and gap.count(word) == 1:
            at = begin + gap.index(word)
            self._found(at, at + len(word), words[word])

    # what is left out: types, decorators, texts, assertions, what is only said, what tells a developer what a thing is

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if node.name == "__repr__":
            return
        for part in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(part)
        outer, self._function = self._function, ".".join([*self._scope, node.name])
        self._scope += [node.name, "<locals>"]
        for part in node.body:
            self.visit(part)
        del self._scope[-2:]
        self._function = outer

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scope.append(node.name)
        for part in node.body:
            self.visit(part)
        self._scope.pop()

    def visit_Assert(self, node: ast.Assert) -> None:
        """It fails by itself when it is turned round, and says nothing to whom it holds for."""

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg not in _SHOWN:
            self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and "TypeAlias" not in self._said(node.annotation):
            self.visit(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_Raise(self, node: ast.Raise) -> None:
        self._replace(node, "pass")

    def visit_Expr(self, node: ast.Expr) -> None:
        value = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(value, ast.Call):
            if self._said(value.func).partition(".")[0] in _SILENT:
                return
            self._replace(node, "pass")
        if not isinstance(value, ast.Constant):
            self.generic_visit(node)

    # the operators

    def visit_If(self, node: ast.If) -> None:
        if self._said(node.test) == "TYPE_CHECKING":
            return
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        if not isinstance(test, ast.Compare) and ":=" not in self._said(test):
            self._replace(test, f"(not ({self._said(test)}))")

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and self._said(node.value) not in {"None", "False"}:  # as false as None is
            self._replace(node.value, "None")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, right in zip([node.left, *node.comparators], node.comparators, strict=False):
            self._between(left, right, _COMPARE)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if not any(map(_is_text, (node.left, node.right))):
            self._between(node.left, node.right, _BINARY)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._between(left, right, {"and": "or", "or": "and"})
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._replace(node, f"({self._said(node.operand)})")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._between(node.target, node.value, {"+=": "-=", "-=": "+=", "|=": "&=", "&=": "|="})
        self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        inside, self._table = self._table, self._table or not self._scope  # of a module
        self.generic_visit(node)
        self._table = inside

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._replace(node, str(not node.value))
        elif isinstance(node.value, int | float) and not self._table:
            self._replace(node, repr(node.value + 1 if abs(node.value) < 100 else node.value * 2))

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in _SWAPPED:
            self._replace(node.func, _SWAPPED[name])
        inner = node.args[0] if node.args else None
        if name == "int" and isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.FloorDiv):
            self.visit(inner.left)  # int(a // b) is int(a / b)
        elif name in _TYPES:
            self.visit(node.args[1 if name == "cast" else 0])
        else:
            self.generic_visit(node)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
