"""Shards by the workers of a Ray cluster, each of which loads the model once."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unistep.cli.bulk import LOCAL, ModelCall
from unistep.cli.extras import require

if TYPE_CHECKING:
    from unistep.generation.bulk import BulkPlan
    from unistep.provenance import Signing


class ShardWorker:
    """Makes shards by their numbers, for :meth:`ray.data.Dataset.map_batches`.

    Args:
        call: How to load the model.
        plan: What is generated.
        folder: Where shards go, the same place for all machines.
        signing: Signs each file.
    """

    def __init__(self, call: ModelCall, plan: BulkPlan, folder: str, signing: Signing | None) -> None:
        import torch

        from unistep.generation.bulk import Bulk

        torch.set_num_threads(1)
        self._bulk = Bulk(call.load(), plan, Path(folder), signing)
        self._bulk.begin()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Write the shards of a batch that are not there yet."""
        for shard in batch["id"].tolist():
            if not self._bulk.path(shard).exists():
                self._bulk.write(shard)
        return batch


def run_on_ray(
    call: ModelCall,
    plan: BulkPlan,
    folder: Path,
    signing: Signing | None,
    pending: Sequence[int],
    address: str,
    update: Callable[[float], object],
) -> tuple[int, float | None]:
    """Make shards on a cluster.

    Args:
        call: How to load the model.
        plan: What is generated.
        folder: Where shards go, the same place for all machines.
        signing: Signs each file.
        pending: The shards that are missing.
        address: Of the cluster's head, such as ``auto``; ``local`` for this machine alone.
        update: Called with the share that is done.

    Returns:
        How many cores worked, one a worker, and the rate of the bare network on one of them, here.

    Raises:
        ValueError: If Ray is not installed, or there is no such cluster.
    """
    require("ray", "--ray", ("ray", "pyarrow"))
    from unistep.generation.bulk import network_rate

    ray: Any = importlib.import_module("ray")
    importlib.import_module("ray.data")
    # One more than there are: where workers hold every core, Ray Data's own helpers wait for them and they for those.
    os.environ.setdefault("RAY_worker_niceness", "0")  # else workers wait for whatever else the machine does
    here = 1 + (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        ray.init(
            address=None if address == LOCAL else address,
            num_cpus=here if address == LOCAL else None,
            include_dashboard=False if address == LOCAL else None,
            log_to_driver=False,
            logging_level="error",
        )
    except (ConnectionError, ValueError) as error:
        raise ValueError(f"--ray {address}: {str(error).splitlines()[0]}; {LOCAL} is this machine alone") from None
    try:
        cores = max(1, min(int(ray.cluster_resources().get("CPU", 2)) - 1, len(pending)))
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        work = ray.data.from_items([{"id": shard} for shard in pending], override_num_blocks=len(pending))
        made = work.map_batches(
            ShardWorker,
            fn_constructor_args=(replace(call, root=str(Path.cwd())), plan, str(folder.absolute()), signing),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=cores),
            num_cpus=1,
        )
        try:
            for done, _ in enumerate(made.iter_rows(), start=1):
                update(done / len(pending))
        except ray.exceptions.RayError as error:
            raise _cause(error) from None
        calls = plan.steps or 1
        return cores, network_rate(call.load(), min(plan.batch_size, plan.shard_size), calls)
    finally:
        ray.shutdown()


def _cause(error: Any) -> Exception:
    """What went wrong in a worker, as it would have been raised here."""
    while getattr(error, "cause", None) is not None or error.__cause__ is not None:
        error = getattr(error, "cause", None) or error.__cause__
    return error
