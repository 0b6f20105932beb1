"""What a config's quantization_config makes of the weights: how many bits they and their scales take.

It knows the methods whose sizes follow from the config; of others the bytes must be stated.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from understudy.catalog.fields import Fields
from understudy.catalog.matrix import Matrix
from understudy.errors import InputError

_LEFT_OUT = re.compile(r"lm_head|embed|norm|router|gate(?!_(up_)?proj)|vision|visual|multi_modal|mtp")
"""Modules that are counted in 16 bits or not at all, whatever the list of exceptions says."""

_LISTS_OF_EXCEPTIONS = ("modules_to_not_convert", "ignored_layers", "ignore", "llm_int8_skip_modules")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """The bits of a weight, and of the scale and zero point that `group_inputs x group_outputs` weights share.

    A group without a size spans the whole matrix that way. All matrices of the layers are quantised, or, with
    `experts_only`, those of experts; embedding, output, routers, norms and biases are not. `computes_in_fp8` says that
    activations are multiplied in FP8 too.
    """

    weight_bits: int
    group_bits: int
    group_inputs: int | None = None
    group_outputs: int | None = None
    experts_only: bool = False
    computes_in_fp8: bool = False

    def matrix_bytes(self, matrix: Matrix) -> int:
        """Return the bytes of quantised matrices."""
        groups = -(-matrix.inputs // (self.group_inputs or matrix.inputs))
        groups *= -(-matrix.outputs // (self.group_outputs or matrix.outputs))
        bits = matrix.inputs * matrix.outputs * self.weight_bits + groups * self.group_bits
        return matrix.count * (-(-bits // 8))


def quantisation_of(config: Fields) -> Quantisation | None:
    """Return the quantisation of a config; None for weights in 16 bits, and for a method of which no size follows.

    Raises InputError for the latter too, unless the config has a weight_bytes.
    """
    if not config.has("quantization_config"):
        return None
    part = config.part("quantization_config")
    method = part.text("quant_method")
    is_stated = config.has("weight_bytes")
    try:
        if method not in _METHODS:
            raise part.complaint("quant_method", f"must be one of {', '.join(_METHODS)}", method)
        return _METHODS[method](part)
    except InputError as error:
        if is_stated:
            return None
        raise InputError(
            f"{error}; else give a weight_bytes beside quantization_config, the bytes of the checkpoint "
            "(metadata.total_size in its model.safetensors.index.json)"
        ) from None


def exceptions_note(config: Fields) -> str | None:
    """Return a sentence on layers that the checkpoint leaves in 16 bits but `Quantisation` counts as quantised."""
    if not config.has("quantization_config") or config.has("weight_bytes"):
        return None
    part = config.part("quantization_config")
    if part.text("quant_method") == "mxfp4":
        return None
    names = [name for key in _LISTS_OF_EXCEPTIONS for name in part.texts(key) if not _LEFT_OUT.search(name)]
    if not names:
        return None
    return (
        f"The checkpoint leaves layers unquantised, such as {names[0]}, that are counted as quantised: the weights take "
        "more than stated."
    )


def _integers(part: Fields) -> Quantisation:
    """AWQ and GPTQ: for each group of inputs and each output a float16 scale and a zero point of a weight's bits."""
    bits = part.whole("bits", "w_bit", least=2, most=8)
    size = part.whole("group_size", "q_group_size", least=-1)
    if size == 0:
        raise part.complaint("group_size", "must be -1 or above 0", size)
    return Quantisation(
        weight_bits=bits,
        group_bits=16 + bits,
        group_inputs=None if size < 0 else size,
        group_outputs=1,
    )


def _fp8(part: Fields) -> Quantisation:
    """FP8 with a float32 scale for each block, or for each matrix."""
    rows, columns = _block(part, "weight_block_size") if part.has("weight_block_size") else (None, None)
    return Quantisation(
        weight_bits=8, group_bits=32, group_inputs=columns, group_outputs=rows, computes_in_fp8=True
    )


def _mxfp4(_part: Fields) -> Quantisation:
    """OCP's MXFP4, as gpt-oss has it: an 8-bit scale for 32 weights, of experts only."""
    return Quantisation(weight_bits=4, group_bits=8, group_inputs=32, group_outputs=1, experts_only=True)


def _bitsandbytes(part: Fields) -> Quantisation:
    """Four bits with a float32 for 64 weights, as vLLM unpacks doubly quantised ones; or eight with one for a row."""
    if part.flag("load_in_4bit", default=False):
        return Quantisation(weight_bits=4, group_bits=32, group_inputs=64, group_outputs=1)
    if part.flag("load_in_8bit", default=False):
        return Quantisation(weight_bits=8, group_bits=32, group_outputs=1)
    raise part.complaint("load_in_4bit", "or load_in_8bit must be true", value=False)


def _compressed_tensors(part: Fields) -> Quantisation:
    """One group of settings for all linear layers; more than one is not understood."""
    groups = part.part("config_groups").parts()
    if len(groups) != 1 or groups[0].texts("targets") != ["Linear"]:
        raise InputError(f"{part.origin}: config_groups must hold one group, whose targets are Linear")
    weights = groups[0].part("weights")
    bits = weights.whole("num_bits", least=2, most=16)
    is_float = weights.text("type", default="int") == "float"
    inputs, outputs = _shared_scale(weights)
    zero_bits = 0 if weights.flag("symmetric", default=True) else bits
    # Small floats have small scales: MXFP4's are powers of two, NVFP4's are FP8.
    scale_bits = 8 if is_float and bits == 4 else 16
    return Quantisation(
        weight_bits=bits,
        group_bits=scale_bits + zero_bits,
        group_inputs=inputs,
        group_outputs=outputs,
        computes_in_fp8=is_float and bits == 8 and groups[0].has("input_activations"),
    )


def _shared_scale(weights: Fields) -> tuple[int | None, int | None]:
    """Return the inputs and outputs of the weights that share a scale."""
    strategy = weights.text("strategy")
    match strategy:
        case "tensor":
            return None, None
        case "channel":
            return None, 1
        case "group" | "tensor_group":
            return weights.whole("group_size"), 1
        case "block":
            rows, columns = _block(weights, "block_structure")
            return columns, rows
        case _:
            known = "tensor, channel, group, tensor_group or block"
            raise weights.complaint("strategy", f"must be {known}", strategy)


def _block(part: Fields, key: str) -> tuple[int, int]:
    sizes = part.wholes(key)
    if len(sizes) != 2 or 0 in sizes:
        raise part.complaint(key, "must be two numbers above 0", sizes)
    rows, columns = sizes
    return rows, columns


_METHODS: Mapping[str, Callable[[Fields], Quantisation]] = MappingProxyType(
    {
        "awq": _integers,
        "bitsandbytes": _bitsandbytes,
        "compressed-tensors": _compressed_tensors,
        "fbgemm_fp8": _fp8,
        "fp8": _fp8,
        "gptq": _integers,
        "mxfp4": _mxfp4,
    }
)
