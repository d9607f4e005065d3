"""Supervised learning: data, models, the loss of the lecture, and training."""

from diffcompare.learn import inpainting as inpainting
from diffcompare.learn.data import Dataset as Dataset
from diffcompare.learn.data import load as load
from diffcompare.learn.errors import CheckpointError as CheckpointError
from diffcompare.learn.errors import DataError as DataError
from diffcompare.learn.errors import DataNotFoundError as DataNotFoundError
from diffcompare.learn.errors import DivergenceError as DivergenceError
from diffcompare.learn.files import Network as Network
from diffcompare.learn.files import restore as restore
from diffcompare.learn.files import save as save
from diffcompare.learn.history import History as History
from diffcompare.learn.loss import half_squared_error as half_squared_error
from diffcompare.learn.model import Layer as Layer
from diffcompare.learn.model import accuracy as accuracy
from diffcompare.learn.model import apply as apply
from diffcompare.learn.model import init as init
from diffcompare.learn.model import predict as predict
from diffcompare.learn.stopping import EarlyStopping as EarlyStopping
from diffcompare.learn.synthetic import rings as rings
from diffcompare.learn.synthetic import spiral as spiral
from diffcompare.learn.synthetic import two_moons as two_moons
from diffcompare.learn.synthetic import xor as xor
from diffcompare.learn.training import Fitted as Fitted
from diffcompare.learn.training import fit as fit
