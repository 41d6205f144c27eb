"""What `fit` refuses before the first step."""

import jax.numpy as jnp

from jaxopt_tut.training.data import DeviceData, averaging_dtype
from jaxopt_tut.training.losses import loss_of_first_batch


def check_numbers(batch_size, num_epochs, steps_per_call, diagnose_every, size, mesh) -> None:
    """Refuse numbers out of range."""
    if not 1 <= batch_size <= size:
        raise ValueError(
            f"fit needs 1 <= batch_size <= number of examples ({size}), "
            f"got batch_size={batch_size}."
        )
    if num_epochs < 0:
        raise ValueError(f"fit needs num_epochs >= 0, got num_epochs={num_epochs}.")
    if steps_per_call is not None and steps_per_call < 1:
        raise ValueError(f"fit needs steps_per_call >= 1, got steps_per_call={steps_per_call}.")
    if diagnose_every is not None and diagnose_every < 1:
        raise ValueError(f"fit needs diagnose_every >= 1, got diagnose_every={diagnose_every}.")
    if mesh is not None and batch_size % mesh.shape[mesh.axis_names[0]]:
        raise ValueError(
            f"fit needs a batch_size divisible by the mesh's first axis "
            f"({mesh.shape[mesh.axis_names[0]]}), got batch_size={batch_size}."
        )


def empty_record(loss_fn, params, data: DeviceData, batch_size, num_steps, model_state):
    """Look at the loss's shapes: check that it is a scalar and learn its metrics' names."""
    loss, aux = loss_of_first_batch.eval_shape(
        params, data, model_state, loss_fn=loss_fn, batch_size=batch_size
    )
    if "loss" in aux.metrics:
        raise ValueError("fit needs metrics by other names than 'loss', which is the loss itself.")
    record = {"loss": loss, **aux.metrics}
    for name, value in record.items():
        if value.shape != ():
            raise ValueError(f"fit needs a scalar {name}, got shape {value.shape}.")
    return {
        name: jnp.zeros(num_steps, averaging_dtype(value.dtype)) for name, value in record.items()
    }
