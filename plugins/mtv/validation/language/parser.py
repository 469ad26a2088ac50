"""Text of a condition → syntax tree, by recursive descent. Every fault names its place."""

from __future__ import annotations

import re
from typing import NamedTuple

from mtv.validation.language.syntax import (
    Both,
    Call,
    Compare,
    Condition,
    ConditionError,
    Either,
    Literal,
    Match,
    Member,
    Not,
    Path,
)

_MAX_LENGTH = 4000
_MAX_DEPTH = 40
_MAX_TOKENS = 400

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>-?\d+(?:\.\d+)?)
      | (?P<text>"[^"]*"|'[^']*')
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<sign>==|!=|<=|>=|<|>|\(|\)|\[|\]|,|\.)
    """,
    re.VERBOSE,
)
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_FUNCTIONS = ("count", "lower", "has", "filled", "default")
_CONSTANTS = {"true": True, "false": False, "null": None}
_WORDS = {"and", "or", "not", "in", "contains", "matches", *_CONSTANTS}


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


def parse(text: str) -> Condition:
    """Return the tree of a condition. Raises `ConditionError`."""
    if len(text) > _MAX_LENGTH:
        raise ConditionError(f"the condition is longer than {_MAX_LENGTH} characters", _MAX_LENGTH)
    return _Parser(_tokens(text), len(text)).whole()


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            what = "a text that does not end" if text[position] in "\"'" else repr(text[position])
            raise ConditionError(f"unexpected {what}", position)
        if match.lastgroup != "space":
            found.append(_Token(str(match.lastgroup), match.group(), position))
        position = match.end()
    if len(found) > _MAX_TOKENS:
        raise ConditionError(f"the condition has more than {_MAX_TOKENS} words and signs", found[_MAX_TOKENS].position)
    return found


class _Parser:
    def __init__(self, tokens: list[_Token], length: int) -> None:
        self._tokens = tokens
        self._at = 0
        self._end = _Token("end", "the end", length)
        self._depth = 0

    def whole(self) -> Condition:
        condition = self._either()
        self._expect_end()
        return condition

    def _either(self) -> Condition:
        left = self._both()
        while self._take("word", "or"):
            left = Either(left, self._both())
        return left

    def _both(self) -> Condition:
        left = self._negation()
        while self._take("word", "and"):
            left = Both(left, self._negation())
        return left

    def _negation(self) -> Condition:
        if self._take("word", "not"):
            self._deeper()
            inner = Not(self._negation())
            self._depth -= 1
            return inner
        return self._comparison()

    def _comparison(self) -> Condition:
        left = self._value()
        token = self._peek()
        if token.kind == "sign" and token.text in _COMPARISONS:
            self._at += 1
            return Compare(token.text, left, self._value())
        if self._take("word", "contains"):
            return Compare("contains", left, self._value())
        if self._take("word", "matches"):
            return Match(left, self._pattern())
        if self._take("word", "in"):
            return Member(left, self._items())
        following = self._tokens[self._at + 1] if self._at + 1 < len(self._tokens) else self._end
        if token.text == "not" and following.text == "in":
            self._at += 2
            return Not(Member(left, self._items()))
        return left

    def _value(self) -> Condition:
        token = self._next()
        if token.kind == "number":
            return Literal(float(token.text) if "." in token.text else int(token.text))
        if token.kind == "text":
            return Literal(token.text[1:-1])
        if token.text == "(":
            self._deeper()
            inner = self._either()
            self._depth -= 1
            self._expect(")")
            return inner
        if token.kind == "word" and token.text in _CONSTANTS:
            return Literal(_CONSTANTS[token.text])
        if token.kind == "word" and token.text not in _WORDS:
            return self._call(token) if self._peek().text == "(" else self._path(token)
        if token.text == "[":
            self._at -= 1
            return self._path()
        raise ConditionError(f"a value is missing before {token.text!r}", token.position)

    def _call(self, name: _Token) -> Condition:
        if name.text not in _FUNCTIONS:
            raise ConditionError(f"no function {name.text!r}; there are {', '.join(_FUNCTIONS)}", name.position)
        self._expect("(")
        self._deeper()
        argument = self._either()
        self._depth -= 1
        if name.text in ("count", "has", "filled") and not isinstance(argument, Path):
            raise ConditionError(f"{name.text} takes an attribute", name.position)
        fallback = condition = None
        if name.text == "default":
            self._expect(",")
            fallback = self._literal()
        elif name.text == "count" and self._take("sign", ","):
            self._deeper()
            condition = self._either()
            self._depth -= 1
        self._expect(")")
        return Call(name.text, argument, fallback, condition)

    def _path(self, *first: _Token) -> Path:
        parts = [token.text for token in first]
        while True:
            if self._take("sign", "."):
                token = self._next()
                if token.kind != "word":
                    raise ConditionError("a name is missing after the dot", token.position)
                parts.append(token.text)
            elif self._peek().text == "[":
                self._at += 1
                token = self._next()
                if token.kind != "text":
                    raise ConditionError("an attribute in brackets is a text", token.position)
                parts.append(token.text[1:-1])
                self._expect("]")
            else:
                return Path(tuple(parts))

    def _items(self) -> tuple[Literal, ...]:
        self._expect("[")
        items: list[Literal] = []
        while not self._take("sign", "]"):
            if items:
                self._expect(",")
            items.append(self._literal())
        return tuple(items)

    def _literal(self) -> Literal:
        token = self._peek()
        value = self._value()
        if not isinstance(value, Literal):
            raise ConditionError("only a number, a text, true, false or null may stand here", token.position)
        return value

    def _pattern(self) -> re.Pattern[str]:
        token = self._peek()
        literal = self._literal()
        if not isinstance(literal.value, str):
            raise ConditionError("matches takes a regular expression in quotes", token.position)
        try:
            return re.compile(literal.value)
        except (re.error, OverflowError, RecursionError) as error:
            raise ConditionError(f"the regular expression is wrong: {error}", token.position) from error

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ConditionError("the condition is nested too deep", self._peek().position)

    def _peek(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else self._end

    def _next(self) -> _Token:
        token = self._peek()
        self._at += 1
        return token

    def _take(self, kind: str, text: str) -> bool:
        token = self._peek()
        if token.kind == kind and token.text == text:
            self._at += 1
            return True
        return False

    def _expect(self, sign: str) -> None:
        token = self._next()
        if token.kind != "sign" or token.text != sign:
            raise ConditionError(f"{sign!r} is missing before {token.text!r}", token.position)

    def _expect_end(self) -> None:
        token = self._peek()
        if token is not self._end:
            raise ConditionError(f"{token.text!r} is too much", token.position)
