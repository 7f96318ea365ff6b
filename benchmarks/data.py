"""The training loader against open_clip's own webdataset pipeline, on the same shards with the same crops and batch.

    pip install 'mmfound[bench,pretrained]' pandas psutil && python -W ignore benchmarks/data.py

Both make batches of pictures cropped to 224 (scale 0.9 to 1) and CLIP's token ids from JPEGs of about 400 x 300 pixels
at quality 90. Rounds of the two are interleaved in one process, so that load from outside hits both. CPU-seconds are
those of the main process and of the workers together. Then: what the index, a seek, a worker and the first batch cost.
"""

import argparse
import io
import json
import multiprocessing
import statistics
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor

from mmfound.data import BlockShuffle, ImageTextData, RandomResizedCrop, TarShards
from mmfound.data.tar_index import scan
from mmfound.nn.pixels import CLIP_MEAN, CLIP_STD, NormalizePixels
from mmfound.text import ClipBpe

BATCH, SIZE, SCALE = 64, 224, (0.9, 1.0)
WORDS = [
    "a",
    "the",
    "red",
    "blue",
    "old",
    "small",
    "photo",
    "of",
    "dog",
    "house",
    "tree",
    "river",
    "car",
    "in",
    "on",
    "with",
    "two",
    "people",
    "near",
    "street",
    "light",
]


class Photos:
    """JPEGs of about 400 x 300 pixels and 49 KB: noise whose amplitude falls with frequency, as in photographs."""

    CANVAS = 1024

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        frequency = np.hypot(np.fft.fftfreq(self.CANVAS)[:, None], np.fft.rfftfreq(self.CANVAS)[None])
        noise = np.fft.rfft2(self.rng.standard_normal((4, self.CANVAS, self.CANVAS)))
        canvases = np.fft.irfft2(noise / np.maximum(frequency, 1 / 400) ** 1.38)
        self.canvases = (canvases / canvases.std(axis=(1, 2), keepdims=True)).astype(np.float32)

    def __call__(self) -> bytes:
        """The next one."""
        height, width = (int(side * self.rng.uniform(0.9, 1.1)) for side in (300, 400))
        grey, *colours = (self._crop(canvas, height, width) for canvas in self.canvases)
        grain = self.rng.normal(0, 3.5, (height, width, 1))
        pixels = np.stack([grey + 0.4 * colour for colour in colours], axis=2) * 46 + 120 + grain
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        return file.getvalue()

    def _crop(self, canvas: np.ndarray, height: int, width: int) -> np.ndarray:
        top, left = self.rng.integers(self.CANVAS - height), self.rng.integers(self.CANVAS - width)
        return canvas[top : top + height, left : left + width]


