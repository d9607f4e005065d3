"""`grad(fun, method=ReverseMode())` against `jax.grad`, both compiled."""

import jax

import diffcompare as dc
from benchmarks._measure import Goal, details, interleaved, main, paired_ratio
from benchmarks._problems import problem

jax.config.update("jax_enable_x64", True)

CALLS = 50


def goals(name="P = 9,942, 3 layers"):
    of = problem(name)

    def call(gradient):
        compiled = jax.jit(gradient)
        return lambda: [
            jax.block_until_ready(compiled(of.params, of.x, of.y)) for _ in range(CALLS)
        ]

    contenders = {
        "jax": call(jax.grad(of.loss)),
        "diffcompare": call(dc.grad(of.loss, method=dc.ReverseMode())),
    }
    samples = interleaved(contenders, 31)
    measured = paired_ratio(samples, "diffcompare", "jax", "cpu")
    return [Goal(f"ReverseMode / jax.grad, {name}", 1.02, measured, True, details(samples))]


if __name__ == "__main__":
    raise SystemExit(main("reverse_mode", goals))
