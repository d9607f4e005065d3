"""Numbers and figures in words."""

import math

from experiments._claims import Judged, Number

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SIGNS = {"=": "=", "<": "<", "<=": "≤", ">": ">", ">=": "≥"}
# In between, a number is written without a power of ten.
_SMALL, _LARGE = 1e-3, 1e6

# What a figure shows, for those who cannot see it. Of an experiment that is not here, the first
# line of its docstring says it.
PICTURES = {
    "accuracy": "Six histograms of the errors of gradients in units of the last place, on a "
    "logarithmic axis: three problems in float32 and in float64. Reverse mode, symbolic and "
    "complex step lie together near one unit, central differences far to the right. Below, a "
    "table of seven functions at points where methods lose digits.",
    "activations": "Eight activation functions with their derivatives; the derivative at the kink "
    "by each method; the largest difference between methods away from kinks, at the level of "
    "rounding; the accuracy of one linear layer, three linear layers and three layers with "
    "ReLU, a point for each seed; and that of one network with each activation, a point for each "
    "seed, over a band of the seeds of ReLU.",
    "backpropagation": "Computational graphs of three functions with values above the wires in "
    "green and gradients below in red, forward and then backward: the scalar example, the "
    "sigmoid, and a two-layer network whose arrays are heat maps. Below, multiplications against "
    "the number of hidden layers: least with shared gradients, most with a forward derivative "
    "for each parameter.",
    "classification": "The five steps: samples of each digit, the three models as boxes, the loss "
    "of one image, training and held-out loss against the epoch, accuracy on unseen images, and "
    "some of these with what was predicted.",
    "closed_forms": "Closed forms and steps of the gradients of networks with two and three "
    "layers, for two losses, as formulas; below, the number of nodes against width, which is "
    "constant, and against depth, which is a line, and the length of the formulas.",
    "cost": "Time, memory and passes of a gradient by each method against the number of "
    "parameters, on logarithmic axes, with a cross where a method ends. Differences, complex step "
    "and forward mode rise as the square; reverse mode and the derived programs stay close to one "
    "evaluation, to which the last panel compares them.",
    "decision_boundaries": "Regions of the plane that each model gives to each class, for spiral, "
    "rings and XOR: one straight line for the linear model, more and more folded with the number "
    "of hidden units. Below, accuracy and linear regions against the units, and three lines with "
    "their normals.",
    "difference_cost": "Time and memory of a gradient against the number of weights, on "
    "logarithmic axes: differences as a black box and other libraries rise as the square, "
    "incremental differences more slowly, reverse mode stays flat.",
    "error_bounds": "Claimed against true error of derivatives for five classes of random "
    "functions and several tools, with the diagonal below which a tool claims too little; and the "
    "share that each tool covers.",
    "expression_swell": "Operations against the size of the problem, on a logarithmic axis: "
    "formulas of derivatives grow until their budget stops them, programs and matrix forms stay "
    "low.",
    "gradient_checking": "A table for each checker: rows are models without a mistake and with "
    "planted ones, columns are precisions, and a cell says which share was accused.",
    "inpainting": "Digits and patches of a photograph with holes, as filled by a mean image, least "
    "squares, a harmonic fill and a network, beside the truth; the signal-to-noise ratio of each "
    "for every seed; and the graph of the loss.",
    "jacobians": "Heat maps of the Jacobians of a matrix product and of an elementwise product by "
    "three methods, which look the same, and their transpose; and the four factors of a chain, "
    "with their shapes.",
    "loss_landscape": "The training loss along filter-normalised directions, steeper for large "
    "batches; the same for other weights of the same function; two planes with level lines; the "
    "path of the optimizer in its best plane; and two measures of sharpness against each other.",
    "overfitting": "Training loss falls with the number of units while the loss on unseen points "
    "rises; the same against the steps of training; and the classes in the plane by the best "
    "and by the largest model, whose boundary wraps around single points.",
    "precision": "Errors of function values in units of the rounding of their precision, by the "
    "way they are compiled and multiplied; and errors of second derivatives by each method in four "
    "precisions.",
    "step_size": "Relative error of the gradient against the step for a tanh and a ReLU network in "
    "four precisions, on logarithmic axes: with tanh a V whose lowest point lies deeper for "
    "higher order and precision, with ReLU a line that ends in a jump where a kink is crossed. "
    "Horizontal lines show automatic and symbolic differentiation far below.",
    "stochastic_gradients": "Spread of batch gradients against the batch size, a line of slope "
    "minus one half, and the error of their mean, at the level of rounding; the component along "
    "the full gradient; and the training loss for four batch sizes, by steps and by examples.",
    "templates": "A digit beside the table of its pixels; the two classes that are confused most; "
    "the confusion matrix; and the rows of the weights as images: ten of the linear model, a "
    "hundred of the network with small and decaying weights, some of them empty, and a hundred "
    "from another start, noisier; and what each class makes of each template.",
    "training_by_method": "Training loss with the gradient of eight methods: all curves coincide "
    "but that of central differences with h = 1e-6 in float32; the angle to the exact gradient; "
    "and bars of the passes and of the time that one gradient takes.",
}


def number(value: float) -> str:
    """Returns a number as a reader likes it.

    Example:
        >>> number(13), number(1347.0), number(0.98632), number(2.2204e-16), number(float("inf"))
        ('13', '1,347', '0.9863', '2.22×10⁻¹⁶', '∞')
    """
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == int(value) and abs(value) < _LARGE:
        return f"{int(value):,}"
    if _SMALL <= abs(value) < _LARGE:
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def found(each: Number) -> str:
    """Returns the value of a number with its unit."""
    return f"{number(each.value)} {each.unit}".rstrip()


def bound(each: Number) -> str:
    r"""Returns the bound that a number has to keep; empty where there is none.

    Example:
        >>> bound(Number("error", 1.0, "<=", 0.01)), bound(Number("images", 8))
        ('≤\xa00.01', '')
    """
    # No line breaks between the two.
    return f"{_SIGNS[each.relation]}\N{NO-BREAK SPACE}{number(each.bound)}" if each.relation else ""


def deciding(judged: Judged) -> list[Number]:
    """Returns the numbers that say most: what broke its bound, or the first that kept it."""
    if judged.found is None:
        return []
    bounded = [each for each in judged.found.numbers if each.relation]
    broken = [each for each in bounded if not each.is_kept]
    outside = [each for each in judged.found.otherwise if not each.is_kept]
    return broken[:1] or [*bounded[:1], *outside[:1]]


def sentence(each: Number) -> str:
    r"""Returns a number in one line.

    Example:
        >>> sentence(Number("error", 1e-3, "<", 0.01)), sentence(Number("mistakes", 1, ">=", 8))
        ('error: 0.001 (<\xa00.01)', 'mistakes: 1 (not ≥\xa08)')
    """
    limit = bound(each) if each.is_kept else f"not {bound(each)}"
    return f"{each.label}: {found(each)}" + (f" ({limit})" if limit else "")
