"""An XML reader for files of unknown origin: no document type, so no entities of any kind; size and depth capped."""

from __future__ import annotations

from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from mtv.providers.ova.refusal import Refused

MAX_BYTES = 16 << 20
_MAX_DEPTH = 100
_MAX_ELEMENTS = 200_000


class Document:
    """A parsed file: `root` has names without namespaces, `namespaces` are those the file declares.

    OVF writers differ in the namespaces of one and the same element, so local names are what tells them apart.
    """

    def __init__(self, root: Element, namespaces: frozenset[str]) -> None:
        self.root = root
        self.namespaces = namespaces


def parse(text: bytes) -> Document:
    """Parse XML. Raises `Refused` for a document type declaration, bad XML, or more than the caps allow."""
    if len(text) > MAX_BYTES:
        raise Refused(f"the OVF is larger than {MAX_BYTES} bytes")
    return _Reader().read(text)


class _Reader:
    def __init__(self) -> None:
        self._builder = TreeBuilder()
        self._namespaces: set[str] = set()
        self._depth = 0
        self._count = 0
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartNamespaceDeclHandler = self._namespace
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._builder.data
        self._parser = parser

    def read(self, text: bytes) -> Document:
        try:
            self._parser.Parse(text, True)
        except expat.ExpatError as error:
            raise Refused(
                f"the OVF is not well-formed XML: line {error.lineno}, column {error.offset + 1}:"
                f" {expat.ErrorString(error.code)}"
            ) from error
        except (LookupError, ValueError) as error:  # Python's codecs, which expat asks
            raise Refused("the OVF is in an encoding that is not known", cure="save it as UTF-8") from error
        return Document(self._builder.close(), frozenset(self._namespaces))

    def _doctype(self, *_: object) -> None:
        raise Refused("the OVF declares a document type, which an OVF never needs and an attack does")

    def _namespace(self, _prefix: str | None, uri: str | None) -> None:
        self._namespaces.add(uri or "")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._count += 1
        if self._depth > _MAX_DEPTH or self._count > _MAX_ELEMENTS:
            raise Refused("the OVF is nested too deep or has too many elements")
        self._builder.start(_local(name), {_local(key): value for key, value in attributes.items()})

    def _end(self, name: str) -> None:
        self._depth -= 1
        self._builder.end(_local(name))


def _local(name: str) -> str:
    return name.rsplit(" ", 1)[-1]


def child_text(element: Element, name: str) -> str:
    """Return the stripped text of the first child of that name, "" when there is none."""
    found = element.find(name)
    return (found.text or "").strip() if found is not None else ""
