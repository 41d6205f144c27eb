r"""How much a program's result changes when its inputs move, without subtracting large numbers.

Every value is a pair $(u, \Delta u)$. Where $f$ is a sum, a product or one of a few functions
with an addition theorem, the change of $v = f(u)$ follows from the changes of $u$,

$$\Delta(u + w) = \Delta u + \Delta w, \qquad \Delta(u w) = \Delta u\,(w + \Delta w) + u\,\Delta w,
  \qquad \Delta e^u = e^u\,(e^{\Delta u} - 1),$$

with a rounding relative to $\Delta v$ and not to $v$; elsewhere it is $f(u + \Delta u) - f(u)$.
No derivative is used. A leaf that makes up a part in 1e24 of a sum still shows.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxopt_tut import jaxprs
from jaxopt_tut.autodiff.widening import Widened, is_inexact, literal, widened
from jaxopt_tut.autodiff.zeros import zeros


class _Moved(NamedTuple):
    """A value and its change: None where it stays; the new value where it is no real number."""

    base: Any
    change: Any

    @property
    def move(self) -> Any:
        """The change, with zeros where the value stays."""
        return zeros(self.base) if self.change is None else self.change

    @property
    def there(self) -> Any:
        """The value after the move."""
        if self.change is None:
            return self.base
        return lax.add(self.base, self.change) if is_inexact(self.base) else self.change


# Linear in all floating operands together; the others must stay.
_LINEAR = frozenset(
    {"add", "add_any", "broadcast_in_dim", "complex", "concatenate", "convert_element_type"}
    | {"copy", "cumsum", "dynamic_slice", "dynamic_update_slice", "gather", "imag", "neg", "pad"}
    | {"real", "reduce_sum", "reduce_window_sum", "reshape", "rev", "scatter-add", "slice"}
    | {"squeeze", "sub", "transpose"}
)
_BILINEAR = frozenset({"mul", "dot_general", "conv_general_dilated"})


class Differenced(Widened):
    """A widened program that returns its values and their changes."""

    def changes(self, leaves: Sequence[Any], moves: Sequence[Any]) -> tuple[list, list]:
        """Evaluate, and move by one change a leaf (None where it stays).

        Return the values, and the changes of those that are floating.
        """
        found = self._follow(self.closed, [_Moved(*pair) for pair in zip(leaves, moves)])  # noqa: B905
        return [one.base for one in found], [one.move for one in found if is_inexact(one.base)]

    def _follow(self, closed: Any, values: Sequence[_Moved]) -> list[_Moved]:
        jaxpr = jaxprs.open_jaxpr(closed)
        env = {
            var: _Moved(widened(value), None)
            for var, value in zip(jaxpr.constvars, jaxprs.constants(closed), strict=True)
        }
        env.update(zip(jaxpr.invars, values, strict=True))
        read = lambda atom: _Moved(literal(atom), None) if jaxprs.is_literal(atom) else env[atom]
        for eqn in jaxpr.eqns:
            outputs = self._step(eqn, [read(atom) for atom in eqn.invars])
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _step(self, eqn: Any, values: list[_Moved]) -> Sequence[_Moved]:
        if jaxprs.kind_of_call(eqn) in ("jit", "remat", "custom_jvp", "custom_vjp"):
            return self._follow(jaxprs.called_jaxpr(eqn), values)
        if eqn.primitive.name == "reduce_precision":
            return values
        here = self.apply(eqn, [value.base for value in values])
        if all(value.change is None for value in values):
            return [_Moved(value, None) for value in here]
        change = self._change(eqn, values, here)
        if change is not None and eqn.primitive.name in _LINEAR:
            return [_Moved(here[0], change)]
        there = self.apply(eqn, [value.there for value in values])
        if change is not None:  # beside an infinity a formula may have no answer
            known = jnp.isfinite(change)
            return [_Moved(here[0], jnp.where(known, change, _apart(here[0], there[0])))]
        return [
            _Moved(a, _apart(a, b) if is_inexact(a) else b)
            for a, b in zip(here, there, strict=True)
        ]

    def _change(self, eqn: Any, values: list[_Moved], here: Sequence[Any]) -> Any:
        """Return the change of a step's one result if there is a formula for it, else None."""
        name = eqn.primitive.name
        if not is_inexact(here[0]):
            return None
        if name == "select_n":
            return self._selected(eqn, values, here)
        if any(value.change is not None and not is_inexact(value.base) for value in values):
            return None
        change = [value.move for value in values]
        first = values[0]
        if name in _LINEAR:
            moves = [
                d if is_inexact(value.base) else value.base
                for value, d in zip(values, change, strict=True)
            ]
            return self.apply(eqn, moves)[0] if any(map(is_inexact, moves)) else None
        if name in _BILINEAR:
            a, b = values
            one = None if a.change is None else self.apply(eqn, [a.change, b.there])[0]
            two = None if b.change is None else self.apply(eqn, [a.base, b.change])[0]
            return two if one is None else one if two is None else lax.add(one, two)
        if name == "div":
            return (change[0] - here[0] * change[1]) / values[1].there
        if name == "square" or (name == "integer_pow" and eqn.params["y"] == 2):
            return change[0] * (first.base + first.there)
        if name in ("max", "min"):
            other = values[1]
            same = (first.base >= other.base) == (first.there >= other.there)
            takes_first = (first.base >= other.base) == (name == "max")
            apart = self.apply(eqn, [first.there, other.there])[0] - here[0]
            return jnp.where(same, jnp.where(takes_first, change[0], change[1]), apart)
        formula = _ADDITION.get(name)
        return None if formula is None else formula(first.base, change[0], here[0], first.there)

    def _selected(self, eqn: Any, values: list[_Moved], here: Sequence[Any]) -> Any:
        which, *cases = values
        chosen = self.apply(eqn, [which.base, *(case.move for case in cases)])[0]
        if which.change is None:
            return chosen
        apart = self.apply(eqn, [value.there for value in values])[0] - here[0]
        return jnp.where(which.base == which.change, chosen, apart)


def _apart(here: Any, there: Any) -> Any:
    """Subtract; two equal infinities are no distance apart."""
    return jnp.where(here == there, jnp.zeros_like(here), lax.sub(there, here))


# (where it was, its change, the value there, where it is) -> the change of the value.
_ADDITION: dict[str, Callable] = {
    "exp": lambda _, d, y, __: y * jnp.expm1(d),
    "log": lambda x, d, _, __: jnp.log1p(d / x),
    "sin": lambda x, d, _, __: 2 * jnp.cos(x + d / 2) * jnp.sin(d / 2),
    "cos": lambda x, d, _, __: -2 * jnp.sin(x + d / 2) * jnp.sin(d / 2),
    "tanh": lambda _, d, y, there: jnp.tanh(d) * (1 - y * jnp.tanh(there)),
}
