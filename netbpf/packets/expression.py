"""Packets written as scapy expressions, ``Ether()/IP(dst="10.0.0.1")/UDP(dport=53)``, read without evaluating Python.

The text is parsed into a syntax tree, and of that tree only this means something: scapy's layers called by name with
fields, ``/`` between them, literals, lists and tuples of those, and ``"text" * N``. Everything else is refused by name.
"""

import ast
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from netbpf.errors import PacketTextError
from netbpf.text import did_you_mean, escape

if TYPE_CHECKING:
    from netbpf.packets.layers import Layers

MAX_TEXT: Final = 1 << 17  # characters; the shell's own limit for one argument
MAX_NODES: Final = 20_000
MAX_DEPTH: Final = 64  # of calls, lists and layers within each other
MAX_LAYERS: Final = 64
MAX_REPEATED: Final = 1 << 17  # bytes; more than TEST_RUN takes

# What a refusal calls the parts of Python that are none of packets.
_REFUSED: Final = {
    ast.Attribute: "an attribute", ast.Subscript: "an index", ast.Lambda: "lambda", ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension", ast.DictComp: "a comprehension", ast.GeneratorExp: "a comprehension",
    ast.IfExp: "if", ast.JoinedStr: "an f-string", ast.NamedExpr: ":=", ast.Await: "await", ast.Yield: "yield",
    ast.YieldFrom: "yield", ast.Starred: "*", ast.Dict: "a dictionary", ast.Set: "a set", ast.Compare: "a comparison",
    ast.BoolOp: "and/or", ast.Slice: "a slice",
}  # fmt: skip
_OPERATORS: Final = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Mod: "%", ast.Pow: "**", ast.LShift: "<<", ast.RShift: ">>",
    ast.BitOr: "|", ast.BitAnd: "&", ast.BitXor: "^", ast.FloorDiv: "//", ast.MatMult: "@", ast.Not: "not",
    ast.Invert: "~", ast.UAdd: "+",
}  # fmt: skip
_ALLOWED: Final = "allowed are scapy layers, their fields, '/', numbers, strings, bytes, lists, tuples and 'text' * N"


def read_expression(text: str) -> bytes:
    """The bytes of the one packet that an expression stands for.

    A packet that does not begin with Ethernet gets such a header. Addresses that are not given are fixed ones
    (netbpf.packets.layers), never the machine's own; nothing is looked up, sent, or read from a file.
    Raises PacketTextError, a UsageError that knows the place; ToolMissingError without scapy.
    """
    return read_expressions(text, 1)[0]


def read_expressions(text: str, most: int) -> list[bytes]:
    """The bytes of the packets, at most so many, that an expression stands for: fields may have several values, as
    scapy has them: ``dport=[53, 80]``, ``dport=(1000, 1999)``, ``dst="10.0.0.0/24"``. Otherwise as ``read_expression``.
    """
    tree = _parsed(text)
    from netbpf.packets.layers import Layers, build_all

    reader = _Reader(text, Layers())
    packet = reader.packet(tree)

    def error(message: str, field: str) -> PacketTextError:
        named = [one for one in ast.walk(tree) if isinstance(one, ast.keyword) and one.arg == field]
        return reader.error(named[0] if len(named) == 1 else tree, message)

    return build_all(packet, error, most)


def _parsed(text: str) -> ast.expr:
    if len(text) > MAX_TEXT:
        raise PacketTextError(
            f"the packet is written with {len(text)} characters; at most {MAX_TEXT} are read",
            text,
            0,
        )
    stripped = text.lstrip()
    skipped = len(text) - len(stripped)
    if not stripped:
        raise PacketTextError(
            "no packet is written there", text, 0, hint='such as "Ether()/IP()/UDP(dport=53)"'
        )
    if not any(one in stripped for one in ("#", '"""', "'''")):
        # Lines are joined, as between parentheses; the places stay the same.
        stripped = stripped.replace("\n", " ")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's advice on backslashes is for source code
            body = ast.parse(stripped.rstrip(), mode="eval").body
    except SyntaxError as error:
        at, length = _place(stripped, error)
        what = (error.msg or "invalid syntax").partition(" (detected at line")[0]
        raise PacketTextError(
            f"the packet does not parse: {what}", text, skipped + at, length
        ) from None
    except (MemoryError, RecursionError):
        raise PacketTextError("the packet is nested too deeply", text, skipped) from None
    except ValueError as error:  # a NUL character, a surrogate
        raise PacketTextError(f"the packet does not parse: {error}", text, skipped) from None
    for count, node in enumerate(ast.walk(body)):
        if count > MAX_NODES:
            raise PacketTextError(f"the packet has more than {MAX_NODES} parts", text, skipped)
        if isinstance(node, ast.expr | ast.keyword):
            node.col_offset, node.end_col_offset = _span(stripped, node, skipped)
    return body


