"""A step of folx, the forward Laplacian in JAX, compiled; see `pde_protocol`.

Runs in the peer's environment.
"""

import importlib.metadata
import os
import sys

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

import folx
import jax
import jax.numpy as jnp
from pde_protocol import answer, limit, read

points, layers = read(sys.argv[1])
parameters = [(jnp.asarray(weight.T), jnp.asarray(bias)) for weight, bias in layers]
x = jnp.asarray(points)
limit(int(sys.argv[2]))


def network(parameters, x):
    """Return the value at one point."""
    for weight, bias in parameters[:-1]:
        x = jnp.tanh(x @ weight + bias)
    return (x @ parameters[-1][0] + parameters[-1][1])[0]


def loss(parameters, x):
    """Return the mean squared Laplacian, and the mean of it."""
    found = jax.vmap(lambda y: folx.forward_laplacian(lambda z: network(parameters, z))(y).laplacian)(x)
    return jnp.mean(found**2), jnp.mean(found)


gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))


def step():
    """Return the mean Laplacian, with gradients computed."""
    (_, mean), _ = jax.block_until_ready(gradient(parameters, x))
    return mean


answer(importlib.metadata.version("folx"), step, True)
