"""The rules under which every test runs."""

import os

# Two devices, so that what is spread over several is tested on any machine. Most of the time goes
# into compiling programs that run once, for which the first level of optimization is enough; set
# XLA_FLAGS to the first of these to run what a user runs, as .ci/run does on the newest versions.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=1",
)

import hypothesis
import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The first call of a function compiles, so that no deadline is fair. Examples are the same on
# every run: a suite that fails now and then tells nobody what broke.
hypothesis.settings.register_profile(
    "diffcompare", deadline=None, derandomize=True, max_examples=50, database=None
)
hypothesis.settings.load_profile("diffcompare")
