"""Edits of pictures: ``/v1/images/edits``, with forms as OpenAI's clients send them."""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import Response
from torch import Tensor

from unistep.editing.task import OPTIONS, EditOptions, Task
from unistep.generation.editing import STEPS, make_task, tasks
from unistep.serving.api.errors import APIError
from unistep.serving.api.images import RAW, answer
from unistep.serving.api.routing import caller_of, check_count, model_of, note, service_of, while_there, words_of
from unistep.serving.api.schemas import SEED
from unistep.serving.pool import Served
from unistep.serving.service import Asked, Service

router = APIRouter()

FILES = ("PNG", "JPEG", "WEBP")
"""Formats of pictures that are read."""
_SIZE, _PLACE = r"[0-9]{1,2}(\.[0-9]{1,3})?", r"-?[0-9]{1,6}(\.[0-9]{1,6})?"
_RANGES = rf"(ellipse:)?{_PLACE}(,{_PLACE}){{3}}|({_PLACE}s?)?:({_PLACE}s?)?"
_MASK = rf"left|right|top|bottom|center|random:0\.[0-9]{{1,6}}|{_RANGES}"
TEXTS = {
    "border": r"[0-9]{1,5}(,[0-9]{1,5}){0,3}",
    "kernel": rf"(gaussian|box):{_SIZE}|motion:{_SIZE}:{_PLACE}",
    "mask": rf"({_MASK})(\+({_MASK})){{0,15}}",
}
"""What texts of options look like from strangers: none is read as the name of a file, or makes a huge kernel."""
HERE = tuple(option for option in OPTIONS if option not in ("operator", "mask", "kernel"))
"""Options of tasks that a form may have in ``options``, beside a kernel by its words."""