def write_shards(folder: Path, shards: int, samples: int, picture: Callable[[], bytes], seed: int = 0) -> str:
    """Tar files of jpg + txt + json as img2dataset writes them; existing ones are kept. Gives their pattern."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        path = folder / f"{shard:05}.tar"
        if path.exists():
            continue
        with tarfile.open(path.with_suffix(".part"), "w") as tar:
            for number in range(samples):
                caption = " ".join(rng.choice(WORDS, int(rng.integers(6, 16))))
                key = f"{shard:05}{number:05}"
                members = {"jpg": picture(), "txt": caption.encode(), "json": json.dumps({"key": key}).encode()}
                for extension, body in members.items():
                    info = tarfile.TarInfo(f"{key}.{extension}")
                    info.size = len(body)
                    tar.addfile(info, io.BytesIO(body))
        path.with_suffix(".part").rename(path)
    return str(folder / f"{{{0:05}..{shards - 1:05}}}.tar")


def ours(urls: str, workers: int, start_method: str = "fork", batch: int = BATCH) -> Iterator[dict[str, Any]]:
    """Endless uint8 batches."""
    data = ImageTextData(
        TarShards(urls),
        batch,
        tokenizer=ClipBpe(),
        train_image=RandomResizedCrop(SIZE, scale=SCALE),
        workers=workers,
        start_method=start_method,  # pyright: ignore[reportArgumentType]
        seed=0,
    )
    loader = data.train_dataloader()
    while True:
        yield from loader


def open_clips(urls: str, workers: int, batch: int = BATCH) -> Iterator[Any]:
    """Endless normalised float32 batches of its own `get_wds_dataset`."""
    from open_clip import get_tokenizer
    from open_clip.transform import AugmentationCfg, image_transform
    from open_clip_train.data import get_wds_dataset

    arguments = SimpleNamespace(
        train_data=urls,
        train_num_samples=10**6,
        train_data_upsampling_factors=None,
        dataset_resampled=True,
        seed=0,
        batch_size=batch,
        world_size=1,
        workers=workers,
    )
    crop = image_transform(SIZE, is_train=True, aug_cfg=AugmentationCfg(scale=SCALE))
    yield from get_wds_dataset(arguments, crop, is_train=True, tokenizer=get_tokenizer("ViT-B-32")).dataloader


class Fused:
    """uint8 to the normalised float32 of a tower in one buffer: scale and shift of /255 and the tower's as one pair.

    Rows of the channels-last picture are scaled by a tiled vector, which the vectorised kernels want.
    """

    def __init__(self) -> None:
        std = torch.tensor(CLIP_STD)
        self.scale = (1 / (255 * std)).repeat(SIZE)
        self.shift = (-torch.tensor(CLIP_MEAN) / std).repeat(SIZE)

    def __call__(self, image: Tensor) -> Tensor:
        """[B, 3, S, S] uint8 channels-last to float32."""
        normal = image.float()
        rows = normal.permute(0, 2, 3, 1).view(len(image), SIZE, SIZE * 3)
        for row in rows:  # a picture at a time stays in the cache
            torch.addcmul(self.shift, row, self.scale, out=row)
        return normal


class Meter:
    """Times windows of an endless pipeline: images per second, and per CPU-second of this process and its workers."""

    def __init__(self, make: Callable[[], Iterator[Any]], finish: Callable[[Any], Any], workers: int) -> None:
        before = set(multiprocessing.active_children())
        self.batches, self.finish, self.workers = make(), finish, workers
        begun = time.perf_counter()
        next(self.batches)
        self.first_batch_s = time.perf_counter() - begun
        self.processes = [psutil.Process(child.pid) for child in set(multiprocessing.active_children()) - before]

    def window(self, batches: int) -> tuple[float, float]:
        """(images per second, images per CPU-second) of the next batches, once those made ahead are used up."""
        for _ in range(3 * self.workers + 1):
            self.finish(next(self.batches))
        cpu, begun = self._cpu(), time.perf_counter()
        for _ in range(batches):
            self.finish(next(self.batches))
        images = batches * BATCH
        return images / (time.perf_counter() - begun), images / (self._cpu() - cpu)

    def _cpu(self) -> float:
        times = [process.cpu_times() for process in self.processes]
        return time.process_time() + sum(spent.user + spent.system for spent in times)


def compare(urls: str, workers: int, rounds: int, batches: int) -> list[str]:
    """Rows of the table for this number of workers."""
    normalize, fused = NormalizePixels(CLIP_MEAN, CLIP_STD), Fused()
    image = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8).to(memory_format=torch.channels_last)
    torch.testing.assert_close(fused(image), normalize(image.float().div_(255)))
    meters = {
        "open_clip": Meter(lambda: open_clips(urls, workers), lambda batch: batch, workers),
        "uint8": Meter(lambda: ours(urls, workers), lambda batch: batch, workers),
        "float32, fused": Meter(lambda: ours(urls, workers), lambda batch: fused(batch["image"]), workers),
        "float32, as trained": Meter(
            lambda: ours(urls, workers), lambda batch: normalize(batch["image"].float().div_(255)), workers
        ),
    }
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in meters}
    for _ in range(rounds):
        for name, meter in meters.items():
            time.sleep(1.0 if workers else 0.0)  # the others' workers fill their queues and stop
            seen[name].append(meter.window(batches))
    return [row(workers, name, windows, seen["open_clip"]) for name, windows in seen.items()]


def row(workers: int, name: str, windows: list[tuple[float, float]], base: list[tuple[float, float]]) -> str:
    """Medians over the rounds, and the median of the ratios within a round."""
    cells = []
    for column in (1, 0):
        values = [window[column] for window in windows]
        ratios = [mine[column] / other[column] for mine, other in zip(windows, base, strict=True)]
        cells += [f"{statistics.median(values):.0f}", f"{statistics.median(ratios):.2f}"]
    return f"| {workers} | {name} | " + " | ".join(cells) + " |"


def worker_costs(urls: str) -> list[str]:
    """First batch, and memory of a worker that shares nothing with another process."""
    lines = []
    for method in ("fork", "forkserver", "forkserver"):
        before = set(psutil.Process().children(recursive=True))
        begun = time.perf_counter()
        batches = ours(urls, 1, method)
        next(batches)
        seconds = time.perf_counter() - begun
        for _ in range(20):
            next(batches)
        own = [
            process.memory_full_info().uss / 2**20
            for process in set(psutil.Process().children(recursive=True)) - before
        ]
        lines.append(f"| first batch, 1 worker, {method} | {seconds:.2f} s; worker {max(own):.0f} MiB of its own |")
        batches.close()
    return lines


def index_costs(folder: Path) -> list[str]:
    """Scanning shards, and making and seeking in the order of a million and of a hundred million samples."""
    write_shards(folder, 5, 10_000, lambda: b"\xff\xd8tiny")
    shards = sorted(folder.glob("*.tar"))
    begun = time.process_time()
    indexes = [scan(shard) for shard in shards]
    samples = sum(len(index) for index in indexes)
    million = (time.process_time() - begun) / samples * 1e6
    size = sum(index.places.nbytes + index.keys.nbytes + index.key_stops.nbytes for index in indexes) / samples * 1e6
    lines = [f"| scan headers, per 1e6 samples of 3 members, once | {million:.1f} CPU-s; {size / 2**20:.0f} MiB |"]
    for count in (10**6, 10**8):
        begun = time.process_time()
        arrangement = BlockShuffle().arrange([10_000] * (count // 10_000), 0)
        arrangement.indices(0, 0, 1)
        lines.append(f"| order of an epoch of {count:.0e} samples | {1e3 * (time.process_time() - begun):.0f} ms |")
        for place in (0.0, 0.5, 0.99):
            start = int(place * count) // BATCH * BATCH + 100_000 * (place == 0)
            begun = time.process_time()
            arrangement.indices(0, start, start + BATCH)
            lines.append(f"| seek to {place:.0%} of {count:.0e} | {1e3 * (time.process_time() - begun):.1f} ms |")
    return lines


def main() -> None:
    """Print the tables of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark_data"), help="where the shards are made")
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=10, help="per round")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    urls = write_shards(arguments.folder / "photos", 8, arguments.samples // 8, Photos(0))
    sizes = [len(TarShards(urls)[index]["image"]) for index in range(0, arguments.samples, 17)]  # pyright: ignore
    print(f"{arguments.samples} JPEGs, mean {statistics.mean(sizes) / 1e3:.0f} KB; batch {BATCH}\n")
    print("| workers | batch | images / CPU-s | x | images / s | x |\n|---|---|---|---|---|---|")
    for workers in arguments.workers:
        print("\n".join(compare(urls, workers, arguments.rounds, arguments.batches)), flush=True)
    print("\n| cost | measured |\n|---|---|")
    print("\n".join(worker_costs(urls) + index_costs(arguments.folder / "tiny")))


if __name__ == "__main__":
    main()
