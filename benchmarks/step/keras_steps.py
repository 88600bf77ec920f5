"""Steps of training in Keras 3 on TensorFlow, without XLA: the same networks, layer by layer."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from step.cases import ENGINES, EPSILON, LEARNING_RATE, MEAN, PADDING, STD, Case

Arrays = dict[str, np.ndarray]


def describe() -> dict[str, Any]:
    """What this process runs with."""
    return {
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
    }


class Contestant:
    """A network in training, from the weights of PyTorch's.

    Args:
        name: ``keras``, or one that takes several steps at once.
    """

    returns_memory = False  # TensorFlow's allocator keeps what it had

    def __init__(self, name: str, case: Case, arrays: Arrays) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(case.threads)
        tf.config.threading.set_inter_op_parallelism_threads(case.threads)
        keras.utils.set_random_seed(0)
        self._case = case
        self._images = np.ascontiguousarray(arrays["images"].transpose(0, 2, 3, 1))
        self._targets = arrays["targets"]
        self._model = _NETWORKS[case.model](case)
        _load(self._model, arrays)
        self._model.compile(
            optimizer=keras.optimizers.Adam(LEARNING_RATE, epsilon=EPSILON),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
        self._batches = iter(_pipeline(case, self._images, self._targets))
        self.steps_at_once = ENGINES[name]
        self._function: Any = None

    def step(self) -> None:
        """Train on the next batch, or the next few: what ``fit`` does in its loop."""
        if self._function is None:
            self._model.steps_per_execution = self.steps_at_once
            self._model.make_train_function(force=True)
            self._function = self._model.train_function
        self._function(self._batches)

    def load(self) -> Any:
        """The next batch."""
        return next(self._batches)

    def checked_step(self, number: int) -> float:
        """Train on a batch that all contestants have; return the loss."""
        part = slice(number * self._case.batch, (number + 1) * self._case.batch)
        images = (self._images[part].astype(np.float32) / 255 - MEAN) / STD
        self._model.reset_metrics()  # or it would be the mean of all losses so far
        return float(self._model.train_on_batch(images, self._targets[part]))

    def saved_mb(self) -> None:
        """TensorFlow does not tell."""


def _pipeline(case: Case, images: np.ndarray, targets: np.ndarray) -> tf.data.Dataset:
    """Endless batches: shifted and mirrored image by image, normalised, prepared ahead."""
    edges = ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0))
    padded, held = tf.constant(np.pad(images, edges)), tf.constant(targets)
    batches, places = case.images // case.batch, tf.range(case.side)

    def order(_: Any) -> Any:
        shuffled = tf.random.shuffle(tf.range(case.images))
        return tf.reshape(shuffled[: batches * case.batch], (batches, case.batch))

    def augment(chosen: Any) -> Any:
        shift = tf.random.uniform((2, case.batch, 1), 0, 2 * PADDING + 1, tf.int32)
        mirrored = tf.random.uniform((case.batch, 1)) < 0.5
        rows = shift[0] + places
        columns = shift[1] + tf.where(mirrored, places[::-1], places)
        part = tf.gather(tf.gather(padded, chosen), rows, axis=1, batch_dims=1)
        part = tf.gather(part, columns, axis=2, batch_dims=1)
        part = tf.cast(part, tf.float32) * (1 / 255 / STD) - MEAN / STD
        return part, tf.gather(held, chosen)

    options = tf.data.Options()
    options.threading.private_threadpool_size = case.threads
    return (
        tf.data.Dataset.range(1)
        .repeat()
        .map(order)
        .unbatch()
        .map(augment, num_parallel_calls=case.threads)
        .prefetch(2)
        .with_options(options)
    )


def _load(model: Any, arrays: Arrays) -> None:
    """Give layers the weights of the PyTorch modules that have their names."""
    for layer in model.layers:
        if not layer.weights:
            continue
        held = {
            part: arrays[f"{layer.name}.{part}"]
            for part in ("weight", "bias", "running_mean", "running_var")
            if f"{layer.name}.{part}" in arrays
        }
        weight = held["weight"]
        if weight.ndim == 4:
            held["weight"] = weight.transpose(2, 3, 1, 0)
        elif weight.ndim == 2:
            if any(isinstance(each, layers.Flatten) for each in model.layers):
                height, width, channels = model.get_layer("flatten").input.shape[1:]
                weight = weight.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
                weight = weight.reshape(len(weight), -1)
            held["weight"] = weight.T
        layer.set_weights(list(held.values()))


def _small_cnn(case: Case) -> Any:
    """Keras' tutorial, as zoo.builtin.small_cnn has it."""
    image = keras.Input((case.side, case.side, 3))
    x = layers.Conv2D(32, 3, activation="relu", name="conv1")(image)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(64, 3, activation="relu", name="conv2")(x)
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(image, layers.Dense(case.classes, name="fc")(x))


def _resnet20(case: Case) -> Any:
    """As zoo.builtin.cifar_resnet has it: shortcuts without parameters."""
    image = keras.Input((case.side, case.side, 3))
    x = layers.ReLU()(_conv_bn(image, "conv1", "bn1", 16, 3))
    for stage, channels in enumerate((16, 32, 64), 1):
        for block in range(3):
            name, stride = f"layer{stage}.{block}.", 2 if stage > 1 and block == 0 else 1
            y = layers.ReLU()(_conv_bn(x, f"{name}conv1", f"{name}bn1", channels, 3, stride))
            y = _conv_bn(y, f"{name}conv2", f"{name}bn2", channels, 3)
            if stride > 1:
                x = x[:, ::stride, ::stride]
                x = keras.ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, channels // 2)))
            x = layers.ReLU()(layers.Add()([y, x]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(case.classes, name="fc")(x))


def _resnet18(case: Case) -> Any:
    """He et al.'s, with the names of timm's."""
    image = keras.Input((case.side, case.side, 3))
    x = layers.ReLU()(_conv_bn(image, "conv1", "bn1", 64, 7, 2))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))  # zeros, since nothing is below
    for stage, channels in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            name, stride = f"layer{stage}.{block}.", 2 if stage > 1 and block == 0 else 1
            y = layers.ReLU()(_conv_bn(x, f"{name}conv1", f"{name}bn1", channels, 3, stride))
            y = _conv_bn(y, f"{name}conv2", f"{name}bn2", channels, 3)
            if stride > 1:
                short = f"{name}downsample."
                x = _conv_bn(x, f"{short}0", f"{short}1", channels, 1, stride)
            x = layers.ReLU()(layers.Add()([y, x]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(case.classes, name="fc")(x))


def _conv_bn(x: Any, conv: str, norm: str, channels: int, size: int, stride: int = 1) -> Any:
    """A convolution with PyTorch's padding, which is even where Keras' "same" is not."""
    padding = "same"
    if stride > 1 and size > 1:
        x, padding = layers.ZeroPadding2D(size // 2)(x), "valid"
    x = layers.Conv2D(channels, size, stride, padding, use_bias=False, name=conv)(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=norm)(x)


_NETWORKS = {
    "cifar/small_cnn": _small_cnn,
    "cifar/resnet20": _resnet20,
    "timm/resnet18": _resnet18,
}
