"""Learning rates as functions of the step alone, so that a resumed run needs no state of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Exponential decay in two phases (P 3.6), after a linear warm-up.

    base: first learning rate; decay: factor reached by the end of the first phase, which takes main_share of the steps;
    cooldown_start, cooldown_end: the second phase's rates as factors of base.
    """

    base: float = 1e-4
    decay: float = 1 / 3
    main_share: float = 25 / 27
    cooldown_start: float = 1 / 30
    cooldown_end: float = 1 / 100
    warm_up: int = 0

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 0, of a run of so many steps."""
        main_steps = max(1.0, self.main_share * steps)
        if step < main_steps:
            rate = self.base * self.decay ** (step / main_steps)
        else:
            along = (step - main_steps) / max(1.0, steps - main_steps)
            rate = self.base * self.cooldown_start * (self.cooldown_end / self.cooldown_start) ** min(1.0, along)
        return rate * min(1.0, (step + 1) / self.warm_up) if self.warm_up else rate


PAPER = Schedule()
RELEASED = Schedule(base=2.121e-4, main_share=0.92, cooldown_start=1 / 30, cooldown_end=0.3 / 30)
