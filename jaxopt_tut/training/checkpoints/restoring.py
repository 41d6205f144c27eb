"""The arrays of a run, for whoever comes after it."""

import os
from collections.abc import Mapping
from pathlib import Path

import jax

from jaxopt_tut.splitting import ModelParts, split_model
from jaxopt_tut.training.checkpoints import folder, store
from jaxopt_tut.training.checkpoints.arrays import fitted
from jaxopt_tut.training.checkpoints.errors import DamagedCheckpoint
from jaxopt_tut.training.checkpoints.folder import Name
from jaxopt_tut.training.checkpoints.store import Stored
from jaxopt_tut.training.models import Packing
from jaxopt_tut.types import PyTree

BEST = {"best": "params", "best_model_state": "model_state"}
"""Without scores the last parameters are the best."""

STATES = {"params": "model_state", "best": "best_model_state"}
"""Where what a model carries beside its parameters is."""


def restore(directory: str | os.PathLike[str], like: Mapping[str, PyTree]) -> dict[str, PyTree]:
    r"""Read arrays of the newest checkpoint of a folder that is whole.

    $$\mathrm{SHA256}(\text{bytes}) = h$$

    with $h$ what the checkpoint says of each file and of each leaf: what is returned is what was
    written, or an error is raised. It may be called while the run goes on. Every process reads
    whole arrays and keeps its part.

    Args:
      directory: The folder that was given to `Checkpoint`.
      like: Trees of arrays or of `jax.ShapeDtypeStruct`, any of `"params"`, `"opt_state"`,
        `"model_state"`, and of the best epoch `"best"` and `"best_model_state"`. Parameters may be
        a model, as in `fit`. An array is laid out over devices as the one here is; for one of NumPy
        it is one of NumPy.

    Returns:
      The same dictionary with the arrays that were saved.

    Raises:
      TypeError: If `directory` is no path, or `like` no such dictionary.
      ValueError: If there is no folder or no checkpoint, or a leaf is missing, superfluous, or of
        another shape or dtype; the message has its key path.
      DamagedCheckpoint: If there are checkpoints and none is whole. (A newer one that is damaged is
        passed over: see `verify`.)

    Example:
      >>> import jax, jax.numpy as jnp, optax, tempfile
      >>> from jaxopt_tut.training import fit
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     result = fit(lambda w, x: jnp.sum((w - x) ** 2), jnp.zeros(2), optax.sgd(0.5),
      ...                  jnp.ones((4, 2)), batch_size=4, num_epochs=1, key=jax.random.key(0),
      ...                  checkpoint=directory, progress=False)
      ...     restore(directory, {"params": jnp.zeros(2)})
      {'params': Array([4., 4.], dtype=float32)}
    """
    if not isinstance(like, Mapping):
        raise TypeError(
            "restore needs a dictionary of trees, such as {'params': params}, "
            f"got {type(like).__name__}."
        )
    stored, _ = newest(existing(directory, "restore"), "restore")
    found = {}
    for name, state in STATES.items():  # a model is in two places
        if name in like:
            parts = _split(like[name])
            packing = Packing(parts.assembly, has_state=state in like)
            wanted = {name: parts.trained}
            if packing.has_state or parts.assembly.carries:
                wanted[state] = packing.pack(parts.carried, like.get(state))
            read = _read(stored, wanted)
            found[name], found[state] = packing.outward(read[name], read.get(state))
    found |= _read(stored, {name: tree for name, tree in like.items() if name not in found})
    return {name: found[name] for name in like}


def _split(model: PyTree) -> ModelParts:
    """Part what is trained from what a model carries; shapes alone are a tree as it is."""
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(model)):
        return split_model((), "restore")._replace(trained=model)
    return split_model(model, "restore")


def _read(stored: Stored, like: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """Put the arrays of each name into the tree of that name."""
    names = {at.split("'")[1] for at in stored.leaves}
    where = f"the checkpoint at step {stored.name.step}"
    found = {}
    for name, tree in like.items():
        chosen = name if name in names else BEST.get(name, name)
        found[name] = fitted(stored.leaves, {chosen: tree}, "restore", where)[chosen]
    return found


def existing(directory: str | os.PathLike[str], caller: str) -> Path:
    """Refuse what is no folder, or has no checkpoint."""
    if not isinstance(directory, str | os.PathLike):
        raise TypeError(f"{caller} needs a path as directory, got directory={directory!r}.")
    path = Path(directory).expanduser().absolute()
    if not path.is_dir():
        raise ValueError(f"{caller} needs a folder of checkpoints, got {str(path)!r}: none there.")
    if not folder.checkpoints_in(path):
        raise ValueError(f"{caller} needs a folder of checkpoints, got {str(path)!r} without one.")
    return path


def newest(path: Path, caller: str) -> tuple[Stored, dict[Name, DamagedCheckpoint]]:
    """Read the newest checkpoint that is whole, and tell which are not."""
    damaged: dict[Name, DamagedCheckpoint] = {}
    names = folder.checkpoints_in(path)
    while names:
        name = names.pop(0)
        try:
            return store.read(path, name), damaged
        except DamagedCheckpoint as error:
            if (path / str(name)).exists():
                damaged[name] = error
            else:  # the run that writes here has removed it meanwhile, after newer ones
                names = [one for one in folder.checkpoints_in(path) if one not in damaged]
    found = "; ".join(map(str, damaged.values()))
    raise DamagedCheckpoint(
        f"{caller} needs a checkpoint that is whole, got {len(damaged)} in {str(path)!r}: {found}. "
        "Nothing is begun anew here: mend them, or take another folder.",
        [one for error in damaged.values() for one in error.damage],
    )
