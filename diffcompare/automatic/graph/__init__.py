"""The computational graph of a function, with every value, local derivative and gradient."""

from diffcompare.automatic.graph.evaluation import ReverseRuleError as ReverseRuleError
from diffcompare.automatic.graph.model import Graph as Graph
from diffcompare.automatic.graph.model import Node as Node
from diffcompare.automatic.graph.model import Wire as Wire
from diffcompare.automatic.graph.tracing import computational_graph as computational_graph
