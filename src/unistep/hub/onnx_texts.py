"""Text encoders as ONNX files, with what turns a text into their numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from unistep.backends.base import BackendError
from unistep.backends.onnx_files import export
from unistep.backends.onnx_runtime import session_of
from unistep.core.text_fields import TextField
from unistep.files import replacing, write_text
from unistep.hub.onnx import TOLERANCE, ExportPrecision, arrays, difference, halve
from unistep.text.encoder import load_text_encoder

if TYPE_CHECKING:
    from unistep.generation.generator import Generator
    from unistep.text.encoder import TextProgram


def export_texts(generator: Generator, path: Path, precision: ExportPrecision) -> list[Path]:
    """Write the text encoder of a model beside the model's file, where it takes texts.

    Args:
        generator: The model.
        path: The model's file, such as ``emoji.onnx``; the others are then ``emoji-text.onnx`` and
            ``emoji-tokenizer.json``.
        precision: That of the model; an encoder has no 8-bit form, and is stored in half precision instead.

    Returns:
        The files.
    """
    for spec in generator.config.fields.values():
        if isinstance(spec, TextField):
            program = load_text_encoder(spec.encoder).program()
            network = path.with_name(f"{path.stem}-text.onnx")
            tokenizer = path.with_name(f"{path.stem}-tokenizer.json")
            export_text(program, network, "fp32" if precision == "fp32" else "fp16")
            try:
                write_text(tokenizer, json.dumps(dict(program.tokenizer), ensure_ascii=False))
            except BaseException:
                network.unlink(missing_ok=True)
                raise
            return [network, tokenizer]
    return []


def export_text(program: TextProgram, path: Path, precision: Literal["fp32", "fp16"] = "fp32") -> None:
    """Write the network of a text encoder as an ONNX file, once ONNX Runtime has computed the same with it.

    Args:
        program: The encoder.
        path: The file.
        precision: How weights are stored.

    Raises:
        ValueError: If it cannot be exported, or the file computes something else.
    """
    ids = torch.arange(1000, 1012) * 2
    network = program.network.eval()
    with replacing(path) as temporary:
        export(network, {"ids": ids}, [{0: "tokens"}], temporary, ("vectors",), rows=None)
        if precision == "fp16":
            halve(temporary)
        with torch.inference_mode():
            session = session_of(temporary, torch.get_num_threads())
            for length in (3, len(ids)):
                (found,) = session.run(None, arrays({"ids": ids[:length]}))
                apart = difference(torch.from_numpy(found), network(ids[:length]))
                if precision == "fp32" and not apart <= TOLERANCE:
                    raise BackendError(f"{path} is not written: it would differ from PyTorch by {apart:.1e}")
