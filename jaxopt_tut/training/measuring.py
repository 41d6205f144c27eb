"""What `fit` does with probes: measures by them, keeps what they return, and takes it back."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from itertools import zip_longest
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int
from typing_extensions import TypeAliasType

from jaxopt_tut.probes import Measure, Probe, Snapshot, StartProbe
from jaxopt_tut.training.checkpoints import processes
from jaxopt_tut.training.scalars import check_call
from jaxopt_tut.training.steps import Carry, copied
from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import Params, PyTree

Probes = TypeAliasType("Probes", Mapping[str, Probe | tuple[StartProbe, Measure]] | None)
"""Measurements by name."""

Outward = TypeAliasType("Outward", Callable[[Params, PyTree], tuple[PyTree, PyTree]])
"""Makes a model of the user's kind, and their state, of trained arrays and the one state."""


def as_probes(probes: Any) -> dict[str, Probe]:
    """Take pairs of functions by name, and refuse all else."""
    if probes is None:
        return {}
    if not isinstance(probes, Mapping):
        found = type(probes).__name__
        raise TypeError(
            f"fit needs a dictionary of probes, such as {{'path': record_trajectory()}}, "
            f"got {found}."
        )
    found = {}
    for name, probe in probes.items():
        if not isinstance(name, str):
            raise TypeError(f"fit needs probes that are named by texts, got {name!r}.")
        is_pair = isinstance(probe, tuple) and len(probe) == 2 and all(map(callable, probe))
        if not is_pair:
            raise TypeError(
                f"fit needs a Probe(init, measure) of two functions, got {_kind(probe)} for "
                f"{name!r}."
            )
        found[name] = Probe(*probe)
        check_call("fit", "init", probe[0], ("snapshot",), f"; that of probe {name!r}")
        check_call("fit", "measure", probe[1], ("state", "snapshot"), f"; that of probe {name!r}")
    return found


class Form(NamedTuple):
    """What has to be the same in every measurement."""

    structure: Any
    leaves: tuple[str, ...]


def form_of(tree: PyTree) -> Form:
    """Describe a tree of arrays."""
    leaves = (f"{_kind(leaf)} at {name!r}" for name, leaf in named_leaves(tree))
    return Form(jax.tree.structure(tree), tuple(leaves))


def _kind(leaf: Any) -> str:
    if not hasattr(leaf, "dtype"):
        return type(leaf).__name__
    return f"{leaf.dtype}{list(leaf.shape)}"


def _require_form(begin: str, form: Form, first: Form) -> None:
    if form == first:
        return
    pairs = zip_longest(form.leaves, first.leaves, fillvalue="nothing")
    trees = [(str(form.structure), str(first.structure))]
    raise _changed(begin, *next(pair for pair in [*pairs, *trees] if pair[0] != pair[1]))


def _changed(begin: str, now: str, before: str) -> ValueError:
    return ValueError(f"{begin} of the same form each time, got {now}, before {before}.")


