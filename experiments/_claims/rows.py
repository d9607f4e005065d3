"""The rows of the lecture "Introduction to Neural Networks", in our words and in its order."""

from typing import NamedTuple


class Row(NamedTuple):
    """One system, formula, figure or claim of the lecture."""

    number: int
    title: str
    words: str
    latex: str = ""
    is_context: bool = False  # there is nothing to test


ROWS = (
    Row(1, "Learned pipelines", "Why imaging moves from programs to learned models: the setting "
        "of the lecture, and nothing that a number could decide.", is_context=True),
    Row(2, "Handwritten digits", "Digits written by many hands, shown as small grey images."),
    Row(3, "What a computer sees", "An image is a table of numbers, one for each pixel."),
    Row(4, "Alike and unlike", "Images of one class vary, and images of two classes can be alike: "
        "is it a four or a nine?"),
    Row(5, "No program by hand", "Nobody can write down the rules of a function that takes an "
        "image and returns its digit; it is learned.",
        r"\mathrm{image} \mapsto \mathrm{class}"),
    Row(6, "Supervised learning", "Five steps: collect labelled images, choose a model, choose a "
        "loss, train, and evaluate on images that were not trained on."),
    Row(7, "The linear model", "One matrix turns pixels into a score for each class; the highest "
        "score wins.", r"f(x, W) = W x + b"),
    Row(8, "Inner products", "A score is the inner product of the image with one row of the "
        "matrix, and is zero on a line, a plane or a hyperplane.",
        r"f_i(x) = \langle w_i, x \rangle + b_i"),
    Row(9, "Rows as filters", "Each row of the matrix has the shape of an image: a learned "
        "template of its class."),
    Row(10, "Planes only", "A linear classifier separates classes by planes, and nothing else."),
    Row(11, "Multilayer perceptrons", "Matrices with a nonlinearity between them, two or three "
        "of them.", r"W_2 \max(0, W_1 x), \quad W_3 \max(0, W_2 \max(0, W_1 x))"),
    Row(12, "Without a nonlinearity", "Layers without a nonlinearity are one matrix: depth alone "
        "adds nothing.", r"W_3 W_2 W_1 x = W x"),
    Row(13, "Activation functions", "There are many to choose from; the ReLU is a good default."),
    Row(14, "Shapes", "The shapes of the weights follow from the sizes of input, hidden layer and "
        "output, here with a hundred hidden units.",
        r"x \in \mathbb{R}^{D}, \; W_1 \in \mathbb{R}^{H \times D}, \; "
        r"W_2 \in \mathbb{R}^{C \times H}"),
    Row(15, "Shared templates", "The hundred rows of the first matrix are templates of shapes, "
        "which the classes share."),
    Row(16, "Bent boundaries", "With a nonlinearity the boundary between classes bends, the more, "
        "the more units and layers there are."),
    Row(17, "Overfitting", "More parameters are not always better: what counts is the loss on "
        "points that were not trained on."),
    Row(18, "Inpainting", "A network sees an image with a hole, and predicts what is missing."),
    Row(19, "Pairs to learn from", "Step one: images with a hole, each with the whole image as "
        "its target."),
    Row(20, "The same network", "Step two: the network for classes serves for images too, with "
        "an output for each pixel.", r"\theta = \{W_1, W_2\}"),
    Row(21, "A loss for images", "Step three: half of the squared error, summed over the pixels.",
        r"L = \frac{1}{2} \|y - \hat{y}\|^2, \quad "
        r"\frac{\partial L}{\partial \hat{y}} = \hat{y} - y"),
    Row(22, "The loss as a graph", "The loss is a graph of simple operations.",
        r"L = \frac{1}{2} \|y - W_2 \sigma(W_1 x)\|^2"),
    Row(23, "Gradient descent", "A step against the gradient, again and again.",
        r"\theta \leftarrow \theta - \alpha \nabla_\theta L"),
    Row(24, "The loss landscape", "Slices through the loss around a trained network, along "
        "directions that are normalised filter by filter (Li et al. 2018)."),
    Row(25, "Two gradients are needed", "Training needs the derivative of the loss by each weight "
        "matrix.",
        r"\frac{\partial L}{\partial W_2} = (\hat{y} - y) g^\top, \quad "
        r"\frac{\partial L}{\partial W_1} = "
        r"\left(W_2^\top (\hat{y} - y) \odot \sigma'(f)\right) x^\top"),
    Row(26, "Level 1: numerical", "A quotient of differences with a small step, such as one "
        "millionth: easy, and not very accurate.",
        r"\frac{f(x + h) - f(x)}{h}"),
    Row(27, "Level 2: symbolic", "A formula by chain and product rule: accurate and tedious."),
    Row(28, "Level 3: automatic", "Divide and conquer on a graph: backpropagation is efficient."),
    Row(29, "Chains of factors", "Each gradient is a product of local derivatives along the graph.",
        r"\frac{\partial L}{\partial W_1} = \frac{\partial L}{\partial \hat{y}} \; "
        r"\frac{\partial \hat{y}}{\partial g} \; \frac{\partial g}{\partial f} \; "
        r"\frac{\partial f}{\partial W_1}"),
    Row(30, "Four local derivatives", "Those of the loss, of both products, and of the ReLU, which "
        "has none at zero: there a convention decides.",
        r"\hat{y} - y, \quad w_2, \quad [f \geq 0], \quad x"),
    Row(31, "The scalar example", "Five times one times two times eight: the gradient by hand.",
        r"\frac{\partial L}{\partial w_1} = 5 \cdot 1 \cdot 2 \cdot 8 = 80"),
    Row(32, "The forward pass", "On its way forward, a pass saves the intermediate values that the "
        "way back needs."),
    Row(33, "The backward pass", "From the loss back to the weights: at each node the upstream "
        "gradient times the local derivative."),
    Row(34, "Work is shared", "What was computed for one gradient is used again for the next."),
    Row(35, "Multiply", "A product with a forward and a backward pass of its own: it saves both "
        "factors, and passes upstream times the other one.",
        r"\frac{\partial L}{\partial x} = \frac{\partial L}{\partial z} \, y, \quad "
        r"\frac{\partial L}{\partial y} = \frac{\partial L}{\partial z} \, x"),
    Row(36, "The training loop", "Sample a batch, go forward, go back, step; the gradient of a "
        "batch is a random one."),
    Row(37, "Output by input", "A Jacobian has a row for each output and a column for each input.",
        r"\frac{\partial y}{\partial x} \in \mathbb{R}^{M \times N}"),
    Row(38, "The Jacobian of a product", "That of a matrix times a vector is the matrix.",
        r"\frac{\partial (W_2 g)}{\partial g} = W_2"),
    Row(39, "The Jacobian of an elementwise product", "It is diagonal.",
        r"h = f \odot g, \quad \frac{\partial h}{\partial f} = \mathrm{diag}(g)"),
    Row(40, "Dimensions match", "The factors of a chain fit together; with inputs before outputs "
        "the product is transposed and turns around.",
        r"(1 \times M)(M \times H)(H \times H)(H \times HD)"),
    Row(41, "The sigmoid, node by node", "Five arguments, a reciprocal, an exponential, products "
        "and sums.",
        r"f = \frac{1}{1 + e^{-(w_0 + w_1 x_1 + w_2 x_2)}}"),
    Row(42, "Summary", "The summary of the lecture, and what to read next.", is_context=True),
)  # fmt: skip
