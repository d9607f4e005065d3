"""What `MODULE_OR_FILE:FUNCTION` names, and what is said where it names nothing."""

import sys
import textwrap

import numpy as np
import pytest

from diffcompare.commands import target


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file of Python, and forgets afterwards what was loaded of it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)

    def to(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    yield to
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) is not None and (
            str(tmp_path) in str(sys.modules[name].__file__)
        ):
            del sys.modules[name]


LOSS = """
    import numpy as np
    from typing import NamedTuple

    class Params(NamedTuple):
        w: float

    def loss(w, x): return w * x
    def loss_args(): return 2.0, np.ones(3)
    def cube(x): return x ** 3
    def named(params): return params.w
    def named_args(): return Params(1.0)
    def example_args(): return np.float32(5)
    number = 3
"""


def test_a_function_comes_with_its_own_arguments(write):
    found = target.load(f"{write('one.py', LOSS)}:loss")
    assert found.name == "loss"
    assert found.args[0] == 2.0
    assert np.array_equal(found.args[1], np.ones(3))
    assert np.array_equal(found.fun(*found.args), 2 * np.ones(3))


def test_example_args_serve_all_and_what_is_no_plain_tuple_is_one_argument(write):
    path = write("one.py", LOSS)
    assert target.load(f"{path}:cube").args == (np.float32(5),)
    (params,) = target.load(f"{path}:named").args
    assert params.w == 1.0


def test_a_file_imports_its_neighbours_and_may_be_called_like_a_loaded_module(write):
    write("beside_target.py", "def f(x): return 2 * x")
    path = write("pytest.py", "from beside_target import f\ndef example_args(): return 1.0")
    assert target.load(f"{path}:f").fun(3.0) == 6.0
    assert sys.modules["pytest"] is pytest


def test_a_module_is_found_on_the_path(write, monkeypatch):
    path = write("boxed/inner.py", LOSS)
    monkeypatch.syspath_prepend(path.parent.parent)
    assert target.load("boxed.inner:cube").args == (5.0,)


@pytest.mark.parametrize("text", ["one.py", ":loss", "one.py:", "loss"])
def test_a_target_needs_a_place_and_a_function(text):
    with pytest.raises(target.TargetError, match=r"MODULE_OR_FILE:FUNCTION, such as net.py:loss"):
        target.load(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere/one.py:f", r"no file nowhere/one\.py"),
        ("nowhere.one:f", r"no module 'nowhere' .* Start the program in the folder"),
        ("json.nothing:f", r"no module 'json\.nothing'"),
    ],
)
def test_what_is_missing_is_named(text, message):
    with pytest.raises(target.TargetError, match=message):
        target.load(text)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1\nimport no_such_thing\n", r"ModuleNotFoundError in line 2 .*\n    import no_such"),
        ("def f(x)\n    pass", r"SyntaxError in line 1 .*def f\(x\)"),
        ("import sys\n\nsys.exit(3)", r"SystemExit in line 3"),
        ("def g(x): return 1\nh = lambda x: x\nk = 2", r"no function 'f'\. It has: g, h\."),
        ("f = 3", r"f in .* is no function but of type int"),
        ("def f(x): return x", r"neither f_args nor example_args\. Write: def f_args\(\)"),
        ("def f(x): return x\nexample_args = (1.0,)", r"has to be a function, but it is a value"),
        ("def f(x): return x\ndef example_args(): 1.0", r"example_args in .* returned None"),
        ("def f(x): return x\ndef f_args():\n  return 1 / 0", r"ZeroDivisionError in line 3"),
        (
            "def f(x): return x\ndef f_args(): return 1.0, 2.0",
            r"returned 2 arguments, but f\(x\) does not take them: too many positional",
        ),
        (
            "def f(x, y): return x\ndef f_args(): return [1.0, 2.0]",
            r"returned 1 argument, .* missing a required argument: 'y'\. A tuple is all",
        ),
    ],
)
def test_what_a_file_lacks_is_named_with_what_to_write(write, code, message):
    with pytest.raises(target.TargetError, match=message):
        target.load(f"{write('bad.py', code)}:f")


def test_an_error_within_a_module_is_shown_with_its_line(write, monkeypatch):
    path = write("broken_box/inner.py", "\n\n1 / 0")
    monkeypatch.syspath_prepend(path.parent.parent)
    with pytest.raises(target.TargetError, match=r"ZeroDivisionError in line 3 of .*inner\.py"):
        target.load("broken_box.inner:f")


def test_a_function_that_fails_is_shown_with_its_line_and_the_shapes_of_its_arguments(write):
    path = write(
        "shapes.py",
        """
        import jax.numpy as jnp
        def product(w, x):
            return jnp.sum(w @ x)
        def product_args(): return {"w": jnp.ones((3, 2), "float32")}["w"], jnp.ones(3, "float32")
        """,
    )
    with pytest.raises(target.TargetError) as caught:
        target.load(f"{path}:product")
    message = str(caught.value)
    assert "product failed with the values of product_args, float32[3, 2], float32[3]" in message
    assert f"in line 4 of {path}" in message
    assert message.endswith("return jnp.sum(w @ x)")


def test_a_function_of_the_host_is_shown_with_its_line_where_it_cannot_be_derived(write):
    from diffcompare.commands.derive import derive

    path = write(
        "host.py",
        """
        import jax.numpy as jnp
        def host(x):
            return float(x) ** 2
        def host_args(): return (jnp.ones((), "float32"),)
        """,
    )
    with pytest.raises(target.TargetError) as caught:
        derive(f"{path}:host")
    message = str(caught.value)
    assert message.startswith("host runs, but JAX cannot trace it: ConcretizationTypeError")
    assert f"in line 4 of {path}" in message
    assert "return float(x) ** 2" in message
    assert "/symbolic/" not in message
    assert message.endswith("python -m diffcompare compare")
