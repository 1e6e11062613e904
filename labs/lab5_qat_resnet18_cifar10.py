"""Lab 5: train ResNet-18 on CIFAR-10, fine-tune it with fake quantization, export FP32 and Q/DQ (INT8) ONNX models."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import hashlib
import io
import json
import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import artifact

artifact.need("numpy", "PIL", "tqdm", "torch", "onnx")  # before what follows fails with a traceback

import cifar10  # noqa: E402
import network  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from fake_quant import ResNet18, fold, freeze_activations, freeze_weights, quantize  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from recipe import STAND_IN, OrthogonalMomentum, Recipe  # noqa: E402
from torch import Tensor, nn  # noqa: E402

WORK = ".lab5"  # checkpoints, in a folder beside the artifacts
REFERENCE = 4  # images whose outputs are kept, so that a machine without torch can check the file
SAVE_EVERY = 30  # seconds of training that a killed run may lose
EPOCHS, EPOCHS_STAND_IN = 5, 3


@dataclasses.dataclass
class State:
    """How far a phase has come; kept in its checkpoint. `loss` and `correct` are sums over the epoch so far."""

    step: int = 0
    images: int = 0
    loss: float = 0.0
    correct: float = 0.0
    seconds: float = 0.0
    curves: list[dict[str, Any]] = dataclasses.field(default_factory=list)


class Trainer:
    """Trains one network after another on images kept on the device; each phase resumes where it was stopped."""

    def __init__(self, data: cifar10.Dataset, recipe: Recipe, options: argparse.Namespace) -> None:
        self.data, self.recipe, self.seed, self.epochs = data, recipe, options.seed, options.epochs
        self.work: Path = options.out / WORK
        self.may_train = options.weights != "pretrained"
        self.device = torch.device(options.device)
        gpu = self.device.type == "cuda"
        # A GPU's tensor cores want channels last. A processor gains nothing, and there torch 2.15 wrote past its
        # buffers when the batch size changed from step to step.
        self.layout = torch.channels_last if gpu else torch.contiguous_format
        self.images = data.normalise(data.train.images).to(self.device, memory_format=self.layout)
        self.labels = torch.from_numpy(data.train.labels).to(self.device)
        self.test_images = data.normalise(data.test.images).to(self.device, memory_format=self.layout)
        self.steps = max(recipe.least_steps, round(len(data.train) / recipe.batch))  # in an epoch
        # bfloat16 has float32's range, so no loss scaling is needed. Processors and older GPUs stay in float32.
        self.mixed = gpu and torch.cuda.is_bf16_supported()
        identity = [dataclasses.asdict(recipe), data.digest(), self.seed, self.epochs]
        self.key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def train(
        self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], phase: str, steps: range
    ) -> list[dict[str, Any]]:
        """Run a phase to its end; every learning rate falls linearly from its optimizer's own to 0.

        Everything random depends on the seed, the epoch and the step alone: a resumed phase repeats nothing and
        ends where an uninterrupted one does.

        Returns:
            The curves: a row for each epoch, and for what a phase has of one.
        """
        total = len(steps)
        rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
        state = self.restore(model, optimizers, phase)
        if state.step < total and not self.may_train:
            problem = f"--weights pretrained: no finished '{phase}' training of these images, epochs and seed here"
            raise artifact.stop(problem, f"train without that option, or copy a finished {self.work.name}/ to --out")
        sums, saved = torch.tensor([state.loss, state.correct], device=self.device), time.perf_counter()
        while state.step < total:
            epoch, done = divmod(steps[state.step], self.steps)
            end = min(self.steps, done + total - state.step)  # a phase may end within an epoch
            batches = cifar10.epoch_batches(len(self.labels), self.steps, self.seed, epoch)[done:end]
            model.train()
            started = time.perf_counter()
            for numbers in artifact.progress(batches, f"{phase}, epoch {epoch + 1}"):
                for optimizer, rate in zip(optimizers, rates, strict=True):
                    optimizer.param_groups[0]["lr"] = rate * (1 - state.step / total)
                sums += self.learn(model, optimizers, numbers, epoch)
                state.step, state.images = state.step + 1, state.images + len(numbers)
                if time.perf_counter() - saved > SAVE_EVERY:
                    state.loss, state.correct = sums.tolist()
                    state.seconds, saved = state.seconds + time.perf_counter() - started, time.perf_counter()
                    self.save(model, optimizers, phase, state)
                    started = time.perf_counter()
            state.loss, state.correct = sums.tolist()  # waits for the device
            state.seconds += time.perf_counter() - started
            state.curves.append(self.row(model, phase, epoch, optimizers, state))
            state.images, state.loss, state.correct, state.seconds = 0, 0.0, 0.0, 0.0
            sums.zero_()
            if state.step == total:
                self.save(model, optimizers, phase, state)
        return state.curves

    def learn(
        self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], numbers: Tensor, epoch: int
    ) -> Tensor:
        """One step on the images of these numbers; their loss and their right answers, each summed over them."""
        here, views = numbers.to(self.device), self.recipe.views
        images, labels = self.images[here].repeat(views, 1, 1, 1), self.labels[here].repeat(views)
        random = cifar10.generator(self.seed, epoch, int(numbers[0]))
        images = cifar10.cut(cifar10.shift(images, self.recipe.shift, random), self.recipe.cut, random)
        if self.data.mirror:
            turned = [
                cifar10.mirror(shown, numbers, self.seed, epoch * views + view, len(self.labels))
                for view, shown in enumerate(images.chunk(views))
            ]
            images = torch.cat(turned)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            scores = model(images.contiguous(memory_format=self.layout))
        smoothing = self.recipe.label_smoothing
        loss = nn.functional.cross_entropy(scores.float(), labels, label_smoothing=smoothing)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return torch.stack((loss.detach() * len(numbers), (scores.argmax(1) == labels).sum() / views))

    def row(
        self, model: nn.Module, phase: str, epoch: int, optimizers: Sequence[torch.optim.Optimizer], state: State
    ) -> dict[str, Any]:
        """What the curves hold of an epoch; prints it too."""
        right = (self.predict(model) == self.data.test.labels).mean().item()
        loss, train_right = state.loss / state.images, state.correct / state.images
        print(
            f"{phase}, epoch {epoch + 1}: loss {loss:.3f}, right in training {train_right:.1%}, on test images "
            f"{right:.2%}; {state.seconds:.1f} s"
        )
        return {
            "epoch": epoch + 1,
            "phase": phase,
            "loss": loss,
            "train_accuracy": train_right,
            "test_accuracy": right,
            "learning_rate": optimizers[0].param_groups[0]["lr"],
            "images": state.images,
            "seconds": round(state.seconds, 3),
        }

    def predict(self, model: nn.Module) -> NDArray[np.int64]:
        """The class of every test image, in float32."""
        model.eval()
        with torch.no_grad():
            classes = torch.cat([model(part).argmax(1) for part in self.test_images.split(500)])
        found: NDArray[np.int64] = classes.cpu().numpy()
        return found

    def watched(self) -> list[Tensor]:
        """Some training images as they are, in batches of 100: for statistics, no gradient is taken."""
        return list(
            self.images[torch.linspace(0, len(self.images) - 1, self.recipe.watched).long().unique()].split(100)
        )

    def save(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], phase: str, state: State) -> None:
        """Write the phase's checkpoint; the last one stays until this one is whole."""
        file = io.BytesIO()
        torch.save(
            {
                "key": self.key,
                "state": dataclasses.asdict(state),
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            },
            file,
        )
        artifact.write_atomically(self.work / f"{phase}.pt", file.getvalue())

    def restore(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], phase: str) -> State:
        """Load the phase's checkpoint, if it is of this very training; otherwise a fresh state."""
        path = self.work / f"{phase}.pt"
        if not path.exists():
            return State()
        try:  # weights_only: a checkpoint is data, and must not be able to run code
            content = torch.load(path, map_location=self.device, weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError):
            print(f"note: {path} is damaged; this phase starts anew")
            return State()
        if content["key"] != self.key:
            print(f"note: {path} is of other images, epochs, seed or recipe; this phase starts anew")
            return State()
        model.load_state_dict(content["model"])
        for optimizer, memory in zip(optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(memory)
        state = State(**content["state"])
        print(f"{phase}: {state.step} steps done before, from {path}")
        return state


def make_parent(trainer: Trainer, weights: str) -> tuple[ResNet18, list[dict[str, Any]]]:
    """The FP32 network with BatchNorm folded, trained unless `weights` is "untrained"; and its curves."""
    torch.manual_seed(trainer.seed)
    model = ResNet18(len(trainer.data.classes))
    if weights == "untrained":
        images = [part.cpu().contiguous().numpy() for part in trainer.watched()]
        network.initialise_classifier(model, model.fc, [block.conv2.bn for block in model.blocks], images)
        return fold(model).to(trainer.device), []
    model.whiten(torch.cat(trainer.watched()).cpu())
    nn.init.zeros_(model.fc.weight)  # no class is preferred at first
    model.to(trainer.device, memory_format=trainer.layout)
    recipe = trainer.recipe
    filters = [parameter for parameter in model.parameters() if parameter.ndim == 4]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 4]
    optimizers = [
        OrthogonalMomentum(filters, recipe.filter_lr, recipe.filter_momentum),
        torch.optim.SGD(
            others, recipe.other_lr, recipe.other_momentum, weight_decay=recipe.weight_decay, nesterov=True
        ),
    ]
    first, _ = recipe.phases(trainer.steps * trainer.epochs)
    curves = trainer.train(model, optimizers, "fp32", first)
    return fold(model), curves


