"""The closed form of the pipeline against an event simulation of 1F1B."""

from __future__ import annotations

import numpy as np
import pytest

from makespan.step.pipeline import pipeline_s


def simulate_1f1b(forward: list[float], backward: list[float], num_micro_batches: int) -> float:
    """Run 1F1B with `len(forward)` stages, each a machine that keeps Megatron's order of work; transfers are free. [s]"""
    stages = len(forward)
    orders = []
    for stage in range(stages):
        warm_up = min(stages - stage - 1, num_micro_batches)
        order = [("f", i) for i in range(warm_up)]
        for i in range(num_micro_batches - warm_up):
            order += [("f", warm_up + i), ("b", i)]
        order += [("b", i) for i in range(num_micro_batches - warm_up, num_micro_batches)]
        orders.append(order)
    done: dict[tuple[str, int, int], float] = {}
    clock, position = [0.0] * stages, [0] * stages
    while any(position[s] < len(orders[s]) for s in range(stages)):
        progressed = False
        for s in range(stages):
            while position[s] < len(orders[s]):
                kind, i = orders[s][position[s]]
                before = ("f", s - 1, i) if kind == "f" else ("b", s + 1, i)
                needed = (kind == "f" and s > 0) or (kind == "b" and s < stages - 1)
                if needed and before not in done:
                    break
                start = max(clock[s], done[before] if needed else 0.0)
                clock[s] = start + (forward[s] if kind == "f" else backward[s])
                done[kind, s, i] = clock[s]
                position[s] += 1
                progressed = True
        assert progressed, "the schedule deadlocks"
    return max(clock)


def closed_form(stage_s: list[float], count: int) -> float:
    value = pipeline_s(
        np.array([max(stage_s)]),
        np.array([sum(stage_s)]),
        num_micro_batches=np.array([count]),
        vpp=np.array([1]),
    )
    return float(value[0])


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 8, 16])
@pytest.mark.parametrize("count", [1, 2, 5, 8, 16, 33])
def test_equal_stages_exactly(stages, count):
    simulated = simulate_1f1b([1.0] * stages, [2.0] * stages, count)

    assert closed_form([3.0] * stages, count) == pytest.approx(simulated)


@pytest.mark.parametrize("count", [4, 8, 16, 64])
def test_a_heavy_head_on_the_last_stage(count):
    """The last stage carries the head: everybody waits for it in every slot, but fill and drain do not pay it again."""
    forward, backward = [1.0, 1.0, 1.0, 1.4], [2.0, 2.0, 2.0, 2.8]

    assert closed_form([3.0, 3.0, 3.0, 4.2], count) == pytest.approx(simulate_1f1b(forward, backward, count))


def test_a_light_last_stage_is_bounded_by_the_simulation():
    """With the slow stages in front the form is a little optimistic or exact, never off by more than a slot."""
    forward, backward = [1.0, 1.0, 1.0, 0.5], [2.0, 2.0, 2.0, 1.0]
    simulated = simulate_1f1b(forward, backward, 16)

    assert closed_form([3.0, 3.0, 3.0, 1.5], 16) == pytest.approx(simulated, abs=3.0)


def test_interleaving_divides_the_bubble():
    """D. Narayanan et al., arXiv:2104.04473, section 2.2: (pp - 1) / (vpp n) of the ideal time."""
    slot, everything = np.array([3.0]), np.array([24.0])
    ideal = 16 * 3.0
    for vpp in (1, 2, 4):
        total = pipeline_s(slot, everything, num_micro_batches=np.array([16]), vpp=np.array([vpp]))
        assert total[0] - ideal == pytest.approx(7 / vpp * 3.0)