def _place(text: str, error: SyntaxError) -> tuple[int, int]:
    """Where a syntax error is: characters from the beginning, and how many it is about."""
    line = min(error.lineno or 1, text.count("\n") + 1)
    begin = _line_start(text, line)
    # Python says 0 where the text ends too early.
    at = begin + error.offset - 1 if error.offset else len(text)
    same = error.end_lineno == error.lineno and error.end_offset and error.offset
    length = (
        max(error.end_offset - error.offset, 1) if same and error.end_offset and error.offset else 1
    )
    return min(at, len(text)), length


def _line_start(text: str, line: int) -> int:
    begin = 0
    for _ in range(line - 1):
        begin = text.find("\n", begin) + 1
    return begin


def _span(text: str, node: ast.expr | ast.keyword, skipped: int) -> tuple[int, int]:
    """A node's place in characters from the beginning of the whole text; ast counts bytes of UTF-8 in its line."""

    def offset(line: int, column: int) -> int:
        begin = _line_start(text, line)
        if text.isascii():
            return begin + column
        return begin + len(text[begin:].encode()[:column].decode(errors="replace"))

    end = offset(node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)
    return skipped + offset(node.lineno, node.col_offset), skipped + end


class _Reader:
    def __init__(self, text: str, layers: "Layers") -> None:
        self.text = text
        self.layers = layers

    def error(
        self, node: ast.expr | ast.keyword, message: str, hint: str | None = None
    ) -> PacketTextError:
        length = max((node.end_col_offset or node.col_offset) - node.col_offset, 1)
        return PacketTextError(message, self.text, node.col_offset, length, hint=hint)

    def packet(self, node: ast.expr, depth: int = 0) -> Any:
        """A layer, or several joined by ``/``."""
        parts = self._joined(node)
        if len(parts) > MAX_LAYERS:
            raise self.error(node, f"{len(parts)} layers; at most {MAX_LAYERS} are read")
        made = self._layer(parts[0], depth)
        for part in parts[1:]:
            if isinstance(part, ast.Call):
                made = made / self._layer(part, depth)
            else:
                value = self.value(part, depth)
                if not isinstance(value, bytes | str):
                    raise self.error(part, "behind a / stands a layer, a string or bytes")
                made = made / (value if isinstance(value, bytes) else self._bytes(part, value))
        return made

    @staticmethod
    def _joined(node: ast.expr) -> list[ast.expr]:
        # A chain of / leans to the left; long ones would go deep.
        parts: list[ast.expr] = []
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts.append(node.right)
            node = node.left
        return [node, *reversed(parts)]

    def _layer(self, node: ast.expr, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise self.error(node, "the packet is nested too deeply")
        if isinstance(node, ast.Name):
            self._known(node, node)
            raise self.error(node, f"{node.id} is a layer: write {node.id}()")
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            return self.packet(node, depth + 1)
        if not isinstance(node, ast.Call):
            self._refuse(node)
            raise self.error(
                node, "a packet begins with a layer", hint="such as Ether()/IP()/UDP(dport=53)"
            )
        if not isinstance(node.func, ast.Name):
            self._refuse(node.func)
            raise self.error(node.func, "only scapy's layers can be called")
        layer = self._known(node.func, node)
        return self._made(node, layer, depth)

    def _known(self, name: ast.Name, node: ast.expr) -> Any:
        layer = self.layers.find(name.id)
        if layer is None:
            hint = did_you_mean(name.id, self.layers.names(), "its layers are")
            raise self.error(
                name,
                f"{escape(name.id)} is no layer of scapy",
                hint=hint if hint and "did" in hint else None,
            )
        return layer

    def _made(self, node: ast.Call, layer: Any, depth: int) -> Any:
        name = layer.__name__
        if len(node.args) > 1:
            raise self.error(node.args[1], f"{name} takes its fields by name: {name}(field=value)")
        arguments: list[bytes] = []
        for one in node.args:
            value = self.value(one, depth + 1)
            if not isinstance(value, bytes | str):
                raise self.error(one, f"{name} takes its fields by name: {name}(field=value)")
            arguments.append(value if isinstance(value, bytes) else self._bytes(one, value))
        fields: dict[str, object] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise self.error(keyword, "** is not allowed in a packet", _ALLOWED)
            known = self.layers.fields(layer)
            if keyword.arg not in known:
                hint = did_you_mean(keyword.arg, known, "its fields are")
                raise self.error(keyword, f"{name} has no field {escape(keyword.arg)}", hint)
            fields[keyword.arg] = self.value(keyword.value, depth + 1)
        return self._call(node, lambda: layer(*arguments, **fields), layer, fields)

    def _call(
        self, node: ast.Call, make: Callable[[], Any], layer: Any, fields: dict[str, object]
    ) -> Any:
        from netbpf.packets.layers import contained, trouble, words

        with contained():
            try:
                return make()
            except trouble() as error:
                reason = words(error)
            for keyword in node.keywords:
                # Which field it was.
                try:
                    layer(**{str(keyword.arg): fields[str(keyword.arg)]})
                except trouble() as error:
                    raise self.error(
                        keyword, f"{layer.__name__}.{keyword.arg}: {words(error)}"
                    ) from None
        raise self.error(node, f"scapy makes no {layer.__name__} of that: {reason}")

    def value(self, node: ast.expr, depth: int) -> object:
        """What a field is given: a literal, a list, a tuple, a packet."""
        if depth > MAX_DEPTH:
            raise self.error(node, "the packet is nested too deeply")
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | bytes() | None as found):
                return found
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return -number
            case ast.List(elts=items):
                return [self.value(one, depth + 1) for one in items]
            case ast.Tuple(elts=items):
                return tuple(self.value(one, depth + 1) for one in items)
            case ast.BinOp(op=ast.Mult()):
                return self._repeated(node, depth)
            case ast.Call() | ast.BinOp(op=ast.Div()):
                return self.packet(node, depth + 1)
            case ast.Name():
                self._known(node, node)
                raise self.error(node, f"{node.id} is a layer: write {node.id}()")
        self._refuse(node)
        raise self.error(node, "this is not allowed in a packet", _ALLOWED)

    def _repeated(self, node: ast.BinOp, depth: int) -> bytes | str:
        left, right = self.value(node.left, depth + 1), self.value(node.right, depth + 1)
        if isinstance(left, int):
            left, right = right, left
        if (
            not isinstance(left, bytes | str)
            or not isinstance(right, int)
            or isinstance(right, bool)
        ):
            raise self.error(node, "* is for a string or bytes and a number", _ALLOWED)
        if len(left) * max(right, 0) > MAX_REPEATED:
            raise self.error(
                node,
                f"{len(left)} * {right} bytes are too many; no packet is longer than {MAX_REPEATED}",
            )
        return left * right

    def _refuse(self, node: ast.expr) -> None:
        """Refuse what is Python and no packet, by its name."""
        what = _REFUSED.get(type(node), "")
        match node:
            case ast.Attribute(attr=name):
                what = f"the attribute .{name}"
            case ast.BinOp(op=operator) | ast.UnaryOp(op=operator):
                what = _OPERATORS.get(type(operator), "")
            case ast.Constant(value=value) if isinstance(value, complex) or value is Ellipsis:
                what = "..." if value is Ellipsis else "a complex number"
        if what:
            raise self.error(node, f"{escape(what)} is not allowed in a packet", _ALLOWED)

    def _bytes(self, node: ast.expr, text: str) -> bytes:
        try:
            return text.encode()  # as scapy does
        except UnicodeEncodeError:
            raise self.error(
                node, "these characters have no bytes in UTF-8", "write b'...'"
            ) from None
