"""Starts the servers that are compared, each as processes of its own on 127.0.0.1, and reads what they take."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TOKENIZER = ROOT / "tests" / "data" / "tokenizer" / "byte_level" / "tokenizer.json"
JUDGE = ROOT / "tests" / "differential" / "judge"

MODEL = "llama-3.1-8b"
GPU = "h100"

START_SECONDS = 240
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

_MODEL_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "vocab_size": 32000,
    "torch_dtype": "bfloat16",
}
_TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": 8192,
    "chat_template": "{% for m in messages %}<{{m['role']}}>{{m['content']}}\n{% endfor %}",
}
_PLUGIN = {
    "no_gpu-0.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: no_gpu\nVersion: 0.1\n",
    "no_gpu-0.1.dist-info/entry_points.txt": "[vllm.platform_plugins]\nno_gpu = no_gpu:register\n",
    "paced.py": (
        "import os\nimport no_gpu\n\nno_gpu.STEP_SECONDS = float(os.environ['STEP_SECONDS'])\n\n\n"
        "class PacedExecutor(no_gpu.NoGpuExecutor):\n    pass\n"
    ),
}


class Server(NamedTuple):
    """A server that runs."""

    pid: int
    port: int

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the process and all below it."""
        return sum(map(sum, self._cpu_times()))

    @property
    def kernel_seconds(self) -> float:
        """The part of it that was spent in the kernel; the system tells the two apart by samples."""
        return sum(kernel for _, kernel in self._cpu_times())

    @property
    def resident_kib(self) -> float:
        """Resident memory of the process."""
        text = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        return float(text.partition("VmRSS:")[2].split()[0])

    def page(self, path: str) -> str:
        """Return the body of a page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def _cpu_times(self) -> list[tuple[float, float]]:
        return [_cpu_times(pid) for pid in (self.pid, *_descendants(self.pid))]


@contextlib.contextmanager
def understudy(port: int, *flags: str) -> Iterator[Server]:
    """Run our own server."""
    command = [sys.executable, "-m", "understudy", "serve", MODEL, "--gpu", GPU, "--served-model-name", "m"]
    with _running([*command, "--port", str(port), "--host", "127.0.0.1", *flags], port, {}) as server:
        yield server


@contextlib.contextmanager
def floor(port: int, event_bytes: int, token_seconds: float, tokens_a_write: int = 1) -> Iterator[Server]:
    """Run the server that only writes ready bytes."""
    command = [sys.executable, "-m", "benchmarks.floor_server", "--port", str(port)]
    sizes = ["--event-bytes", str(event_bytes), "--tokens-a-write", str(tokens_a_write)]
    flags = [*sizes, "--token-seconds", str(token_seconds)]
    with _running([*command, *flags], port, {"PYTHONPATH": str(ROOT)}) as server:
        yield server


@contextlib.contextmanager
def guidellm(python: Path, port: int, token_ms: float) -> Iterator[Server]:
    """Run guidellm's mock server; `python` is that of its environment."""
    command = [str(python.parent / "guidellm"), "mock-server", "--host", "127.0.0.1", "--port", str(port)]
    flags = ["--model", "m", "--ttft-ms", str(token_ms), "--itl-ms", str(token_ms)]
    with _running([*command, *flags], port, {}) as server:
        yield server


@contextlib.contextmanager
def vllm(python: Path, port: int, step_seconds: float) -> Iterator[Server]:
    """Run the real `vllm serve` over an executor that sleeps; `python` is that of its environment."""
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder) / "model")
        plugin = Path(folder) / "plugin"
        (plugin / "no_gpu-0.1.dist-info").mkdir(parents=True)
        for name, text in _PLUGIN.items():
            (plugin / name).write_text(text, encoding="utf-8")
        environment = {
            "PYTHONPATH": f"{plugin}:{JUDGE}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_TARGET_DEVICE": "cpu",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_LEVEL": "ERROR",
            "VLLM_USE_V2_MODEL_RUNNER": "1",
            "STEP_SECONDS": str(step_seconds),
        }
        command = [str(python.parent / "vllm"), "serve", str(model), "--served-model-name", "m"]
        flags = ["--enforce-eager", "--disable-uvicorn-access-log", "--max-model-len", "8192"]
        where = ["--host", "127.0.0.1", "--port", str(port)]
        executor = ["--distributed-executor-backend", "paced.PacedExecutor"]
        with _running([*command, *flags, *where, *executor], port, environment) as server:
            yield server


def write_model(folder: Path) -> Path:
    """Make a folder as of a model, without weights; return it."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(_MODEL_CONFIG), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(_TOKENIZER_CONFIG), encoding="utf-8")
    (folder / "tokenizer.json").write_bytes(TOKENIZER.read_bytes())
    return folder


@contextlib.contextmanager
def _running(command: Sequence[str], port: int, environment: Mapping[str, str]) -> Iterator[Server]:
    """Run a command until the block ends; exits where it does not come to serve."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
        try:
            if not _comes_up(process, port):
                log.seek(0)
                sys.exit(f"{command[0]} did not start:\n{log.read().decode(errors='replace')[-4000:]}")
            yield Server(process.pid, port)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _comes_up(process: subprocess.Popen[bytes], port: int) -> bool:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError):
            Server(process.pid, port).page("/health")
            return True
        time.sleep(0.2)
    return False


def _cpu_times(pid: int) -> tuple[float, float]:
    """Return the seconds that a process has spent outside the kernel, and in it."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[11]) / _TICKS_PER_SECOND, int(fields[12]) / _TICKS_PER_SECOND


def _descendants(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += [int(child) for child in (task / "children").read_text(encoding="utf-8").split()]
    return [*children, *(grandchild for child in children for grandchild in _descendants(child))]
