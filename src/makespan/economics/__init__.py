"""What an option costs: rent under contract, capital, power and running cost; and what of it one run is charged."""

from __future__ import annotations

from makespan.economics.capital import straight_line
from makespan.economics.cash import month_edges_s, present_value_usd
from makespan.economics.cost import COST_LINES, cost_of

__all__ = ["COST_LINES", "cost_of", "month_edges_s", "present_value_usd", "straight_line"]
