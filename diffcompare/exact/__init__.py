"""The gradient of any JAX function to a guaranteed number of digits, by a reverse tape."""

from diffcompare.exact.gradient import exact_grad as exact_grad
from diffcompare.exact.precision import PrecisionError as PrecisionError
from diffcompare.exact.result import Errors as Errors
from diffcompare.exact.result import Exact as Exact
from diffcompare.exact.result import LeafError as LeafError
from diffcompare.exact.weights import Kink as Kink
