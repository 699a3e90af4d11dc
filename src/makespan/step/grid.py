"""Many layouts on an open grid: columns of different, mutually broadcastable shapes, through the formulas of `evaluate`.

NumPy works every term out on the axes that it depends on, and no others: a layer's time once for all pipelines and data
sizes, gradient traffic once for all micro-batches and recompute policies. Only the last sums run over every layout. The
digits are those of `evaluate`, because the operations are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from makespan.rows import maximum, minimum, some, where
from makespan.specs.hardware import ClusterSpec, FrameworkProfile
from makespan.specs.layout import LayoutStatus, Offload, Sharding
from makespan.specs.model import ModelSpec
from makespan.specs.training import StepConfig
from makespan.step import legality
from makespan.step.arrays import BoolArray, FloatArray, IntArray, LayoutArrays
from makespan.step.data_parallel import DataParallelTimes, update_s
from makespan.step.evaluate import (
    Batch,
    Cells,
    LayerTable,
    all_layers,
    batch_of,
    cells_of,
    data_parallel_of,
    layer_table,
    pipe_traffic_s,
)
from makespan.step.features import KEYS, OF_DP, OF_SHARDING, lacking
from makespan.step.memory import StageLoad, memory_bytes, stage_loads, with_optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChoice:
    """How parameters and their state are split over data-parallel ranks, and whether the optimizer's lives on the host."""

    sharding: Sharding = Sharding.ZERO1
    shard_size: int = 0
    offload_optimizer: bool = False

    def applied(self, layouts: LayoutArrays) -> LayoutArrays:
        """The layouts with this choice; their offloading of activations stays."""
        values: dict[str, object] = {
            "sharding": int(self.sharding),
            "shard_size": self.shard_size,
            "offload": layouts.offload | (int(Offload.OPTIMIZER) if self.offload_optimizer else 0),
        }
        return replace(layouts, **values)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GridAnswer:
    """The layouts of a grid under one `StateChoice`; every array broadcasts to the grid's shape.

    layouts : with the choice filled in.   time_s, memory_bytes : meaningless where a rule is broken (`Grid.status_under`).
    """

    layouts: LayoutArrays
    time_s: FloatArray
    memory_bytes: FloatArray
    optimizer_s: FloatArray