class Measurements:
    """The states of probes and what they measured: whole between any two measurements.

    Attributes:
      states: Of each probe, on the device; no buffer of it is donated.
      before: Those at the start of the epoch.
    """

    def __init__(
        self, probes: Mapping[str, Probe], every: int, outward: Outward, user: Mesh | None
    ):
        """Measure nothing; in the context of the mesh of the user's, if there is one."""
        self.probes, self.every = dict(probes), every
        self._outward, self._user = outward, user
        self.states: dict[str, PyTree] = {}
        self.before: dict[str, PyTree] = {}
        self._forms: dict[str, Form] = {}
        self._on_device: dict[int, dict[str, PyTree]] = {}
        self._on_host: dict[int, dict[str, PyTree]] = {}

    def begin(self, carry: Carry) -> None:
        """Make the states that the first measurements begin with."""
        if self.probes:
            snapshot = self._snapshot(carry, 0)
            with self._context():
                self.states = {
                    name: _as_state(name, probe.init(snapshot))
                    for name, probe in self.probes.items()
                }
            self.before = self.states

    def due(self, first: int, num_steps: int) -> range:
        """List the steps, of `num_steps` that follow the first, before which is measured."""
        return range(-first % self.every, num_steps if self.probes else 0, self.every)

    def measure(self, carry: Carry, step: int) -> tuple[dict[str, PyTree], dict[str, PyTree]]:
        """Measure after so many steps: the next states, and what is measured, on the device."""
        snapshot = self._snapshot(carry, step)
        states, measured = {}, {}
        with self._context():
            for name, probe in self.probes.items():
                found = probe.measure(self.states[name], snapshot)
                if not (isinstance(found, tuple) and len(found) == 2):
                    raise TypeError(
                        f"fit needs measure of probe {name!r} to return (state, measured), "
                        f"got {type(found).__name__}."
                    )
                states[name] = _as_state(name, found[0])
                begin = f"fit needs probe {name!r} to return a state"
                _require_form(begin, form_of(states[name]), form_of(self.states[name]))
                measured[name] = _as_measured(name, found[1])
                begin = f"fit needs probe {name!r} to measure a tree"
                form = form_of(measured[name])
                _require_form(begin, form, self._forms.setdefault(name, form))
        return states, measured

    def take(self, step: int, states: dict[str, PyTree], measured: dict[str, PyTree]) -> None:
        """Keep what `measure` returned."""
        self.states = states
        self._on_device[step] = measured

    def mark(self) -> None:
        """Remember the states, as an epoch begins."""
        self.before = self.states

    def go_back(self, step: int) -> None:
        """Forget what was measured from a step on, where the epoch began."""
        self.states, self._on_device = self.before, {}
        self._on_host = {at: one for at, one in self._on_host.items() if at < step}

    def settle(self) -> None:
        """Fetch what was measured."""
        fetched = jax.device_get(processes.whole(self._on_device))
        # copies: on CPU what is fetched is a view that keeps the buffer
        self._on_host |= jax.tree.map(np.array, fetched)
        self._on_device = {}

    def has(self, step: int) -> bool:
        """Tell whether was measured after so many steps."""
        return step in self._on_host or step in self._on_device

    @property
    def steps(self) -> Int[np.ndarray, "measurements"]:
        """The steps after which was measured, in order."""
        return np.asarray(sorted(self._on_host), np.int64)

    def trees(self) -> dict[str, PyTree]:
        """Stack what was fetched, by probe."""
        rows = [self._on_host[int(at)] for at in self.steps]
        if not rows:
            return {}
        return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)

    def saved(self) -> dict[str, Any]:
        """Return what was measured, but for its structure, in arrays that are not changed later."""
        self.settle()
        leaves = {name: jax.tree.leaves(tree) for name, tree in self.trees().items()}
        return {"steps": self.steps, "leaves": leaves}

    def load(self, saved: Mapping[str, Any] | None, carry: Carry) -> None:
        """Take over what was saved; only a measurement tells its structure."""
        if saved is None or not len(saved["steps"]):
            return
        _, measured = self.measure(carry, 0)
        for name, stacks in saved["leaves"].items():
            form, structure = self._forms[name], jax.tree.structure(measured[name])
            begin = f"fit needs probe {name!r} to measure a tree"
            if structure.num_leaves != len(stacks):
                raise _changed(begin, f"{structure.num_leaves} leaves", str(len(stacks)))
            for row, at in enumerate(saved["steps"]):
                one = structure.unflatten([stack[row] for stack in stacks])
                _require_form(begin, form, form_of(one))
                self._on_host.setdefault(int(at), {})[name] = one

    def _snapshot(self, carry: Carry, step: int) -> Snapshot:
        """Copy the run, as the next step donates its buffers and a probe may keep what it gets."""
        params, opt_state, state = copied((carry.params, carry.opt_state, carry.model_state))
        if self._user is not None:
            everywhere = NamedSharding(self._user, PartitionSpec())
            params, opt_state, state = jax.device_put((params, opt_state, state), everywhere)
        with self._context():
            model, own = self._outward(params, state)
        return Snapshot(step, model, opt_state, own)

    def _context(self) -> Any:
        return nullcontext() if self._user is None else jax.set_mesh(self._user)


def _as_state(name: str, state: PyTree) -> PyTree:
    """Make arrays of numbers of Python, and refuse what a checkpoint could not hold."""
    for at, leaf in named_leaves(state):
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        if not (is_key or _is_numeric(leaf)):
            raise TypeError(
                f"fit needs a state of arrays of probe {name!r}, got {_kind(leaf)} at {at!r}."
            )
    return jax.tree.map(lambda leaf: leaf if hasattr(leaf, "dtype") else jnp.asarray(leaf), state)


def _as_measured(name: str, measured: PyTree) -> PyTree:
    """Make arrays of numbers of Python, in their own precision, and refuse all else."""
    for at, leaf in named_leaves(measured):
        if not _is_numeric(leaf):
            raise TypeError(
                f"fit needs probe {name!r} to measure arrays, got {_kind(leaf)} at {at!r}."
            )
    return jax.tree.map(
        lambda leaf: leaf if isinstance(leaf, jax.Array) else np.array(leaf), measured
    )


def _is_numeric(leaf: Any) -> bool:
    """Tell numbers and arrays of them, of any precision."""
    if isinstance(leaf, jax.Array | np.ndarray | np.generic):
        return leaf.dtype == bool or jnp.issubdtype(leaf.dtype, np.number)
    return isinstance(leaf, bool | float | complex) or (
        isinstance(leaf, int) and -(2**63) <= leaf < 2**63
    )
