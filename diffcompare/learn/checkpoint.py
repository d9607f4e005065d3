"""Checkpoints of training: whole, verified, or absent.

A checkpoint is a folder `epoch-00000012` with the arrays, which orbax writes, a record of the
epochs so far, and a manifest with the SHA-256 of every file. It is made under another name and
renamed when it is complete, so a run that is killed leaves a whole checkpoint or none.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from diffcompare import _files
from diffcompare.learn.errors import CheckpointError
from diffcompare.learn.history import Epoch, from_json, to_json

PyTree = Any

_PREFIX, _ARRAYS, _RECORD, _MANIFEST = "epoch-", "arrays", "record.json", "manifest.json"
# What is being written, or removed, has a name that is not one of a checkpoint.
_UNFINISHED = ".unfinished-"
_KEPT = 2


class Saved(NamedTuple):
    """What a checkpoint holds."""

    state: PyTree
    epochs: list[Epoch]


def save(folder: Path, state: PyTree, epochs: list[Epoch], conditions: Mapping[str, Any]) -> None:
    """Writes a checkpoint of the epochs so far, and removes all but the newest two.

    Every process of a run calls it; the first one writes.

    Args:
        folder: Where the checkpoints are; it is created when there is none.
        state: A pytree of arrays, the same on every device.
        epochs: The epochs so far.
        conditions: What a run that goes on has to have in common with this one.
    """
    target = folder / f"{_PREFIX}{len(epochs):08}"
    unfinished = folder / f"{_UNFINISHED}{target.name}"
    if _is_first():
        folder.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(folder)
        unfinished.mkdir()
    _wait("diffcompare: a checkpoint begins")
    with _orbax().StandardCheckpointer() as checkpointer:
        checkpointer.save((unfinished / _ARRAYS).absolute(), _named(state))
    if _is_first():
        record = {
            "conditions": dict(conditions),
            "epochs": [to_json(number, epoch) for number, epoch in enumerate(epochs)],
        }
        _files.write_atomically(unfinished / _RECORD, json.dumps(record).encode())
        files = _digests(unfinished)
        manifest = {"files": files, "sha256": _digest(files)}
        _files.write_atomically(unfinished / _MANIFEST, json.dumps(manifest, indent=1).encode())
        # One of the same epoch can only be of a run that this one repeats.
        _remove(target)
        os.replace(unfinished, target)
        for old in _checkpoints(folder)[:-_KEPT]:
            _remove(old)
    _wait("diffcompare: a checkpoint ends")


def load(folder: Path, like: PyTree, conditions: Mapping[str, Any]) -> Saved | None:
    """Returns what the newest checkpoint of a folder holds, and None where there is none.

    Args:
        folder: Where the checkpoints are.
        like: A state; the one that is returned has its structure, dtypes and devices.
        conditions: What `save` was given has to equal them.

    Raises:
        CheckpointError: The checkpoint was truncated or altered, or cannot be read.
        ValueError: It is of a run under other conditions.
    """
    checkpoints = _checkpoints(folder)
    if not checkpoints:
        return None
    newest = checkpoints[-1]
    _verify(newest)
    record = json.loads((newest / _RECORD).read_bytes())
    _check_conditions(newest, record["conditions"], json.loads(json.dumps(dict(conditions))))
    wanted = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
        for name, leaf in _named(like).items()
    }
    try:
        with _orbax().StandardCheckpointer() as checkpointer:
            named = checkpointer.restore((newest / _ARRAYS).absolute(), wanted)
    except Exception as error:
        raise CheckpointError(f"{newest} cannot be read: {error}{_way_out(newest)}") from error
    return Saved(_unnamed(named, like), [from_json(epoch) for epoch in record["epochs"]])


def fingerprint(tree: PyTree) -> str:
    """Returns a digest of the structure, shapes, dtypes and entries of a pytree of arrays."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.ascontiguousarray(leaf)
        name = f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}"
        digest.update(name.encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _named(state: PyTree) -> dict[str, jax.Array]:
    """Returns the arrays by their paths, without those that hold nothing, which orbax refuses.

    A key is saved as the numbers that it is.
    """
    named = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if leaf.size:
            named[jax.tree_util.keystr(path)] = leaf
    return named


def _unnamed(named: Mapping[str, jax.Array], like: PyTree) -> PyTree:
    def leaf(path, old):
        if not old.size:
            return old
        found = named[jax.tree_util.keystr(path)]
        if jnp.issubdtype(old.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(found, impl=jax.random.key_impl(old))
        return found

    return jax.tree_util.tree_map_with_path(leaf, like)


def _checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints of a folder, the newest last."""
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if path.is_dir())


def _verify(checkpoint: Path) -> None:
    try:
        manifest = json.loads((checkpoint / _MANIFEST).read_bytes())
        files, digest = manifest["files"], manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{checkpoint / _MANIFEST} cannot be read: {error}{_way_out(checkpoint)}"
        ) from error
    if _digest(files) != digest:
        raise CheckpointError(
            f"{checkpoint / _MANIFEST} is not what was written.{_way_out(checkpoint)}"
        )
    found = _digests(checkpoint)
    for name in sorted({*files, *found}):
        if files.get(name) != found.get(name):
            state = "missing" if name not in found else "new" if name not in files else "altered"
            raise CheckpointError(
                f"{checkpoint / name} is {state}, so the checkpoint is not what was written."
                f"{_way_out(checkpoint)}"
            )


def _way_out(checkpoint: Path) -> str:
    return f" Remove the folder {checkpoint} to go on from the one before, or from the start."


def _check_conditions(checkpoint: Path, saved: Mapping, now: Mapping) -> None:
    differing = [name for name in {**saved, **now} if saved.get(name) != now.get(name)]
    if differing:
        told = "; ".join(f"{name} was {saved.get(name)}, now {now.get(name)}" for name in differing)
        raise ValueError(
            f"{checkpoint} is of another run: {told}. Give fit what it was given then, or another "
            "folder."
        )


def _digests(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file but the manifest, by its path in the folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / _MANIFEST
    }


def _digest(files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _remove(checkpoint: Path) -> None:
    """Removes a checkpoint; one that is removed in part must not have the name of one."""
    if checkpoint.exists():
        gone = checkpoint.with_name(f"{_UNFINISHED}removed-{checkpoint.name}")
        os.replace(checkpoint, gone)
        shutil.rmtree(gone)


def _remove_unfinished(folder: Path) -> None:
    for left in folder.glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(left)


def _is_first() -> bool:
    return jax.process_index() == 0


def _wait(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _orbax() -> Any:
    try:
        import orbax.checkpoint
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "checkpoints are written by orbax-checkpoint, which is not installed. Install the "
            "extra: pip install 'diffcompare[experiments]'."
        ) from error
    return orbax.checkpoint
