"""A target of five tokens and a draft model that agrees with it in part: with these most tests of the engine decode."""

from exactness.drafters import similar
from outrider import TableModel

TARGET = TableModel.random(5, 2, spread=1.5, seed=1)
DRAFT = similar(TARGET, seed=2)