@router.post("/v1/images/edits", responses=RAW, response_model=None)
async def edits(
    request: Request,
    image: Annotated[UploadFile | None, File()] = None,
    images: Annotated[list[UploadFile] | None, File(alias="image[]")] = None,
    mask: Annotated[UploadFile | None, File()] = None,
    model: Annotated[str | None, Form(max_length=200)] = None,
    prompt: Annotated[str, Form(max_length=20_000)] = "",
    task: Annotated[str | None, Form(max_length=50)] = None,
    n: Annotated[int, Form(ge=1, le=1000)] = 1,
    seed: Annotated[int | None, Form(ge=0, le=SEED)] = None,
    num_inference_steps: Annotated[int | None, Form(ge=1, le=1000)] = None,
    guidance_scale: Annotated[float | None, Form(ge=-100, le=100, allow_inf_nan=False)] = None,
    strength: Annotated[float | None, Form(gt=0, le=1)] = None,
    condition: Annotated[str, Form(max_length=20_000)] = "",
    options: Annotated[str, Form(max_length=20_000)] = "",
    size: Annotated[str | None, Form(max_length=20)] = None,
    output_format: Annotated[Literal["png", "jpeg", "webp"], Form()] = "png",
    output_compression: Annotated[int | None, Form(ge=0, le=100)] = None,
    response_format: Annotated[Literal["b64_json"], Form()] = "b64_json",
    user: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    """Edit a picture: fill a mask by default, or any other task of `unistep edit`."""
    del size, response_format, user
    service = service_of(request)
    unknown = set((await request.form()).keys()) - KNOWN
    if unknown:
        raise APIError(400, f"there is no field {sorted(unknown)[0][:60]!r} here", code="unknown_field")
    name = model_of(service, model, "image", streams=False)
    check_count(service, n)
    files = [one for one in (image, *(images or [])) if one is not None]
    if not files:
        raise APIError(400, "image is missing: the picture to edit", param="image", code="missing")
    given = words_of(service, name, prompt, _object("condition", condition))
    chosen = _object("options", options) | ({} if strength is None else {"strength": strength})
    which = task or ("inpaint" if mask is not None else "vary")
    if which not in tasks():
        raise APIError(
            400, f"there is no task {which!r}; one of {', '.join(tasks())}", param="task", code="unknown_task"
        )
    contents = [await one.read() for one in files]
    cover = None if mask is None else await mask.read()
    note(request, model=name, n=n, task=which)
    steps = STEPS if num_inference_steps is None else num_inference_steps
    if steps > service.settings.limits.steps:
        raise APIError(400, f"at most {service.settings.limits.steps} steps, got {steps}", param="num_inference_steps")
    asked = Asked(
        model=name, items=n, seed=seed, steps=steps, guidance=guidance_scale, condition=given, caller=caller_of(request)
    )

    def prepare(served: Served) -> Callable[[Sequence[int], Mapping[str, Any], Callable[[], bool]], Tensor]:
        work, signals = read_inputs(service, served, which, chosen, contents, cover)

        def run(seeds: Sequence[int], condition: Mapping[str, Any], stop: Callable[[], bool]) -> Tensor:
            x = [one.expand(len(seeds), *one.shape[1:]) for one in signals]
            return served.generator.edit(
                work, x if len(x) > 1 else x[0], steps=steps, seed=list(seeds), guidance=guidance_scale, cancel=stop,
                **condition,
            )  # fmt: skip

        return run

    items = await while_there(request, service.work(asked, f"edit/{which}", steps, prepare))
    return await answer(request, service, items, output_format, output_compression)


KNOWN = {
    "image", "image[]", "mask", "model", "prompt", "task", "n", "seed", "num_inference_steps", "guidance_scale",
    "strength", "condition", "options", "size", "output_format", "output_compression", "response_format", "user",
}  # fmt: skip
"""Fields of the form."""


def _object(name: str, text: str) -> dict[str, Any]:
    """A field of the form that holds a JSON object.

    Raises:
        APIError: If it is none.
    """
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise APIError(400, f"{name} must be a JSON object, got {text[:40]!r}", param=name, code="invalid_json")
    return found


def read_inputs(
    service: Service,
    served: Served,
    name: str,
    given: Mapping[str, Any],
    contents: Sequence[bytes],
    mask: bytes | None,
) -> tuple[Task, list[Tensor]]:
    """The task of a form, and its inputs ``[1, *input_shape]``; in the preparing thread.

    Raises:
        APIError: If a file is no picture, or an option is wrong.
    """
    generator = served.generator
    options = _options(given)
    if mask is not None:
        options["mask"] = read_mask(service, mask, generator.modality.shape[-2:])
    try:
        task = make_task(generator, name, EditOptions(**options))
        shape = tuple(task.input_shape)
        modality = generator.modality
        reader = modality if shape == modality.shape else type(modality).fitted(modality.as_options(), shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise APIError(400, f"{name}: {error}", param="options", code="invalid_value") from None
    if len(contents) != task.inputs:
        raise APIError(400, f"{name} needs {task.inputs} images, got {len(contents)}", param="image", code="missing")
    signals = []
    for content in contents:
        suffix = check_picture(service, content, "image")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"image{suffix}"
            path.write_bytes(content)
            try:
                signals.append(reader.load(path)[None])
            except ValueError as error:
                reason = str(error).replace(str(path), "the image")
                raise APIError(400, reason, param="image", code="invalid_image") from None
    return task, signals


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a task that a stranger may give: numbers and words, and never the name of a file.

    Raises:
        APIError: If one is unknown, or of another type.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        pattern = TEXTS.get(name)
        if name not in (*HERE, "kernel", "mask"):
            raise APIError(400, f"there is no option {name[:40]!r}", param="options", code="unknown_field")
        if value is None:
            continue
        if type(value) not in ((int, float) if pattern is None else (str,)):
            kind = "a number" if pattern is None else "a text"
            raise APIError(400, f"{name} must be {kind}, got {type(value).__name__}", param=name, code="invalid_value")
        if pattern is not None and not re.fullmatch(pattern, value.strip()):
            raise APIError(400, f"{name} has no meaning here: {value[:40]!r}", param=name, code="invalid_value")
        if pattern is None and not abs(value) < 2**31:
            raise APIError(400, f"{name} is too large", param=name, code="invalid_value")
        found[name] = value
    return found


def check_picture(service: Service, content: bytes, param: str) -> str:
    """Refuse what is no picture, or one of too many pixels, before anything of it is decoded.

    Args:
        service: Its limits.
        content: The file.
        param: Which field it was.

    Returns:
        How the name of such a file ends.

    Raises:
        APIError: Saying what is wrong.
    """
    from PIL import Image

    most = service.settings.limits.pixels
    try:
        with Image.open(io.BytesIO(content), formats=FILES) as picture:
            (width, height), kind = picture.size, picture.format
    except Image.DecompressionBombError:
        width, height, kind = most + 1, 1, ""
    except Exception:
        raise APIError(
            400, f"the {param} is no {', '.join(FILES)} file that can be read", param=param, code="invalid_image"
        ) from None
    if width * height > most:
        raise APIError(400, f"the {param} may have {most:,} pixels", param=param, code="image_too_large")
    return {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}[str(kind)]


def read_mask(service: Service, content: bytes, size: tuple[int, ...]) -> Tensor:
    """Where to make a picture anew: where a mask is transparent, or white where it is opaque everywhere.

    Args:
        service: Its limits.
        content: The file.
        size: Height and width that the mask gets.

    Returns:
        Truth values, float32 ``[h, w]``.

    Raises:
        APIError: If it is no picture.
    """
    from PIL import Image

    check_picture(service, content, "mask")
    try:
        picture = Image.open(io.BytesIO(content), formats=FILES).convert("RGBA")
    except Exception:
        raise APIError(400, "the mask cannot be read", param="mask", code="invalid_image") from None
    height, width = size
    small = np.asarray(picture.resize((width, height), Image.Resampling.BOX)).astype(np.float32)
    alpha = small[..., 3]
    chosen = alpha < 128 if alpha.min() < 128 else small[..., :3].mean(axis=-1) > 127
    return torch.from_numpy(chosen.astype(np.float32))
