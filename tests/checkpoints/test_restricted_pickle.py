"""Pickles that want to run something, or to exhaust something, are one line of text and nothing else."""

from __future__ import annotations

import collections
import copyreg
import os
import pickle
import resource
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.checkpoints import dcp, restricted_pickle, torch_file, torch_names
from holdfast.checkpoints.restricted_pickle import RefusedPickle

WHERE = Path("checkpoint/.metadata")
METADATA = b"\x8c%torch.distributed.checkpoint.metadata\x8c\x08Metadata\x93"
OBJECT = b"\x80\x04" + METADATA + b")\x81"
"""An instance of the allowed class, before its state."""


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


class Runs:
    """What a real attacker pickles."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def payloads(witness: Path) -> Iterator[tuple[str, bytes]]:
    """Pickles that make the file `witness` where anything of them is executed."""
    command = f"touch {witness}"
    run = text(command) + b"\x85R."
    yield "os.system", pickle.dumps(Runs(os.system, command), 2)
    yield "os.system, framed", pickle.dumps(Runs(os.system, command), 5)
    yield "nested in a state", pickle.dumps({"state_dict_metadata": [{"a": (1, Runs(os.system, command))}]}, 4)
    yield "eval", pickle.dumps(Runs(eval, f"open({str(witness)!r}, 'w')"), 4)
    yield "exec", pickle.dumps(Runs(exec, f"open({str(witness)!r}, 'w')"), 4)
    yield "open", pickle.dumps(Runs(open, str(witness), "w"), 4)
    yield "subprocess", pickle.dumps(Runs(subprocess.call, ["touch", str(witness)]), 4)
    yield "posix by its real name", b"\x80\x02cposix\nsystem\n" + run
    yield "protocol 0", b"cos\nsystem\n(S'" + command.encode() + b"'\ntR."
    yield "INST", b"\x80\x02(S'" + command.encode() + b"'\nios\nsystem\n."
    yield "OBJ", b"\x80\x02(cos\nsystem\n" + text(command) + b"o."
    yield "getattr of an allowed module", b"\x80\x04cbuiltins\ngetattr\n" + run
    yield "a dotted name", b"\x80\x04" + text("torch") + text("Size.__class__.__mro__") + b"\x93" + run
    yield (
        "a name through an allowed module",
        b"\x80\x04" + text("torch.serialization") + text("os.system") + b"\x93" + run,
    )
    yield "a name that is a mapping", b"\x80\x04}" + text("system") + b"\x93" + run
    yield "names from the memo", b"\x80\x04" + text("os") + b"\x940" + text("system") + b"\x940h\0h\1\x93" + run
    yield "a call of a text", b"\x80\x04" + text("os.system") + run
    yield "a call of an instance", OBJECT + text(command) + b"\x85R."
    yield "a call of a call", OBJECT + b"\x85R" + text(command) + b"\x85R."
    yield "a call with what is no tuple", b"\x80\x04" + METADATA + b"]R."
    yield "a persistent id", b"\x80\x04" + text(command) + b"Q."
    yield "numpy", b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n" + run
    yield "torch.load", b"\x80\x04ctorch\nload\n" + run
    yield "torch.hub", b"\x80\x04ctorch.hub\nload\n" + run
    yield "a class made by type", b"\x80\x04cbuiltins\ntype\n" + run
    yield "importlib", b"\x80\x04cimportlib\nimport_module\n" + text("this") + b"\x85R."
    yield "our own", b"\x80\x04choldfast.checkpoints.torch_file\nopen_file\n" + run


def hostile_states() -> Iterator[tuple[str, bytes]]:
    """An allowed class with a state that it never has, and other abuse of the machine."""
    yield "dunder", OBJECT + b"}" + text("__class__") + b"K\1sb."
    yield "reduce", OBJECT + b"}" + text("__reduce__") + METADATA + b"sb."
    yield "keys that are no names", OBJECT + b"}" + text("a b") + b"K\1sb."
    yield "keys that are no text", OBJECT + b"}K\1K\1sb."
    yield "a slot state", OBJECT + b"N}" + text("__class__") + b"K\1s\x86b."
    yield "a list", OBJECT + b"]b."
    yield "twice", OBJECT + b"}b}b."
    yield "state of a class", b"\x80\x04" + METADATA + b"}" + text("dim") + b"K\1sb."
    yield "state of a mapping", b"\x80\x04}}" + text("a") + b"K\1sb."
    yield "append to an instance", OBJECT + b"K\1a."
    yield "items of an instance", OBJECT + text("a") + b"K\1s."
    yield "an unhashable key", b"\x80\x04}]K\1s."
    yield "a nested key", b"\x80\x04})" + b"\x85" * 200_000 + b"K\1s."
    yield "an itself-containing list", b"\x80\x04]\x94h\0a."
    yield "an unbalanced mark", b"\x80\x04t."
    yield "marks without end", b"\x80\x04" + b"(" * 100_000 + b"."
    yield "popping below a mark", b"\x80\x04K\1(00t."
    yield "nothing", b"\x80\x04."
    yield "no stop", b"\x80\x04N"
    yield "no pickle", b"not a pickle"
    yield "one byte", b"\x80"
    yield "a memo entry that is not there", b"\x80\x04h\7."
    yield "an announced gigabyte", b"\x80\x04B\xff\xff\xff\x7fabc."
    yield "an announced exabyte", b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f."
    yield "a frame of an exabyte", b"\x80\x04\x95" + b"\xff" * 7 + b"\x7fN"
    yield "a byte array", b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"."
    yield "a far memo", b"\x80\x04Nr\xff\xff\xff\xff0"
    yield "an extension", b"\x80\x04\x82\1."
    yield "another extension", b"\x80\x04\x84\1\0\0\0."
    yield "not UTF-8", b"\x80\x04X\2\0\0\0\xff\xfe."
    yield "a shape of text", b"\x80\x04ctorch\nSize\n" + text("abc") + b"\x85\x85R."
    yield "a negative shape", b"\x80\x04ctorch\nSize\nJ\xff\xff\xff\xff\x85\x85R."


@pytest.mark.parametrize("number", range(len(list(payloads(Path("w"))))), ids=[n for n, _ in payloads(Path("w"))])
def test_nothing_of_a_metadata_file_is_executed(tmp_path: Path, number: int) -> None:
    witness = tmp_path / "witness"
    _, payload = list(payloads(witness))[number]
    (tmp_path / dcp.METADATA).write_bytes(payload)
    with pytest.raises(RefusedPickle) as error:
        dcp.read(tmp_path)
    assert str(error.value).startswith(str(tmp_path / dcp.METADATA)) and "\n" not in str(error.value)
    assert not witness.exists()


@pytest.mark.parametrize("number", range(len(list(payloads(Path("w"))))), ids=[n for n, _ in payloads(Path("w"))])
def test_nothing_of_a_saved_tensor_is_executed(tmp_path: Path, number: int) -> None:
    import zipfile

    witness = tmp_path / "witness"
    _, payload = list(payloads(witness))[number]
    with zipfile.ZipFile(tmp_path / "rank.pt", "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/byteorder", b"little")
    with pytest.raises(Exception) as error:
        torch_file.read(tmp_path / "rank.pt")
    assert type(error.value).__module__.startswith("holdfast.") and str(tmp_path / "rank.pt") in str(error.value)
    assert not witness.exists()


@pytest.mark.parametrize(("name", "payload"), list(hostile_states()), ids=[name for name, _ in hostile_states()])
def test_a_hostile_state_is_refused_or_inert(tmp_path: Path, name: str, payload: bytes) -> None:
    (tmp_path / dcp.METADATA).write_bytes(payload)
    with pytest.raises(Exception) as error:
        dcp.read(tmp_path)
    assert type(error.value).__module__.startswith("holdfast."), name
    assert str(error.value).startswith(str(tmp_path / dcp.METADATA)) and "\n" not in str(error.value)


def test_a_registered_extension_is_not_looked_up(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    copyreg.add_extension("os", "system", 241)
    try:
        data = b"\x80\x02\x82\xf1" + text(f"touch {witness}") + b"\x85R."
        with pytest.raises(RefusedPickle):
            restricted_pickle.load(data, WHERE, dcp.ALLOWED)
    finally:
        copyreg.remove_extension("os", "system", 241)
    assert not witness.exists()


def test_bombs_take_neither_memory_nor_time(tmp_path: Path) -> None:
    """In a process that may have 1 GiB: laughs by reference, announced sizes, far memo entries, deep nesting."""
    laughs = (
        b"\x80\x04]\x94"
        + b"".join(b"](" + bytes([ord("h"), n]) * 20 + b"e\x94" for n in range(200))
        + b"\x85" * 200
        + b"."
    )
    deep = b"\x80\x04" + b"]" * 1_000_000 + b"a" * 999_999 + b"."
    bombs = [payload for _, payload in hostile_states()] + [laughs, deep]
    for number, payload in enumerate(bombs):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / dcp.METADATA).write_bytes(payload)
    program = (
        "import sys; from pathlib import Path; from holdfast.checkpoints import dcp\n"
        "from holdfast.core.errors import UserError\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    try: dcp.read(path)\n"
        "    except UserError: continue\n"
        "    sys.exit(f'{path} was read')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**1000), 2**1000) | st.floats(allow_nan=False) | st.text() | st.binary()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.lists(inner).map(tuple),
    max_leaves=30,
)


@given(VALUES, st.integers(2, 5))
@settings(deadline=None)
def test_plain_values_are_what_python_reads(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    assert restricted_pickle.load(data, WHERE, torch_names.COMMON) == value


@given(st.binary(max_size=200), st.integers(2, 5))
@settings(deadline=None, max_examples=300)
def test_noise_is_refused(noise: bytes, protocol: int) -> None:
    try:
        restricted_pickle.load(b"\x80" + bytes([protocol]) + noise, WHERE, dcp.ALLOWED)
    except RefusedPickle as error:
        assert "\n" not in str(error)


def test_what_a_state_dict_carries_beside_its_items_is_passed_over() -> None:
    state = collections.OrderedDict(a=1, b=2)
    vars(state)["_metadata"] = collections.OrderedDict({"": {"version": 1}})
    assert restricted_pickle.load(pickle.dumps(state, 2), WHERE, torch_names.COMMON) == {"a": 1, "b": 2}
