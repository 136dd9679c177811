"""What an engine takes and gives, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metrabs_ros.errors import InputError


@dataclass(frozen=True)
class Tensors:
    """The one input and the outputs of an engine: float32, first the batch (-1 where it may vary) and then sizes that
    are fixed. ``least`` and ``most``: the batches that it takes."""

    source: str
    shapes: dict[str, tuple[int, ...]]
    least: int
    most: int

    @classmethod
    def of(cls, trt: Any, engine: Any, wanted: Sequence[str]) -> Tensors:
        """Raises InputError where there is a tensor of another kind, wanted or not, as all of them need room, or where
        a wanted one is missing."""
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        outputs = [name for name in names if name not in inputs]
        missing = [name for name in wanted if name not in outputs]
        if missing:
            raise InputError(
                f"The engine has no output named {', '.join(missing)}: it has {', '.join(outputs)}; correct the "
                "spec's outputs and build it again."
            )
        if len(inputs) != 1:
            raise InputError(f"The engine has {len(inputs)} inputs, expected one image input.")
        (source,) = inputs
        shapes = {name: tuple(engine.get_tensor_shape(name)) for name in names}
        for name, shape in shapes.items():
            dtype = engine.get_tensor_dtype(name)
            has_batch = bool(shape) and shape[:1] == shapes[source][:1]
            if dtype != trt.float32 or not has_batch or min(shape[1:], default=1) < 1:
                kind = str(dtype).removeprefix("DataType.").lower()
                raise InputError(
                    f"The engine's {'input' if name == source else 'output'} {name} is {kind} of shape {list(shape)}: "
                    "expected float32 of [batch, sizes that are fixed]; export the network so, or without what the "
                    "spec does not name, and build it again."
                )
        least, _, most = engine.get_tensor_profile_shape(source, 0)
        return cls(source, shapes, int(least[0]), int(most[0]))
