"""Parses YAML in OmegaConf's dialect, fast enough for a plan of 10,000 stages.

OmegaConf's own loader refuses documents of more than 10,000 nodes (about 800 stages), and builds from tags the paths of
whoever wrote the file. Here `1e-6` is a number as there, dates stay strings, a key that is given twice is an error, and
only JSON's types can come out. An alias counts as often as it is used, so that a file of ten lines cannot ask for
gigabytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as _Base
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as _Base  # type: ignore[assignment]

CORE = "tag:yaml.org,2002:"
STRING, MERGE = f"{CORE}str", f"{CORE}merge"
PLAIN = {f"{CORE}timestamp", f"{CORE}value"}
"""What YAML 1.1 makes of a date and of `=`: strings here."""
MAX_ALIASED = 100_000
"""Nodes that aliases may add to a document."""
MAX_DEPTH = 100

# As OmegaConf has it: YAML 1.1 asks for a dot in a float, YAML 1.2 and people do not.
FLOAT = re.compile(
    r"""^(?:
     [-+]?[0-9]+(?:_[0-9]+)*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+)
    |\.[0-9]+(?:_[0-9]+)*(?:[eE][-+][0-9]+)?
    |[-+]?[0-9]+(?:_[0-9]+)*(?::[0-5]?[0-9])+\.[0-9_]*
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.X,
)


class _Loader(_Base):
    """Makes nodes, and values of scalars; what these are part of is built by `_Builder`."""

    depth = 0

    # The composer calls these two on its way down and up. By itself it goes down until the C stack overflows.
    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.YAMLError(f"nested deeper than {MAX_DEPTH} levels")

    def ascend_resolver(self) -> None:
        self.depth -= 1


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in PLAIN]
    for first, resolvers in _Base.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{CORE}float", FLOAT, list("-+0123456789."))


def has_comment(line: str) -> bool:
    """Whether a line of YAML says something behind a `#`.

    Raises:
        yaml.YAMLError: it is no YAML.
    """
    if "#" not in line:
        return False
    node = yaml.compose(line, _Loader)
    while isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        node = node.value[-1][1]
    return node is None or bool(line[node.end_mark.column :].strip())


def parse(text: str) -> Any:
    """The value that a YAML document holds: mappings, lists, strings, numbers, booleans and None.

    Raises:
        yaml.YAMLError: not YAML, a key twice, a type that JSON lacks, or aliases that go in a circle or into the
            millions.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if "*" in text:
            _check_aliases(node)
        return _Builder(loader).value(node)
    finally:
        loader.dispose()


class _Builder:
    """Makes values of nodes."""

    def __init__(self, loader: _Loader) -> None:
        self.scalars: dict[str, Callable[[yaml.ScalarNode], Any]] = {
            f"{CORE}bool": loader.construct_yaml_bool,
            f"{CORE}float": loader.construct_yaml_float,
            f"{CORE}int": loader.construct_yaml_int,
            f"{CORE}null": loader.construct_yaml_null,
        }

    def value(self, node: yaml.Node) -> Any:
        tag = node.tag
        if tag == STRING and isinstance(node, yaml.ScalarNode):
            return node.value
        if isinstance(node, yaml.MappingNode) and tag == f"{CORE}map":
            return self.mapping(node)
        if isinstance(node, yaml.SequenceNode) and tag == f"{CORE}seq":
            return [self.value(child) for child in node.value]
        if not (isinstance(node, yaml.ScalarNode) and tag in self.scalars):
            raise _error(f"found the type {tag}, which a config cannot hold", node)
        try:
            return self.scalars[tag](node)
        except (ValueError, KeyError):
            raise _error(f"found {node.value!r}, which is not of the type {tag}", node) from None

    def mapping(self, node: yaml.MappingNode) -> dict[Any, Any]:
        own: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == MERGE:
                for section in _sections(value_node):
                    merged = {**self.mapping(section), **merged}
                continue
            key = self.key(key_node)
            if key in own:
                raise _error(f"found duplicate key {key}", key_node)
            own[key] = self.value(value_node)
        return {**merged, **own} if merged else own

    def key(self, node: yaml.Node) -> Any:
        key = self.value(node) if isinstance(node, yaml.ScalarNode) else None
        if key is None:
            raise _error("found a key that is not a string or a number", node)
        return key


def _sections(node: yaml.Node) -> list[yaml.MappingNode]:
    """What `<<:` takes in; of several sections the first wins."""
    sections = []
    for section in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        if not isinstance(section, yaml.MappingNode):
            raise _error("found something other than a mapping to merge", section)
        sections.append(section)
    return sections


def _error(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _check_aliases(node: yaml.Node) -> None:
    sizes: dict[int, int] = {}
    whole = _size(node, sizes, set())
    if whole - len(sizes) > MAX_ALIASED:
        raise _error(f"found aliases that add {whole - len(sizes)} nodes, more than {MAX_ALIASED}", node)


def _size(node: yaml.Node, sizes: dict[int, int], above: set[int]) -> int:
    """Nodes below `node` and itself, one behind an alias as often as it is used."""
    known = sizes.get(id(node))
    if known is not None:
        return known
    if id(node) in above:
        raise _error("found an alias to what it is part of", node)
    above.add(id(node))
    sizes[id(node)] = 1 + sum(_size(child, sizes, above) for child in _children(node))
    above.discard(id(node))
    return sizes[id(node)]


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            yield key_node
            yield value_node
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value
