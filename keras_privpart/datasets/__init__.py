"""Data in, `(x, targets)` out: pictures in folders, arrays, tables, your own functions, tensorflow-datasets."""

from keras_privpart.datasets.loading import DIGITS, load
from keras_privpart.datasets.samples import TASK, Dataset, Samples, batches, epochs_of
from keras_privpart.datasets.streams import Stream, streamed

__all__ = ["DIGITS", "TASK", "Dataset", "Samples", "Stream", "batches", "epochs_of", "load", "streamed"]