def make_child(
    trainer: Trainer, parent: ResNet18, weights: str, naive: bool
) -> tuple[ResNet18, list[dict[str, Any]], float | None]:
    """The parent with fake quantization: calibrated, and fine-tuned unless `weights` is "untrained".

    Returns:
        The network, ready for export; its curves; its accuracy on the test images before fine-tuning.
    """
    model = quantize(copy.deepcopy(parent), naive).to(trainer.device)
    with torch.no_grad():
        for images in trainer.watched():
            model(images)
    freeze_activations(model)
    curves, calibrated = [], None
    if weights != "untrained":
        calibrated = (trainer.predict(model) == trainer.data.test.labels).mean().item()
        print(f"quantized, not yet fine-tuned: {calibrated:.2%}")
        # Adam's steps do not depend on a filter's norm, and folding BatchNorm has made those very different.
        optimizer = torch.optim.Adam(model.parameters(), trainer.recipe.qat_lr)
        _, last = trainer.recipe.phases(trainer.steps * trainer.epochs)
        curves = trainer.train(model, [optimizer], "qat_naive" if naive else "qat", last)
    freeze_weights(model)
    return model, curves, calibrated


def predict_onnx(path: Path, images: Tensor) -> NDArray[np.int64] | None:
    """The class of every image, by the exported file in ONNX Runtime; None where that is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    parts = artifact.progress(images.split(100), f"check {path.name}")
    answers = [session.run(["output"], {"input": part.cpu().contiguous().numpy()})[0].argmax(1) for part in parts]
    return np.concatenate(answers)


def deliver(
    trainer: Trainer, model: ResNet18, path: Path, weights: str, curves: list[dict[str, Any]]
) -> tuple[list[Path], float | None]:
    """Export a network with its reference outputs and its manifest.

    Returns:
        The files; the accuracy on the test images of the exported file itself, None where none may be claimed.
    """
    data = trainer.data
    in_torch = trainer.predict(model)
    on_cpu = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format)
    inputs = trainer.test_images[:REFERENCE].cpu().contiguous()
    with torch.no_grad():
        outputs = on_cpu(inputs).numpy()
    network.export(on_cpu, path, shape=inputs.shape[1:], batch=artifact.DYNAMIC, names=("input", "output"))
    reference = network.write_reference(path, inputs.numpy(), outputs)
    in_onnx = predict_onnx(path, trainer.test_images)
    accuracy = None
    if weights != "untrained" and in_onnx is not None:
        accuracy = (in_onnx == data.test.labels).mean().item()
        print(f"{path.name}: {accuracy:.2%} of {len(in_onnx)} test images right in ONNX Runtime")
    manifest = artifact.write_manifest(
        path,
        lab="lab5",
        model=path.stem,
        weights=weights,
        seed=trainer.seed,
        data=data.describe(),
        preprocessing=data.preprocessing.describe(),
        batch=artifact.DYNAMIC,
        opset=network.OPSET,
        reference={"file": reference.name, "sha256": artifact.sha256(reference), "images": len(inputs)},
        accuracy=accuracy,
        agreement_with_torch=None if in_onnx is None else (in_onnx == in_torch).mean().item(),
        epochs=round(sum(row["images"] for row in curves) / len(data.train), 2),
        training_seconds=round(sum(row["seconds"] for row in curves), 2),
        trained_on=torch.cuda.get_device_name(trainer.device) if trainer.device.type == "cuda" else "cpu",
        recipe=dataclasses.asdict(trainer.recipe),
    )
    return [path, reference, manifest], accuracy


def parse() -> argparse.Namespace:
    """The options, checked."""
    parser = artifact.parser(__doc__ or "")
    parser.description = f"{__doc__} An interrupted training resumes when the same command is run again."
    parser.add_argument("--epochs", type=int, metavar="N", help=f"in all, fine-tuning included; None: {EPOCHS}")
    parser.add_argument("--subset", type=int, metavar="N", help="train on N images, to bound the work on a CPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    parser.add_argument(
        "--naive", action="store_true", help="leave residuals and pool in float, as tools do unasked: to compare"
    )
    options = parser.parse_args()
    if options.epochs is not None and options.epochs < 1:
        parser.error(f"--epochs {options.epochs}: at least 1")
    if options.subset is not None and options.subset < 100:
        parser.error(f"--subset {options.subset}: at least 100")
    return options


def main() -> None:
    """Images, FP32 training, export, quantization, fine-tuning, export, curves."""
    options = parse()
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False  # what is called FP32 here is FP32
    data = cifar10.load(options.data, options.out / WORK, options.subset)
    stand_in = data.source == cifar10.STAND_IN
    options.epochs = options.epochs or (EPOCHS_STAND_IN if stand_in else EPOCHS)
    recipe = STAND_IN if stand_in else Recipe()
    print(f"{data.source}: {len(data.train)} images to train on, {len(data.test)} to test on; on {options.device}")
    weights = "untrained" if options.weights == "untrained" else "trained"
    suffix = "_naive" if options.naive else ""
    fp32, int8 = options.out / "resnet18_cifar10.onnx", options.out / f"resnet18_qat{suffix}_cifar10.onnx"
    try:
        trainer = Trainer(data, recipe, options)
        parent, curves = make_parent(trainer, weights)
        files, accuracy = deliver(trainer, parent, fp32, weights, curves)
        child, more, calibrated = make_child(trainer, parent, weights, options.naive)
        curves = curves + more
        int8_files, int8_accuracy = deliver(trainer, child, int8, weights, curves)
    except KeyboardInterrupt:
        raise SystemExit("interrupted: the same command resumes where the last checkpoint was written") from None
    except torch.cuda.OutOfMemoryError as error:
        raise artifact.stop(f"the GPU is out of memory: {error}", "close other programs, or --device cpu") from error
    if weights == "trained":
        report = {
            "schema": artifact.SCHEMA,
            "data": data.describe(),
            "seed": options.seed,
            "accuracy": {"fp32": accuracy, "quantized": calibrated, "qat": int8_accuracy},
            "epochs": curves,
        }
        path = options.out / f"training_curves{suffix}.json"
        artifact.write_atomically(path, json.dumps(report, indent=2, allow_nan=False) + "\n")
        int8_files.append(path)
    shapes = artifact.shapes_option("input", (3, cifar10.SIZE, cifar10.SIZE), artifact.DYNAMIC)
    artifact.finish(
        "lab5",
        files + int8_files,
        [
            f"trtexec --onnx={int8}{shapes} --int8 --fp16 --saveEngine={int8.stem}.engine --useCudaGraph",
            f"trtexec --onnx={fp32}{shapes} --fp16 --saveEngine={fp32.stem}_fp16.engine --useCudaGraph",
        ],
        ["--int8 only allows INT8 here: the Q/DQ pairs in the graph say where, so no calibration cache is needed"],
    )


if __name__ == "__main__":
    artifact.run(main)
