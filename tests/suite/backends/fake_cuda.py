"""A CUDA runtime and a TensorRT engine made of host memory, for tests of the runner without a GPU."""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Callable
from typing import Any

import numpy as np


class Function:
    """One entry of the library; ctypes' attributes can be set on it."""

    argtypes: list[Any]
    restype: Any

    def __init__(self, call: Callable[..., int | bytes]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> int | bytes:
        return self._call(*arguments)


class FakeLibrary:
    """libcudart over host memory; a stream runs what it is given at once, unless it is being captured.

    Attributes:
        failing: error code by function name, for calls that shall fail.
        live: handles not yet released, by the function that releases them.
        clock: milliseconds that have gone by on the "GPU".
    """

    def __init__(self) -> None:
        self.failing: dict[str, int] = {}
        self.live: dict[int, str] = {}
        self.memory: dict[int, Any] = {}
        self.recorded: dict[int, float] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.capturing: list[Callable[[], None]] | None = None
        self.clock = 0.0
        self.calls: list[str] = []
        self._next = 0x1000

    def __getattr__(self, name: str) -> Function:
        if not name.startswith("cuda"):
            raise AttributeError(name)
        method = getattr(self, f"_{name}", None)

        def call(*arguments: Any) -> int | bytes:
            self.calls.append(name)
            if name in self.failing:
                return self.failing[name]
            result: int | bytes = 0 if method is None else method(*arguments) or 0
            return result

        function = Function(call)
        # One object an entry, so that the argument types set on it are kept.
        object.__setattr__(self, name, function)
        return function

    def run(self, work: Callable[[], None]) -> None:
        """Do it, or keep it for the graph that is being captured."""
        if self.capturing is not None:
            self.capturing.append(work)
        else:
            work()

    def _new(self, out: Any, release: str) -> int:
        self._next += 0x10
        out._obj.value = self._next
        self.live[self._next] = release
        return self._next

    def _allocate(self, out: Any, size: int, release: str) -> None:
        memory = ctypes.create_string_buffer(size)
        out._obj.value = ctypes.addressof(memory)
        self.memory[ctypes.addressof(memory)] = memory
        self.live[ctypes.addressof(memory)] = release

    def _release(self, handle: ctypes.c_void_p, function: str) -> None:
        assert handle.value is not None
        assert self.live.pop(handle.value) == function
        self.memory.pop(handle.value, None)

    def _cudaGetErrorName(self, code: int) -> bytes:
        return b"cudaErrorMemoryAllocation" if code == 2 else b"cudaErrorSomething"

    def _cudaGetErrorString(self, code: int) -> bytes:
        return b"out of memory" if code == 2 else b"something happened"

    def _cudaGetDeviceCount(self, out: Any) -> None:
        out._obj.value = 1

    def _cudaMemGetInfo(self, free: Any, total: Any) -> None:
        free._obj.value, total._obj.value = 6 << 30, 8 << 30

    def _cudaMalloc(self, out: Any, size: int) -> None:
        self._allocate(out, size, "cudaFree")

    def _cudaFree(self, handle: ctypes.c_void_p) -> None:
        self._release(handle, "cudaFree")

    def _cudaHostAlloc(self, out: Any, size: int, _flags: int) -> None:
        self._allocate(out, size, "cudaFreeHost")

    def _cudaFreeHost(self, handle: ctypes.c_void_p) -> None:
        self._release(handle, "cudaFreeHost")

    def _cudaMemcpyAsync(self, target: Any, source: Any, size: int, _kind: int, _stream: Any) -> None:
        def copy() -> None:
            self.clock += 0.25
            ctypes.memmove(target, source, size)

        self.run(copy)

    def _cudaStreamCreateWithFlags(self, out: Any, _flags: int) -> None:
        self._new(out, "cudaStreamDestroy")

    def _cudaStreamDestroy(self, handle: ctypes.c_void_p) -> None:
        self._release(handle, "cudaStreamDestroy")

    def _cudaStreamBeginCapture(self, _stream: Any, _mode: int) -> None:
        self.capturing = []

    def _cudaStreamEndCapture(self, _stream: Any, out: Any) -> None:
        assert self.capturing is not None
        self.graphs[self._new(out, "cudaGraphDestroy")] = self.capturing
        self.capturing = None

    def _cudaGraphInstantiateWithFlags(self, out: Any, graph: ctypes.c_void_p, _flags: int) -> None:
        assert graph.value is not None
        self.graphs[self._new(out, "cudaGraphExecDestroy")] = self.graphs[graph.value]

    def _cudaGraphDestroy(self, handle: ctypes.c_void_p) -> None:
        self._release(handle, "cudaGraphDestroy")

    def _cudaGraphExecDestroy(self, handle: ctypes.c_void_p) -> None:
        self._release(handle, "cudaGraphExecDestroy")

    def _cudaGraphLaunch(self, graph: ctypes.c_void_p, _stream: Any) -> None:
        assert graph.value is not None
        self.clock += 0.5
        for work in self.graphs[graph.value]:
            work()

    def _cudaEventCreateWithFlags(self, out: Any, _flags: int) -> None:
        self._new(out, "cudaEventDestroy")

    def _cudaEventDestroy(self, handle: ctypes.c_void_p) -> None:
        self._release(handle, "cudaEventDestroy")

    def _cudaEventRecordWithFlags(self, event: ctypes.c_void_p, _stream: Any, flags: int) -> None:
        # As the real one: outside a capture the external flag is invalid, inside only with it is time taken.
        assert flags == (1 if self.capturing is not None else 0)

        def record() -> None:
            assert event.value is not None
            self.recorded[event.value] = self.clock

        self.run(record)

    def _cudaEventElapsedTime(self, out: Any, start: ctypes.c_void_p, end: ctypes.c_void_p) -> None:
        assert start.value is not None
        assert end.value is not None
        out._obj.value = self.recorded[end.value] - self.recorded[start.value]


class Mode(enum.Enum):
    """tensorrt.TensorIOMode."""

    INPUT = 1
    OUTPUT = 2


class Kind(enum.Enum):
    """tensorrt.DataType."""

    FLOAT = 0
    BF16 = 1


class FakeEngine:
    """An engine that doubles its input `x`, N×4 with N from 1 to 8, into its output `y`."""

    num_io_tensors = 2

    def __init__(self, library: FakeLibrary) -> None:
        self.library = library
        self.kind = Kind.FLOAT
        self.succeeds = True
        self.output_rows: int | None = None
        self.contexts = 0

    def get_tensor_name(self, index: int) -> str:
        return ("x", "y")[index]

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name == "x" else Mode.OUTPUT

    def get_tensor_dtype(self, _name: str) -> Kind:
        return self.kind

    def get_tensor_profile_shape(self, _name: str, _profile: int) -> list[tuple[int, int]]:
        return [(1, 4), (4, 4), (8, 4)]

    def create_execution_context(self) -> FakeContext | None:
        self.contexts += 1
        return FakeContext(self)


class FakeContext:
    """Runs in 2 ms of the fake clock."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._rows = -1
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, _name: str, shape: tuple[int, ...]) -> bool:
        self._rows = shape[0]
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, int]:
        if name == "y" and self._engine.output_rows is not None:
            return self._engine.output_rows, 4
        return self._rows, 4

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, _stream: int) -> bool:
        if not self._engine.succeeds:
            return False
        rows, addresses = self._rows, dict(self._addresses)

        def work() -> None:
            self._engine.library.clock += 2.0
            kind = ctypes.c_float * (rows * 4)
            x, y = (np.ctypeslib.as_array(kind.from_address(addresses[name])) for name in "xy")
            y[:] = 2 * x

        self._engine.library.run(work)
        return True