class Grid:
    """An open grid of layouts, worked out as far as sharding does not matter; `under` gives the rest for one `StateChoice`.

    Parameters
    ----------
    layouts : columns are plain integers or arrays that broadcast together. Sharding, its group size and the offloading of
        the optimizer are those of the choices.
    table : layer times of the layouts where they are known (`evaluate.flat_table`).
    fewest : makes the grid one of lower bounds, for every dp from this up to that of the layouts: see `floor_under`.
    """

    def __init__(
        self,
        model: ModelSpec,
        config: StepConfig,
        cluster: ClusterSpec,
        profile: FrameworkProfile,
        layouts: LayoutArrays,
        *,
        table: LayerTable | None = None,
        fewest: IntArray | None = None,
    ) -> None:
        self.model, self.cluster, self.profile, self.layouts = model, cluster, profile, layouts
        self.config = with_optimizer(config, profile)
        with np.errstate(all="ignore"):  # combinations that break a rule have no meaning
            if table is None:
                table = layer_table(model, self.config, cluster, profile, layouts)
            self.cells: Cells = cells_of(model, layouts, table)
            hop: FloatArray | None = None
            if fewest is not None:
                near = pipe_traffic_s(model, self.config, cluster, replace(layouts, dp=fewest))
                hop = minimum(near, pipe_traffic_s(model, self.config, cluster, layouts))
            self.fewest = fewest
            self.longer: FloatArray | float = 1.0
            self._data: dict[tuple[Sharding, int], DataParallelTimes] = {}
            self.batch: Batch = batch_of(model, self.config, cluster, profile, layouts, self.cells, hop_s=hop)
            if fewest is not None:
                self.batch = self._least_of(self.batch, replace(layouts, dp=fewest), hop)
            self.loads: tuple[StageLoad, ...] = stage_loads(
                model, self.config, profile, layouts, self.cells.plan, self.batch.count, least=fewest is not None
            )

    def _least_of(self, batch: Batch, narrow: LayoutArrays, hop: FloatArray | None) -> Batch:
        """A batch at the grid's dp, with what may be less beside its slots where dp is less and micro-batches are more.

        The bubble of other schedules than 1F1B shrinks while micro-batches are few, and so does what FSDP in groups shows
        of summing gradients over the groups: that is done once a step, and hides behind all backward passes.
        """
        if some(self.layouts.schedule):
            args = (self.model, self.config, self.cluster, self.profile, narrow, self.cells)
            less = maximum(batch.bubble - batch_of(*args, hop_s=hop).bubble, 0.0)
            batch = replace(batch, before_data_s=batch.before_data_s - less)
        count = narrow.num_micro_batches(self.config.global_batch)
        self.longer = where(self.layouts.pp == 1, count / batch.count, 1.0)
        return batch

    def breaks_no_rule(self) -> BoolArray | bool:
        """Where no rule is broken of those that neither dp nor the choice of sharding decides alone."""
        broken: Any = False
        keys = [key for key in KEYS if key not in OF_SHARDING and key not in OF_DP]
        rules = [mask for _, mask in legality.rules(self.model, self.config, self.cluster, self.layouts)]
        for mask in (*rules, *lacking(self.model, self.config, self.profile, self.layouts, keys=keys).values()):
            if some(mask):
                broken = broken | mask
        whole: BoolArray = np.logical_not(broken)
        return whole

    def floor_under(self, choice: StateChoice) -> tuple[FloatArray, FloatArray]:
        """What no dp from `fewest` up to the grid's own goes below: step time without jitter, and memory. [s], [B]

        The largest dp has the fewest micro-batches, the finest cut states and the quickest update; the smallest the least
        data-parallel traffic. With fewer micro-batches no layout holds more. The time less the slots of the fewest
        micro-batches is also the least that any of these dp has beside its own slots (`_least_of`).
        """
        assert self.fewest is not None
        layouts = choice.applied(self.layouts)
        model, config, profile = self.model, self.config, self.profile
        with np.errstate(all="ignore"):
            exposed = self._data_under(choice, replace(layouts, dp=self.fewest)).exposed_s
            update = update_s(config, self.cluster, layouts, self.cells.state)
            needs = memory_bytes(model, config, profile, layouts, self.cells.state, self.loads).total_bytes
        return self.batch.before_data_s + exposed + update, needs

    def _data_under(self, choice: StateChoice, layouts: LayoutArrays) -> DataParallelTimes:
        """Data parallelism under a choice: the same wherever the optimizer's state lives, apart from its update."""
        key = (choice.sharding, choice.shard_size)
        if key not in self._data:
            batch = self.batch
            if self.fewest is not None and choice.shard_size:
                batch = replace(
                    batch, forward_s=batch.forward_s * self.longer, backward_s=batch.backward_s * self.longer
                )
            self._data[key] = data_parallel_of(
                self.model, self.config, self.cluster, self.profile, layouts, self.cells, batch
            )
        return self._data[key]

    def breaks_under(self, choice: StateChoice) -> tuple[BoolArray | bool, BoolArray | bool]:
        """What only sharding and dp decide: whether a rule is broken; whether the software lacks it."""
        layouts = choice.applied(self.layouts)
        broken: Any = False
        if choice.shard_size:
            broken = ((layouts.cp * layouts.dp) % choice.shard_size != 0) | (choice.sharding is not Sharding.ZERO3)
        if choice.offload_optimizer and self.cluster.accelerator.host_bytes_per_s <= 0.0:
            broken = True
        lacks: Any = False
        for mask in lacking(self.model, self.config, self.profile, layouts, keys=(*OF_SHARDING, *OF_DP)).values():
            if some(mask):
                lacks = lacks | mask
        return broken, lacks

    def status_under(self, choice: StateChoice) -> IntArray:
        """Codes of `LayoutStatus`: the first rule that is broken; OUT_OF_MEMORY not looked at."""
        layouts = choice.applied(self.layouts)
        status = legality.structural_status(self.model, self.config, self.cluster, layouts)
        for mask in lacking(self.model, self.config, self.profile, layouts).values():
            status = np.where((status == 0) & mask, int(LayoutStatus.NOT_SUPPORTED), status)
        return status

    def under(self, choice: StateChoice) -> GridAnswer:
        """Time and memory with parameters and their state split in one way."""
        layouts = choice.applied(self.layouts)
        with np.errstate(all="ignore"):
            exposed = self._data_under(choice, layouts).exposed_s
            update = update_s(self.config, self.cluster, layouts, self.cells.state)
            quiet = self.batch.before_data_s + exposed + update
            return GridAnswer(
                layouts=layouts,
                time_s=quiet * self.batch.factor,
                memory_bytes=memory_bytes(
                    self.model, self.config, self.profile, layouts, self.cells.state, self.loads
                ).total_bytes,
                optimizer_s=update,
            )

    @property
    def working_s(self) -> FloatArray:
        """Time in which kernels run on the mean rank, the optimizer's apart (`search.objectives.working_s`). [s]"""
        table, layouts = self.cells.table, self.layouts
        layers = table.of_kinds(lambda times: times.kernels_s)
        once = all_layers(self.model, layers, table.rows(table.head.kernels_s))
        micro_batches = self.config.global_batch / (layouts.micro_batch * layouts.dp)
        return micro_batches * once / layouts.pp
