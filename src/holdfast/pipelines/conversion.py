"""Plans the conversion of a checkpoint: what it is, what its model is, and under which name the result is kept.

The key holds contents: the checkpoint's save, the model's config and tokenizer, the overrides, the dtype. A checkpoint
that was written anew at the same path is another one, and two copies of one are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.checkpoints import model_files, placing, safetensors_file, source_model, verify
from holdfast.checkpoints import recognise as formats
from holdfast.checkpoints.plan import reads_base
from holdfast.checkpoints.recognise import ADAPTER_CONFIG, Recognised
from holdfast.core import artifact, kind
from holdfast.core.adopt import adopt
from holdfast.core.errors import DamagedFile, UnreadableFile, UserError
from holdfast.core.plan import REPEATABLE, Plan, Reader, State
from holdfast.core.record import Record
from holdfast.core.stage import Ref
from holdfast.core.store import Store
from holdfast.pipelines import points
from holdfast.stages import convert

FOLDER = "hf_eval_checkpoints"
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
"""What of a model directory a conversion reads beside the names and shapes of its tensors."""
PLACES = ("weights", "policy", "model", "consolidated", "actor", "huggingface")
"""Names of directories that say nothing of which checkpoint it is."""
HASH = 16


@dataclass(frozen=True)
class Wish:
    """What a person asks for. `config` is a trainer's config.yaml, or a model directory; `model` names the source model
    where neither that nor the checkpoint does; `out` is where the result is wanted beside the cache.
    """

    checkpoint: Path
    config: Path | None = None
    model: str | None = None
    dtype: str = "auto"
    adapter: str = "merge"
    out: Path | None = None
    skip: bool = False
    force: bool = False


@dataclass(frozen=True)
class Conversion:
    """`record` is the stage that converts, None where there is nothing to do; `model` is the model directory that comes
    out. `says` is what was recognised.
    """

    says: str
    model: Ref
    record: Record | None
    adopted: tuple[Record, ...]

    def plan(self) -> Plan:
        return Plan([self.record] if self.record else [], self.adopted)


def plan(wish: Wish, store: Store) -> Conversion:
    """How a checkpoint becomes a model directory.

    Raises:
        UserError: nothing that is known, a model that cannot be found, or with `skip` no conversion that is complete.
    """
    if wish.skip and wish.out:
        return _ready(wish.out, store)
    found = formats.recognise(wish.checkpoint)
    if found.format == "model directory" and wish.dtype == "auto" and not owner(store, found.weights):
        return _ready(wish.checkpoint, store)
    sources = _Sources(wish, found, store)
    inputs = dict(sources.inputs())
    params = {name: value for name, value in sources.params().items() if value not in ({}, "", None)}
    stage = kind.load("convert").stage(params, inputs)
    name = f"{identifier(found.weights)}_{stage.key[:HASH]}"
    home = points.known_home(store, stage) or kind.load("convert").home(name)
    record = Record(stage, Path(home).name, home, _placement(wish))
    planned = Conversion(found.sentence, Ref(stage.key), record, tuple(sources.adopted))
    if wish.skip:
        _check_there(planned, store)
    return planned


def again(planned: Conversion, store: Store, *, force: bool) -> set[str]:
    """The key, where the conversion is to be made once more: by `force`, or since it went from the cache."""
    if planned.record is None:
        return set()
    state = Reader(store, planned.plan()).standing(planned.record).state
    taken = state is State.EVICTED or (force and state in REPEATABLE)
    return {planned.record.key} if taken else set()


def finish(wish: Wish, planned: Conversion, store: Store, *, verify: bool, say: Callable[[str], None]) -> None:
    """What is left to do once the conversion is complete: the result at a path of one's own, the comparison.

    Raises:
        UserError: other files lie at that path, or the result is not what the checkpoint says.
    """
    assert planned.record
    home = store.home(planned.record)
    if wish.out and not placing.is_placed(home, wish.out.absolute()):
        placing.place(home, wish.out.absolute())
    if verify:
        say(compare(planned, store))


def compare(planned: Conversion, store: Store) -> str:
    """Compares both sides tensor by tensor; returns what was compared.

    Raises:
        UserError: they differ; which tensor, and where.
    """
    assert planned.record
    stage = planned.record.stage
    implementation = kind.load("convert")
    reader = Reader(store, planned.plan())
    inputs = {name: reader.home_of(ref) for name, ref in stage.inputs.items()}
    params = implementation.parse(stage.params)
    wanted = convert.plan(params, {name: path for name, path in inputs.items() if path})
    home = store.home(planned.record)
    written = safetensors_file.read(sorted(home.glob("*.safetensors")))
    found = verify.compare(wanted.tensors, written, wanted.dtype)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise UserError(f"{home} is not what {inputs['checkpoint']} says: {found[0]}{more}", "--force-conversion")
    return f"verified: {len(wanted.tensors)} tensors are equal on both sides"


def identifier(weights: Path) -> str:
    """The nearest `step_N`, otherwise the first name above that says something."""
    step = formats.find_step(weights)
    if step:
        return step.name
    places = [weights, *weights.parents]
    return next((each.name for each in places if each.name and each.name not in PLACES), "checkpoint")


def _placement(wish: Wish) -> dict[str, Any]:
    placed: dict[str, Any] = {"gpus": 0, "nodes": 1}
    return {**placed, "params": {"out": str(wish.out.absolute())}} if wish.out else placed


def _ready(directory: Path, store: Store) -> Conversion:
    found = formats.recognise(directory)
    if found.format != "model directory":
        raise UserError(f"{directory} is {found.sentence}, not a model directory", "leave out --skip-conversion")
    record = adopt(store, found.weights)
    return Conversion(f"{found.sentence}: nothing to convert", Ref(record.key), None, (record,))


def _check_there(planned: Conversion, store: Store) -> None:
    assert planned.record
    standing = Reader(store, planned.plan()).standing(planned.record)
    if standing.state is not State.COMPLETE:
        raise UserError(
            f"--skip-conversion, and {store.home(planned.record)} is {standing.state}: {standing.reason}",
            "leave out --skip-conversion, or name a converted checkpoint with --hf-ckpt-path",
        )


class _Sources:
    """What a conversion takes in, as inputs of its stage."""

    def __init__(self, wish: Wish, found: Recognised, store: Store) -> None:
        self.wish = wish
        self.found = found
        self.store = store
        self.adopted: list[Record] = []
        self.run = self._run_config()

    def inputs(self) -> Iterator[tuple[str, Ref]]:
        yield "checkpoint", self._checkpoint()
        model = self._model()
        if model and self.wish.adapter == "merge" and reads_base(self.found):
            yield "base", self._adopt(model)
        elif model and model != self.found.weights:
            yield "model", self._adopt(model, SMALL_FILES)
        tokenizer = self.found.tokenizer
        if tokenizer and tokenizer not in (self.found.weights, model):
            yield "tokenizer", self._adopt(tokenizer, SMALL_FILES)

    def params(self) -> Mapping[str, Any]:
        adapter = self.wish.adapter if self.found.format == "adapter" else None
        overrides = dict(self.run.overrides) if self.run else {}
        template = self.run.chat_template if self.run and not self.found.tokenizer else None
        return {"dtype": self.wish.dtype, "config": overrides, "chat_template": template, "adapter": adapter}

    def _checkpoint(self) -> Ref:
        return owner(self.store, self.found.weights) or self._adopt(self.found.weights)

    def _adopt(self, path: Path, only: Iterable[str] = ()) -> Ref:
        record = adopt(self.store, path, tuple(only))
        self.adopted.append(record)
        return Ref(record.key)

    def _run_config(self) -> source_model.RunConfig | None:
        path = self.wish.config or self.found.run_config
        if path is None or path.is_dir() or (self.wish.model and not self.wish.config):
            return None
        return source_model.read_run_config(path)

    def _model(self) -> Path | None:
        """The directory of the source model, None where the checkpoint brings its own."""
        if self.wish.config and self.wish.config.is_dir():
            return self.wish.config.absolute()
        name = self.wish.model or (self.run.model if self.run else None)
        if self.found.model and not self.wish.model:
            return self.found.model
        if name:
            return source_model.resolve(name).directory
        if self.found.format == "adapter":
            return self._base() if self.wish.adapter == "merge" else None
        raise UserError(
            f"{self.wish.checkpoint} is {self.found.sentence}, which does not say what its model is",
            "give the config.yaml of its run, --dcp-config FILE, or the model that it began from, --model NAME",
        )

    def _base(self) -> Path:
        path = self.found.weights / ADAPTER_CONFIG
        named = model_files.read_json(path).get("base_model_name_or_path")
        if not isinstance(named, str) or not named:
            raise UserError(f"{path} does not name its base model", "name it: --model NAME")
        return source_model.resolve(named).directory


def owner(store: Store, weights: Path) -> Ref | None:
    """The artifact of this root that a path is, or is the `model/` of."""
    for path in (weights, weights.parent):
        if not path.resolve().is_relative_to(store.root.resolve()):
            return None
        try:
            manifest = artifact.read(path)
            if manifest:
                store.read(manifest.key)
                return Ref(manifest.key, manifest.path)
        except (FileNotFoundError, DamagedFile, UnreadableFile):
            continue
    return None
